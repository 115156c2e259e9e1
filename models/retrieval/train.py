"""Training of the retrieval model: repeats exactly from its seed, stops early, resumes where it was interrupted."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils import clip_grad_norm_

from models import checkpoint
from models.baselines import popularity
from models.data.config import TrainSection
from models.data.dataset import Dataset
from models.losses import sampled_softmax
from models.retrieval.batches import Batch, HistoryWindows
from models.retrieval.sasrec import ItemInputs, SasRec, SasRecConfig
from models.run_log import RunLog
from models.sampling import Proposal
from models.training_state import TrainingState, seed_step

VALIDATIONS = 8  # a run looks at the validation users this often
SAVE_EVERY = 100
WARM_UP = 100
MAX_GRADIENT = 5.0


@dataclass(frozen=True, slots=True)
class Fit:
    """What one run is to do.  key: names its data and settings; a checkpoint with another key is not resumed.

    steps: budget.  checkpoint: the file to go on from and to save to.  weights: to start from, None for a new model.
    validate: figure to be maximised, None to run through all steps.
    """

    stage: str
    key: str
    until_ms: int
    steps: int
    checkpoint: Path
    weights: dict[str, NDArray[Any]] | None = None
    validate: Callable[[SasRec], float] | None = None


def build_model(dataset: Dataset, options: TrainSection, until_ms: int) -> SasRec:
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
    torch.manual_seed(options.seed)
    return SasRec(inputs, config)


def fit(dataset: Dataset, options: TrainSection, run: Fit, log: RunLog) -> SasRec:
    """Train on interactions before run.until_ms; returns the model with its best weights, in evaluation mode.

    Sampled softmax, negatives drawn by popularity to a power and corrected for it. Raises ValueError for an
    empty training window.
    """
    model = build_model(dataset, options, run.until_ms)
    past = dataset.interactions.before(run.until_ms)
    if run.weights is not None:
        checkpoint.set_weights(model, run.weights)
    windows = HistoryWindows(past, options.history_length, options.horizon_days, options.repeat_weight)
    sold = popularity(past, dataset.num_items, run.until_ms)
    proposal = Proposal.of_popularity(sold, options.negatives_power)
    _Loop(model, windows, proposal, options, run, log).run_all()
    model.eval()
    return model


class _Loop:
    def __init__(
        self, model: SasRec, windows: HistoryWindows, proposal: Proposal, options: TrainSection, run: Fit, log: RunLog
    ) -> None:
        self.model, self.windows, self.proposal = model, windows, proposal
        self.options, self.run, self.log = options, run, log
        self.optimizer = torch.optim.AdamW(model.parameters(), options.learning_rate, weight_decay=0.0)
        self.per_epoch = -(-len(windows) // options.batch_size)
        self.steps = min(run.steps, options.max_epochs * self.per_epoch)
        self.state = TrainingState(run.checkpoint, run.key, model, self.optimizer)

    def run_all(self) -> None:
        run, state, every = self.run, self.state, max(1, self.steps // VALIDATIONS)
        state.resume()
        self.log.start(run.stage, self.steps, state.step)
        while not self._over():
            epoch, position = divmod(state.step, self.per_epoch)
            order = self.windows.epoch(self.options.batch_size, np.random.default_rng([self.options.seed, epoch]))
            for ends in order[position:]:
                figures = {"loss": self._learn(ends)}
                state.step += 1
                if run.validate is not None and state.step % every == 0:
                    figures["validation"] = self._validate(run.validate)
                self.log.step(run.stage, state.step, figures)
                if state.step % SAVE_EVERY == 0:
                    state.save()
                if self._over():
                    break
        state.restore_best()
        best = f", best validation {state.best:.4f}" if run.validate is not None else ""
        self.log.finish(run.stage, f"{state.step} steps{best}")

    def _over(self) -> bool:
        return self.state.step >= self.steps or self.state.since_best >= self.options.patience

    def _learn(self, ends: NDArray[np.int64]) -> float:
        rng = np.random.default_rng([self.options.seed, 1, self.state.step])
        seed_step(self.options.seed, self.state.step)
        batch = self.windows.batch(ends, rng)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.model.train()
        loss = batch_loss(self.model, batch, self.proposal, self.options, rng)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(self.model.parameters(), MAX_GRADIENT)
        self.optimizer.step()
        return float(loss.detach())

    def _rate(self) -> float:
        """Linear warm-up, then linearly down to a fiftieth."""
        step = self.state.step
        warm = min(1.0, (step + 1) / min(WARM_UP, 1 + self.steps // 10))
        return self.options.learning_rate * warm * max(0.02, 1.0 - step / self.steps)

    def _validate(self, validate: Callable[[SasRec], float]) -> float:
        self.model.eval()
        with torch.inference_mode():
            found = validate(self.model)
        self.state.judge(found)
        return found


def batch_loss(
    model: SasRec, batch: Batch, proposal: Proposal, options: TrainSection, rng: np.random.Generator
) -> torch.Tensor:
    """Sampled softmax over `options.moments` usable moments of each history; all share the drawn negatives."""
    priority = np.where(batch.weights > 0, rng.random(batch.weights.shape), -1.0)
    chosen = np.argsort(-priority, axis=1)[:, : options.moments]
    moments, targets, weights = (
        torch.from_numpy(np.take_along_axis(array, chosen, 1))
        for array in (batch.set_ordinal, batch.targets, batch.weights)
    )
    usable = weights > 0  # [B, q]
    vectors = model.user_vectors(torch.from_numpy(batch.history), torch.from_numpy(batch.set_ordinal), moments)
    positives = targets[usable]
    negatives = torch.from_numpy(proposal.draw(options.negatives, rng))
    return sampled_softmax(
        vectors[usable],
        positives,
        model.items(positives),
        negatives,
        model.items(negatives),
        torch.from_numpy(proposal.log_probability),
        weights=weights[usable],
    )
