"""What a recommendation is measured against: the items users turned to after the state they were served from.

Two units. A window: the state is frozen at the window's start, the targets are the distinct items of the whole window.
A basket: all interactions of one user at one time; the state runs up to it, the targets are its distinct items.
Two modes. `all`: any item counts. `new`: only items the user had never interacted with before the state's time.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import Dataset, Interactions

Mode = Literal["all", "new"]
MODES: tuple[Mode, ...] = ("all", "new")


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time [start_ms, end_ms) with a name for the report."""

    name: str
    start_ms: int
    end_ms: int

    @classmethod
    def test(cls, dataset: Dataset) -> "Window":
        return cls("test", dataset.splits.test_start_ms, dataset.splits.end_ms)

    @classmethod
    def validation(cls, dataset: Dataset) -> "Window":
        return cls("validation", dataset.splits.valid_start_ms, dataset.splits.test_start_ms)


@dataclass(frozen=True, slots=True)
class Targets:
    """Rows to recommend for, each with at least one target; sorted by user, then time.

    users: int64 [R], user indices.  state_times_ms: int64 [R], only what happened before is known.
    offsets: int64 [R + 1] and items: int64 [T], ascending within a row: row r's items are
    items[offsets[r]:offsets[r + 1]].
    """

    mode: Mode
    users: NDArray[np.int64]
    state_times_ms: NDArray[np.int64]
    offsets: NDArray[np.int64]
    items: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)


def window_targets(dataset: Dataset, window: Window, mode: Mode) -> Targets:
    """Distinct items of the window, a row a user; users without any interaction before the window are left out."""
    past = dataset.interactions.before(window.start_ms)
    inside = _from_known_users(dataset, window)
    keys = np.unique(_pairs(inside, dataset.num_items))
    if mode == "new":
        keys = keys[~np.isin(keys, _pairs(past, dataset.num_items), kind="sort")]
    users, counts = np.unique(keys // dataset.num_items, return_counts=True)
    times = np.full(len(users), window.start_ms, np.int64)
    return Targets(mode, users, times, _offsets(counts), keys % dataset.num_items)


def basket_targets(dataset: Dataset, window: Window, mode: Mode) -> Targets:
    """Distinct items of each basket in the window, a row a basket, for the users of `window_targets`."""
    inside = _from_known_users(dataset, window)
    users, times = inside.user_index.astype(np.int64), inside.time_ms
    starts = np.ones(len(users), np.bool_)
    starts[1:] = (users[1:] != users[:-1]) | (times[1:] != times[:-1])
    baskets = np.cumsum(starts) - 1
    kept = np.ones(len(users), np.bool_) if mode == "all" else _first_time(dataset, inside)
    keys = np.unique(baskets[kept] * dataset.num_items + inside.item_index[kept])
    rows, counts = np.unique(keys // dataset.num_items, return_counts=True)
    first = np.flatnonzero(starts)[rows]
    return Targets(mode, users[first], times[first], _offsets(counts), keys % dataset.num_items)


def _from_known_users(dataset: Dataset, window: Window) -> Interactions:
    """Interactions of the window by users who had one before it; they are sorted by user, then time."""
    known = np.zeros(dataset.num_users, np.bool_)
    known[dataset.interactions.before(window.start_ms).user_index] = True
    inside = dataset.interactions.between(window.start_ms, window.end_ms)
    return inside.where(known[inside.user_index])


def _first_time(dataset: Dataset, inside: Interactions) -> NDArray[np.bool_]:
    """Whether each interaction falls on the user's first time with the item, bool [len(inside)]."""
    everything = dataset.interactions
    # the log is sorted by user, then time, so the first occurrence of a pair is the earliest
    pairs, first = np.unique(_pairs(everything, dataset.num_items), return_index=True)
    earliest = everything.time_ms[first[np.searchsorted(pairs, _pairs(inside, dataset.num_items))]]
    return np.asarray(earliest == inside.time_ms)


def _pairs(interactions: Interactions, num_items: int) -> NDArray[np.int64]:
    return interactions.user_index.astype(np.int64) * num_items + interactions.item_index


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
