"""Training of the two towers: each moment's item against the items of the batch's other moments."""

import numpy as np
import torch
from numpy.typing import NDArray

from models import checkpoint
from models.contract.features import USER_NUMERIC
from models.data.dataset import Dataset, Interactions
from models.distributed import BatchLoss, own_rows
from models.fitting import Fit, fit_steps
from models.hardware import device_of, placed
from models.item_features import item_features
from models.losses import in_batch_softmax
from models.options import TwoTowerOptions
from models.positives import Positives
from models.retrieval.moments import UserMoments
from models.retrieval.two_tower import TwoTower, TwoTowerConfig, UserInputs
from models.run_log import RunLog
from models.sampling import accidental_positives

CONTEXT_KEPT = 0.5  # a request may not bring its context, so half of the moments do without
FEATURES_KEPT = 0.9  # a user may be unknown, or their features expired


def build(dataset: Dataset, options: TwoTowerOptions, until_ms: int, seed: int) -> TwoTower:
    """An untrained model; no table of it depends on until_ms."""
    schema = dataset.schema
    known = [*schema.categorical("user"), *schema.context_features]
    users = UserInputs(
        # not the user's id: who is not in the data is served the same way, and no user has to be erased from the model
        {column: feature.size for column, feature in enumerate(known) if not feature.is_id},
        skipped=len(USER_NUMERIC),
        numeric=len(schema.numeric("user")),
    )
    config = TwoTowerConfig(
        options.dim,
        tuple(options.hidden),
        options.history_length,
        options.dropout,
        options.id_dropout,
        options.temperature,
    )
    torch.manual_seed(seed)
    return TwoTower(item_features(dataset), users, config)


def fit(dataset: Dataset, options: TwoTowerOptions, run: Fit, log: RunLog) -> TwoTower:
    """The model with the weights that validated best, in evaluation mode."""
    model = build(dataset, options, run.until_ms, run.seed)
    if run.weights is not None:
        checkpoint.set_weights(model, run.weights)
    task = TwoTowerTask(model, dataset, dataset.interactions.before(run.until_ms), options, run.seed)
    fit_steps(model, task, options, run, log)
    return model


class TwoTowerTask:
    def __init__(
        self, model: TwoTower, dataset: Dataset, past: Interactions, options: TwoTowerOptions, seed: int
    ) -> None:
        self._model, self._options, self._seed = model, options, seed
        self._moments = UserMoments(
            past,
            options.history_length,
            np.random.default_rng(seed),
            options.horizon_days,
            options.repeat_weight,
        )
        self._features = MomentFeatures(dataset, past)
        self._users = past.user_index
        self._positives = Positives.of(
            past.user_index.astype(np.int64), past.item_index.astype(np.int64), dataset.num_users, dataset.num_items
        )
        with np.errstate(divide="ignore"):  # an item that is nobody's target is in no batch
            self._log_share = np.log(self._moments.target_share(dataset.num_items)).astype(np.float32)
        self._epoch = -1
        self.num_batches = -(-len(self._moments) // options.batch_size)

    def loss(self, epoch: int, number: int, rng: np.random.Generator) -> BatchLoss:
        if epoch != self._epoch:
            order = np.random.default_rng([self._seed, epoch])
            self._epoch, self._batches = epoch, self._moments.epoch(self._options.batch_size, order)
        batch = self._moments.batch(self._batches[number], rng)
        features = self._features.partly_hidden(batch.rows, rng)
        rows = own_rows(len(batch.rows))  # of the users; their items stand against all of the batch
        device = device_of(self._model)
        inputs = (placed(array[rows], device) for array in (batch.history, batch.set_ordinal, *features))
        known = accidental_positives(self._users[batch.rows[rows]].astype(np.int64), batch.targets, self._positives)
        loss = in_batch_softmax(
            self._model(*inputs),
            self._model.items(placed(batch.targets, device)),
            placed(self._log_share[batch.targets], device),
            placed(known, device),
            placed(batch.weights[rows], device),
            first=rows.start,
        )
        return BatchLoss(loss, float(batch.weights[rows].sum()))


class MomentFeatures:
    """What `models.contract.features.user_features` gives for the users at moments, as far as the tower reads it: the
    static features, and the context of the interaction. The columns that the tower skips are left at zero."""

    def __init__(self, dataset: Dataset, past: Interactions) -> None:
        self._users = past.user_index
        self._categorical = dataset.user_categorical
        self._numeric = dataset.user_numeric
        context = [past.context[feature.name] for feature in dataset.schema.context_features]
        self._context = np.stack(context, 1) if context else np.empty((len(past), 0), np.int64)

    def of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """user_categorical int64 [B, Fu], user_numeric float32 [B, Gu] of the interactions at these rows."""
        users = self._users[rows]
        categorical = np.concatenate([self._categorical[users], self._context[rows]], 1)
        moving = np.zeros((len(rows), len(USER_NUMERIC)), np.float32)
        return categorical.astype(np.int64), np.concatenate([moving, self._numeric[users]], 1)

    def partly_hidden(
        self, rows: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The same, some rows without the user's features and some without the context: as missing, 0."""
        categorical, numeric = self.of(rows)
        known, told = (rng.random((len(rows), 1)) < share for share in (FEATURES_KEPT, CONTEXT_KEPT))
        static = self._categorical.shape[1]
        return np.concatenate([categorical[:, :static] * known, categorical[:, static:] * told], 1), numeric * known
