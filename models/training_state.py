"""Where a training run stands: weights, optimizer, step and the best validation so far; saved, and taken up again."""

from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models import checkpoint

HEADER: dict[str, type | tuple[type, ...]] = {
    "key": str,
    "step": int,
    "best": (float, int, NoneType),
    "since_best": int,
}


class TrainingState:
    """Counts the steps of one run and keeps the weights that validated best.

    path: of the checkpoint.  key: names data and settings; a checkpoint with another key is not taken up.
    """

    def __init__(self, path: Path, key: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._path, self._key, self._model, self._optimizer = path, key, model, optimizer
        self.step, self.best, self.since_best = 0, -np.inf, 0
        self._best_weights: dict[str, NDArray[Any]] = {}

    def judge(self, figure: float) -> None:
        """Take note of a validation; higher is better."""
        if figure > self.best:
            self.best, self.since_best, self._best_weights = figure, 0, checkpoint.weights(self._model)
        else:
            self.since_best += 1

    def restore_best(self) -> None:
        """Give the model the weights that validated best; those it has, where nothing was validated."""
        if self._best_weights:
            checkpoint.set_weights(self._model, self._best_weights)

    def save(self) -> None:
        parts = {
            "weights": checkpoint.weights(self._model),
            "best": self._best_weights,
            "optimizer": checkpoint.optimizer_arrays(self._optimizer),
        }
        arrays = {f"{part}:{name}": array for part, named in parts.items() for name, array in named.items()}
        best = float(self.best) if np.isfinite(self.best) else None
        header = {"key": self._key, "step": self.step, "best": best, "since_best": self.since_best}
        checkpoint.save(self._path, arrays, header)

    def resume(self) -> None:
        """Take up the checkpoint if there is one of this run. Raises CheckpointError when it is not whole."""
        if not self._path.exists():
            return
        arrays, header = checkpoint.load(self._path, HEADER)
        if header["key"] != self._key:
            return
        parts: dict[str, dict[str, NDArray[Any]]] = {"weights": {}, "best": {}, "optimizer": {}}
        for name, array in arrays.items():
            part, _, rest = name.partition(":")
            parts[part][rest] = array
        with checkpoint.named(self._path):
            checkpoint.set_weights(self._model, parts["weights"])
        checkpoint.set_optimizer(self._optimizer, parts["optimizer"])
        self._best_weights = parts["best"]
        self.step, self.since_best = header["step"], header["since_best"]
        self.best = header["best"] if header["best"] is not None else -np.inf


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed torch for one step, so that a resumed run draws what an uninterrupted one would.

    rank: of this process. Each has dropout masks of its own for its rows; the first has those of one process alone.
    """
    torch.manual_seed(hash((seed, step, rank) if rank else (seed, step)) % 2**63)
