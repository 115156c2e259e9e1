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

VALIDATIONS = 8  # a run looks at the validation users this often
SAVE_EVERY = 100
WARM_UP = 100
MAX_GRADIENT = 5.0


@dataclass(frozen=True, slots=True)
class Fit:
    """What one run is to do.  key: names its data and settings; a checkpoint with another key is not resumed.

    steps: budget.  weights: to start from, None for a new model.  validate: figure to be maximised, None to run
    through all steps.
    """

    stage: str
    key: str
    until_ms: int
    steps: int
    folder: Path
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
    loop = _Loop(model, windows, proposal, options, run, log)
    loop.resume()
    loop.run_all()
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
        self.step, self.best, self.since_best = 0, -np.inf, 0
        self.best_weights = checkpoint.weights(model)
        self.path = run.folder / f"{run.stage}.checkpoint.npz"

    def run_all(self) -> None:
        run, per_epoch, every = self.run, self.per_epoch, max(1, self.steps // VALIDATIONS)
        self.log.start(run.stage, self.steps, self.step)
        while self.step < self.steps and self.since_best < self.options.patience:
            epoch, position = divmod(self.step, per_epoch)
            # seeds are of the epoch and the step, so that a resumed run draws what an uninterrupted one would
            order = self.windows.epoch(self.options.batch_size, np.random.default_rng([self.options.seed, epoch]))
            for ends in order[position:]:
                figures = {"loss": self._learn(ends)}
                self.step += 1
                if run.validate is not None and self.step % every == 0:
                    figures["validation"] = self._validate(run.validate)
                self.log.step(run.stage, self.step, figures)
                if self.step % SAVE_EVERY == 0:
                    self._save()
                if self.step >= self.steps or self.since_best >= self.options.patience:
                    break
        if run.validate is not None:
            checkpoint.set_weights(self.model, self.best_weights)
        self._save()
        best = f", best validation {self.best:.4f}" if run.validate is not None else ""
        self.log.finish(run.stage, f"{self.step} steps{best}")

    def _learn(self, ends: NDArray[np.int64]) -> float:
        rng = np.random.default_rng([self.options.seed, 1, self.step])
        torch.manual_seed(hash((self.options.seed, self.step)) % 2**63)
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
        warm = min(1.0, (self.step + 1) / min(WARM_UP, 1 + self.steps // 10))
        return self.options.learning_rate * warm * max(0.02, 1.0 - self.step / self.steps)

    def _validate(self, validate: Callable[[SasRec], float]) -> float:
        self.model.eval()
        with torch.inference_mode():
            found = validate(self.model)
        if found > self.best:
            self.best, self.since_best, self.best_weights = found, 0, checkpoint.weights(self.model)
        else:
            self.since_best += 1
        return found

    def _save(self) -> None:
        parts = {
            "weights": checkpoint.weights(self.model),
            "best": self.best_weights if self.run.validate is not None else {},
            "optimizer": checkpoint.optimizer_arrays(self.optimizer),
        }
        arrays = {f"{part}:{name}": array for part, named in parts.items() for name, array in named.items()}
        best = float(self.best) if np.isfinite(self.best) else None
        checkpoint.save(
            self.path,
            arrays,
            {"key": self.run.key, "step": self.step, "best": best, "since_best": self.since_best},
        )

    def resume(self) -> None:
        if not self.path.exists():
            return
        arrays, header = checkpoint.load(self.path)
        if header["key"] != self.run.key:
            return
        parts: dict[str, dict[str, NDArray[Any]]] = {"weights": {}, "best": {}, "optimizer": {}}
        for name, array in arrays.items():
            part, _, rest = name.partition(":")
            parts[part][rest] = array
        checkpoint.set_weights(self.model, parts["weights"])
        checkpoint.set_optimizer(self.optimizer, parts["optimizer"])
        self.best_weights = parts["best"] or self.best_weights
        self.step, self.since_best = header["step"], header["since_best"]
        self.best = header["best"] if header["best"] is not None else -np.inf


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
