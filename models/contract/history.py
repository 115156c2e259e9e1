"""A user's recent interactions as the models read them: item indices in an order that carries no information.

Lines of one basket share a time and often arrive sorted by id; a model would learn that order. Interactions of one
user at one time are a set: here they get a pseudo-random order that depends only on what is in the set and on the time
of day. So it is the same in training, on the data's clock, and in serving, a clock shift of whole days later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.contract.kernels.chosen import kernels
from models.contract.state import UserState

HALF_LIVES_DAYS: Final = (14.0, 60.0)

# distinct items, positions of their newest interactions, the place of each interaction's item among the distinct
Distinct = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
# ages in days, float64 [n]; what is left of 1 after each of HALF_LIVES_DAYS, float64 [2, n]
Recency = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)  # without slots: what several stages need of a history is calculated once and kept with it
class History:
    """Known items of a user, oldest first; items of one time in seeded random order. Its arrays are never written to.

    items: int64 [n], item indices.  times_ms: int64 [n], not decreasing.
    """

    items: NDArray[np.int64]
    times_ms: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def distinct(self) -> Distinct:
        """Distinct items, newest first."""
        return kernels.distinct(self.items)

    def recency(self, now_ms: int) -> Recency:
        """Kept for the last moment that was asked for: the stages of a request share one."""
        kept: tuple[int, Recency] | None = self.__dict__.get("_recency")
        if kept is None or kept[0] != now_ms:
            kept = self.__dict__["_recency"] = (now_ms, kernels.recency(self.times_ms, now_ms, HALF_LIVES_DAYS))
        return kept[1]

    def extended(self, items: Sequence[int], now_ms: int) -> "History":
        """The history followed by `items`, oldest first, each at a time of its own, the newest at `now_ms`.

        Interactions later than the moment of the first of them move to just before it, so that order is kept.
        """
        if not len(items):
            return self
        times = now_ms - np.arange(len(items) - 1, -1, -1, dtype=np.int64)
        return History(
            np.concatenate([self.items, np.asarray(items, np.int64)]),
            np.concatenate([np.minimum(self.times_ms, times[0] - 1), times]),
        )


EMPTY = History(np.empty(0, np.int64), np.empty(0, np.int64))


def find_items(hashes: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Item indices int64 [n] of 64-bit item hashes, -1 where unknown.  hashes: uint64 [N], sorted."""
    return kernels.find(hashes, wanted)


def read_history(state: UserState, hashes: NDArray[np.uint64]) -> History:
    """The part of the state's history that this bundle knows.  hashes: uint64 [N], the bundle's sorted item hashes."""
    return History(*kernels.read(state.history_hashes, state.history_times_ms, hashes))


def tower_input(history: History, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Input of the user tower for one user: the newest `length` interactions, right-aligned.

    Returns history int64 [length] (item_index + 1, 0 is padding) and set_ordinal int64 [length] (1 is the newest set
    of equal times, 2 the one before it, and so on; 0 is padding).
    """
    return kernels.tower_row(history.items, history.times_ms, length)
