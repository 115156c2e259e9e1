"""SASRec's training: dense over the moments of each history, with shared sampled negatives."""

import numpy as np
import torch
from torch import Tensor

from models import checkpoint
from models.baselines import popularity
from models.data.dataset import Dataset
from models.fitting import Fit, fit_steps
from models.losses import sampled_softmax
from models.options import SasRecOptions
from models.retrieval.batches import HistoryWindows
from models.retrieval.sasrec import ItemInputs, SasRec, SasRecConfig
from models.run_log import RunLog
from models.sampling import Proposal


def build(dataset: Dataset, options: SasRecOptions, until_ms: int, seed: int) -> SasRec:
    """An untrained model whose item popularity is as of until_ms."""
    past = dataset.interactions.before(until_ms)
    log_popularity = np.log(popularity(past, dataset.num_items, until_ms) + 0.5)
    inputs = ItemInputs(
        torch.from_numpy(np.array(dataset.item_categorical, np.int64)),
        [feature.size for feature in dataset.schema.categorical("item")],
        torch.from_numpy(log_popularity - log_popularity.mean()).float(),
    )
    config = SasRecConfig(
        options.dim, options.layers, options.heads, options.history_length, options.dropout, options.id_dropout
    )
    torch.manual_seed(seed)
    return SasRec(inputs, config)


def fit(dataset: Dataset, options: SasRecOptions, run: Fit, log: RunLog) -> SasRec:
    """The model with the weights that validated best, in evaluation mode."""
    model = build(dataset, options, run.until_ms, run.seed)
    if run.weights is not None:
        checkpoint.set_weights(model, run.weights)
    past = dataset.interactions.before(run.until_ms)
    windows = HistoryWindows(past, options.history_length, options.horizon_days, options.repeat_weight)
    sold = popularity(past, dataset.num_items, run.until_ms)
    task = SasRecTask(model, windows, Proposal.of_popularity(sold, options.negatives_power), options, run.seed)
    fit_steps(model, task, options, run, log)
    return model


class SasRecTask:
    """Sampled softmax over `options.moments` usable moments of each history; all share the drawn negatives."""

    def __init__(
        self, model: SasRec, windows: HistoryWindows, proposal: Proposal, options: SasRecOptions, seed: int
    ) -> None:
        self._model, self._windows, self._proposal, self._options = model, windows, proposal, options
        self._seed = seed
        self._epoch = -1
        self.num_batches = -(-len(windows) // options.batch_size)

    def loss(self, epoch: int, number: int, rng: np.random.Generator) -> Tensor:
        if epoch != self._epoch:
            order = np.random.default_rng([self._seed, epoch])
            self._epoch, self._ends = epoch, self._windows.epoch(self._options.batch_size, order)
        batch = self._windows.batch(self._ends[number], rng)
        priority = np.where(batch.weights > 0, rng.random(batch.weights.shape), -1.0)
        chosen = np.argsort(-priority, axis=1)[:, : self._options.moments]
        moments, targets, weights = (
            torch.from_numpy(np.take_along_axis(array, chosen, 1))
            for array in (batch.set_ordinal, batch.targets, batch.weights)
        )
        usable = weights > 0  # [B, q]
        model = self._model
        vectors = model.user_vectors(torch.from_numpy(batch.history), torch.from_numpy(batch.set_ordinal), moments)
        positives = targets[usable]
        negatives = torch.from_numpy(self._proposal.draw(self._options.negatives, rng))
        return sampled_softmax(
            vectors[usable],
            positives,
            model.items(positives),
            negatives,
            model.items(negatives),
            torch.from_numpy(self._proposal.log_probability),
            weights=weights[usable],
        )
