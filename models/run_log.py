"""Where training reports its progress: a callable, so that the models know no terminal and no TensorBoard."""

from collections.abc import Mapping
from typing import Protocol

FIGURES_EVERY = 20  # steps from one look at the learning rate, gradients and embeddings to the next


class RunLog(Protocol):
    """One stage of training.  total: steps if nothing stops it early."""

    def start(self, stage: str, total: int, done: int = 0) -> None: ...

    def step(self, stage: str, done: int, figures: Mapping[str, float]) -> None:
        """Called after every step; `figures` is empty where there is nothing new."""
        ...

    def finish(self, stage: str, note: str) -> None: ...


class Silent:
    """Reports to nobody."""

    def start(self, stage: str, total: int, done: int = 0) -> None:
        pass

    def step(self, stage: str, done: int, figures: Mapping[str, float]) -> None:
        pass

    def finish(self, stage: str, note: str) -> None:
        pass


class Prefixed:
    """Passes on, with something before the name of each stage."""

    def __init__(self, log: RunLog, prefix: str) -> None:
        self._log, self._prefix = log, prefix

    def start(self, stage: str, total: int, done: int = 0) -> None:
        self._log.start(f"{self._prefix}: {stage}", total, done)

    def step(self, stage: str, done: int, figures: Mapping[str, float]) -> None:
        self._log.step(f"{self._prefix}: {stage}", done, figures)

    def finish(self, stage: str, note: str) -> None:
        self._log.finish(f"{self._prefix}: {stage}", note)
