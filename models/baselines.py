"""Systems that need no training, each a ranking of the whole catalogue: what every model has to beat.

A baseline ranks some items from the user's history; what it leaves unranked follows by popularity. So each of them is
a full ranking, and a list is shorter than k only when the catalogue has no more items to give.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.contract.candidates import neighbours_of_recent
from models.contract.features import DAY_MS, ItemTables
from models.contract.history import History
from models.data.dataset import Dataset, Interactions
from models.neighbours import item_neighbours
from models.targets import Mode

POPULARITY_HALF_LIFE_DAYS = 30.0
OWN_HALF_LIFE_DAYS = 90.0  # the best of 30, 60, 90 and 120 on the demo data's validation window

# (history before the moment, the moment in ms) -> item indices int64, best first
Source = Callable[[History, int], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class UserLog:
    """Everyone's interactions, to be read as they stood at any moment.

    items [M], times_ms int64 [M]: sorted by user, then time.  offsets: int64 [U + 1], where each user starts.
    """

    items: NDArray[np.int32]
    times_ms: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, dataset: Dataset) -> "UserLog":
        log = dataset.interactions
        return cls(log.item_index, log.time_ms, log.user_offsets(dataset.num_users))

    def history(self, user: int, before_ms: int) -> History:
        """The user's interactions strictly before the moment; the item index orders those of one time (a hash)."""
        start, end = self.offsets[user], self.offsets[user + 1]
        stop = start + np.searchsorted(self.times_ms[start:end], before_ms, side="left")
        return History(self.items[start:stop].astype(np.int64), self.times_ms[start:stop])


@dataclass(frozen=True, slots=True)
class Baseline:
    """A system: called with users it knows their histories up to `split_ms`, through `at` up to any moment.

    popular: int64 [N], the whole catalogue, best first; it stays as it was at the split.
    """

    log: UserLog
    split_ms: int
    popular: NDArray[np.int64]
    source: Source

    def __call__(self, users: NDArray[np.int64], mode: Mode, k: int) -> NDArray[np.int64]:
        """Lists int64 [U, k], padded with -1; in mode `new` without the items of the user's history."""
        return self.at(users, np.full(len(users), self.split_ms, np.int64), mode, k)

    def at(self, users: NDArray[np.int64], state_times_ms: NDArray[np.int64], mode: Mode, k: int) -> NDArray[np.int64]:
        """The same with the state of each row at its own time."""
        lists = np.full((len(users), k), -1, np.int64)
        for row, (user, now_ms) in enumerate(zip(users.tolist(), state_times_ms.tolist(), strict=True)):
            items = self._rank(self.log.history(user, now_ms), now_ms, mode, k)
            lists[row, : len(items)] = items
        return lists

    def _rank(self, history: History, now_ms: int, mode: Mode, k: int) -> NDArray[np.int64]:
        blocked = np.zeros(len(self.popular), np.bool_)
        if mode == "new":
            blocked[history.items] = True
        ranked = self.source(history, now_ms)
        top = ranked[~blocked[ranked]][:k]
        if len(top) == k:
            return top
        blocked[top] = True
        return np.concatenate([top, self.popular[~blocked[self.popular]][: k - len(top)]])


def popularity(
    past: Interactions, num_items: int, now_ms: int, half_life_days: float = POPULARITY_HALF_LIFE_DAYS
) -> NDArray[np.float64]:
    """Interactions of each item, float64 [N], each weighing half as much for every half-life of its age."""
    weights = np.exp2(-np.maximum(now_ms - past.time_ms, 0) / DAY_MS / half_life_days)
    return np.bincount(past.item_index, weights=weights, minlength=num_items).astype(np.float64)


def most_popular(
    past: Interactions, num_items: int, now_ms: int, half_life_days: float = POPULARITY_HALF_LIFE_DAYS
) -> NDArray[np.int64]:
    """The whole catalogue by popularity, int64 [N], best first; ties by item index."""
    return np.argsort(-popularity(past, num_items, now_ms, half_life_days), kind="stable")


def nothing(history: History, now_ms: int) -> NDArray[np.int64]:
    """A source that ranks nothing, so that popularity ranks everything."""
    return np.empty(0, np.int64)


def own_items(half_life_days: float, popular: NDArray[np.int64]) -> Source:
    """The user's own items by decayed frequency, ties by popularity; an infinite half-life counts plainly."""
    places = np.empty(len(popular), np.int64)
    places[popular] = np.arange(len(popular))

    def rank(history: History, now_ms: int) -> NDArray[np.int64]:
        items, inverse = np.unique(history.items, return_inverse=True)
        ages = np.maximum(now_ms - history.times_ms, 0) / DAY_MS
        weights = np.bincount(inverse, weights=np.exp2(-ages / half_life_days), minlength=len(items))
        return items[np.lexsort((places[items], -weights))]

    return rank


def item_to_item(tables: ItemTables) -> Source:
    """Neighbours of the user's newest distinct items, as serving ranks them."""
    return lambda history, now_ms: neighbours_of_recent(history, tables, len(tables.neighbours))


def baselines(dataset: Dataset, split_ms: int) -> dict[str, Baseline]:
    """Every baseline of the report by name, knowing nothing from `split_ms` on."""
    past = dataset.interactions.before(split_ms)
    log, popular = UserLog.of(dataset), most_popular(past, dataset.num_items, split_ms)
    neighbours, similarity = item_neighbours(past, dataset.num_users, dataset.num_items)
    tables = ItemTables(neighbours, similarity, np.zeros((dataset.num_items, 0), np.int32))
    sources = {
        "popularity": nothing,
        "own_frequent": own_items(float("inf"), popular),
        "own_frequent_decayed": own_items(OWN_HALF_LIFE_DAYS, popular),
        "item_to_item": item_to_item(tables),
    }
    return {name: Baseline(log, split_ms, popular, source) for name, source in sources.items()}
