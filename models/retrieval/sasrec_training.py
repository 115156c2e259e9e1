"""SASRec's training: dense over the moments of each history, by the whole catalogue or by sampled negatives."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import checkpoint
from models.baselines import popularity
from models.compress.soft import Vectors, soft_items
from models.data.dataset import Dataset
from models.distributed import BatchLoss, own_rows
from models.fitting import Fit, fit_steps
from models.hardware import device_of, placed
from models.item_features import item_features
from models.losses import bce, full_softmax, gbce, sampled_softmax, widened
from models.options import SasRecOptions
from models.positives import Positives
from models.retrieval.batches import HistoryWindows
from models.retrieval.sasrec import ItemInputs, SasRec, SasRecConfig
from models.run_log import RunLog
from models.sampling import Proposal, negatives


def build(dataset: Dataset, options: SasRecOptions, until_ms: int, seed: int) -> SasRec:
    """An untrained model whose item popularity is as of until_ms."""
    past = dataset.interactions.before(until_ms)
    log_popularity = np.log(popularity(past, dataset.num_items, until_ms) + 0.5)
    centred = torch.from_numpy(log_popularity - log_popularity.mean()).float()
    inputs = ItemInputs(item_features(dataset), centred)
    config = SasRecConfig(
        options.dim,
        options.layers,
        options.heads,
        options.history_length,
        options.dropout,
        options.id_dropout,
        options.feed_units,
    )
    torch.manual_seed(seed)
    return SasRec(inputs, config)


class TaughtItems(NamedTuple):
    """What a teacher of the same catalogue says of the items a user goes on to.  weight: of its part of the loss; the
    model's own has the rest."""

    teacher: SasRec
    weight: float
    temperature: float


def fit(dataset: Dataset, options: SasRecOptions, run: Fit, log: RunLog, taught: TaughtItems | None = None) -> SasRec:
    """The model with the weights that validated best, in evaluation mode."""
    model = build(dataset, options, run.until_ms, run.seed)
    if run.weights is not None:
        checkpoint.set_weights(model, run.weights)
    fit_steps(model, make_task(dataset, model, options, run, taught), options, run, log)
    return model


def make_task(
    dataset: Dataset, model: SasRec, options: SasRecOptions, run: Fit, taught: TaughtItems | None = None
) -> "SasRecTask":
    past = dataset.interactions.before(run.until_ms)
    windows = HistoryWindows(past, options.history_length, options.horizon_days, options.repeat_weight)
    sold = popularity(past, dataset.num_items, run.until_ms)
    proposal = Proposal.of_popularity(sold, options.negatives_power)
    users, items = past.user_index.astype(np.int64), past.item_index.astype(np.int64)
    positives = Positives.of(users, items, dataset.num_users, dataset.num_items)
    return SasRecTask(model, windows, proposal, positives, options, run.seed, taught)


class SasRecTask:
    """What `options.moments` usable moments of each history went on to, by the loss that the options name.

    The sampled softmax has negatives shared by all moments of a step, whoever took them, since it knows what they were
    proposed with. bce and gbce take items for true negatives: theirs are drawn for each history and are never a
    positive of its user, at any time.
    """

    def __init__(
        self,
        model: SasRec,
        windows: HistoryWindows,
        proposal: Proposal,
        positives: Positives,
        options: SasRecOptions,
        seed: int,
        taught: TaughtItems | None = None,
    ) -> None:
        self._model, self._windows, self._options = model, windows, options
        self._proposal, self._positives = proposal, positives
        self._seed, self._taught = seed, taught
        self._epoch = -1
        self.num_batches = -(-len(windows) // options.batch_size)

    def loss(self, epoch: int, number: int, rng: np.random.Generator) -> BatchLoss:
        if epoch != self._epoch:
            order = np.random.default_rng([self._seed, epoch])
            self._epoch, self._ends = epoch, self._windows.epoch(self._options.batch_size, order)
        ends = self._ends[number]
        rows = own_rows(len(ends))
        batch = self._windows.batch(ends, rng, rows)
        priority = rng.random((len(ends), batch.weights.shape[1]))[rows]
        priority = np.where(batch.weights > 0, priority, -1.0)
        chosen = np.argsort(-priority, axis=1)[:, : self._options.moments]
        device = device_of(self._model)
        moments, targets, weights = (
            placed(np.take_along_axis(array, chosen, 1), device)
            for array in (batch.set_ordinal, batch.targets, batch.weights)
        )  # [B, q]
        history, ordinal = placed(batch.history, device), placed(batch.set_ordinal, device)
        vectors = self._model.user_vectors(history, ordinal, moments)  # [B, q, d]
        asked, usable = vectors, weights > 0
        if self._options.loss in ("bce", "gbce"):
            some, drawn = self._negatives(self._windows.users(ends), rng)
            vectors, targets, weights = (array[placed(some[rows], device)] for array in (vectors, targets, weights))
            loss = self._binary(vectors, targets, weights, drawn[np.cumsum(some)[rows][some[rows]] - 1])
        else:
            loss = self._softmax(vectors[usable], targets[usable], weights[usable], rng)
        if self._taught is not None:
            with torch.no_grad():
                told = self._taught.teacher.to(device).user_vectors(history, ordinal, moments)[usable]
            loss = self._mixed(loss, asked[usable], told, self._taught, rng)
        return BatchLoss(loss, float(weights.sum()))

    def _mixed(
        self, hard: Tensor, vectors: Tensor, told: Tensor, taught: TaughtItems, rng: np.random.Generator
    ) -> Tensor:
        """hard: the loss of the targets.  vectors [n, d], told [n, e]: the model's and the teacher's, of moments."""
        if not len(vectors):
            return hard
        drawn, log_proposal = None, None
        if self._options.loss != "softmax":
            drawn = placed(self._proposal.draw(self._options.negatives, rng), vectors.device)
            log_proposal = placed(self._proposal.log_probability, vectors.device)[drawn]
        own, others = (
            model.item_vectors() if drawn is None else model.items(drawn) for model in (self._model, taught.teacher)
        )
        both = Vectors(vectors, own), Vectors(told, others.detach())
        soft = soft_items(*both, taught.temperature, log_proposal)
        return (1.0 - taught.weight) * hard + taught.weight * soft

    def _negatives(
        self, users: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Who of the users [B] has negatives, which who has every item has not, and theirs, int64 [b, k]."""
        some = self._positives.counts[users] < self._positives.num_items
        return some, negatives(users[some], self._options.negatives, self._proposal, self._positives, rng)

    def _softmax(self, vectors: Tensor, targets: Tensor, weights: Tensor, rng: np.random.Generator) -> Tensor:
        """vectors [n, d], targets int64 [n], weights [n]: of moments."""
        model = self._model
        if self._options.loss == "softmax":
            return full_softmax(vectors, targets, model.item_vectors(), weights)
        drawn = placed(self._proposal.draw(self._options.negatives, rng), vectors.device)
        return sampled_softmax(
            vectors,
            targets,
            model.items(targets),
            drawn,
            model.items(drawn),
            placed(self._proposal.log_probability, vectors.device),
            weights,
        )

    def _binary(self, vectors: Tensor, targets: Tensor, weights: Tensor, drawn: NDArray[np.int64]) -> Tensor:
        """vectors [b, q, d], targets int64 [b, q], weights [b, q], drawn int64 [b, k]."""
        options, usable = self._options, weights > 0
        positive_logits = (vectors * self._model.items(targets)).sum(-1)[usable]
        others = self._model.items(placed(drawn, vectors.device))
        negative_logits = widened(vectors @ others.transpose(1, 2))[usable]  # [n, k]
        if options.loss == "bce":
            return bce(positive_logits, negative_logits, weights[usable])
        calibration = options.gbce_calibration
        return gbce(positive_logits, negative_logits, self._positives.num_items, calibration, weights[usable])
