"""A user's recent interactions as the models read them: item indices in an order that carries no information.

Lines of one basket share a time and often arrive sorted by id; a model would learn that order. Interactions of one
user at one time are a set: here they get a pseudo-random order that depends only on what is in the set and on the time
of day. So it is the same in training, on the data's clock, and in serving, a clock shift of whole days later.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.contract.state import DAY_MS, UserState

_MIX_TIME = np.uint64(0x9E3779B97F4A7C15)
_MIX_HASH = np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True, slots=True)
class History:
    """Known items of a user, oldest first; items of one time in seeded random order.

    items: int64 [n], item indices.  times_ms: int64 [n], not decreasing.
    """

    items: NDArray[np.int64]
    times_ms: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.items)

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
    if not len(hashes):
        return np.full(len(wanted), -1, np.int64)
    positions = np.minimum(np.searchsorted(hashes, wanted), len(hashes) - 1)
    return np.where(hashes[positions] == wanted, positions, -1)


def read_history(state: UserState, hashes: NDArray[np.uint64]) -> History:
    """The part of the state's history that this bundle knows.  hashes: uint64 [N], the bundle's sorted item hashes."""
    indices = find_items(hashes, state.history_hashes)
    known = indices >= 0
    times = state.history_times_ms[known]
    with np.errstate(over="ignore"):
        mixed = (state.history_hashes[known] ^ ((times % DAY_MS).astype(np.uint64) * _MIX_TIME)) * _MIX_HASH
    order = np.lexsort((mixed, times))
    return History(indices[known][order], times[order])


def tower_input(history: History, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Input of the user tower for one user: the newest `length` interactions, right-aligned.

    Returns history int64 [length] (item_index + 1, 0 is padding) and set_ordinal int64 [length] (1 is the newest set
    of equal times, 2 the one before it, and so on; 0 is padding).
    """
    items, ordinals = np.zeros(length, np.int64), np.zeros(length, np.int64)
    recent = min(length, len(history))
    if recent:
        items[-recent:] = history.items[-recent:] + 1
        times = history.times_ms[-recent:]
        newer_sets = np.cumsum(np.diff(times[::-1], prepend=times[-1]) != 0)
        ordinals[-recent:] = newer_sets[::-1] + 1
    return items, ordinals
