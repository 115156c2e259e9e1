"""User and cross features of the ranker: the one implementation, used by training and by serving.

Everything is computed from what the service knows at the moment of a request: the user's state, the item tables of
the bundle, and the candidates. Training calls the same functions for moments of the past.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.contract.history import History
from models.contract.schema import Schema, encode_categorical, encode_numeric
from models.contract.state import UserState

DAY_MS = 86_400_000
RECENT_ITEMS = 30  # distinct newest items whose neighbours count
HALF_LIVES_DAYS = (14.0, 60.0)

USER_NUMERIC = ("log_interactions", "log_interactions_28d", "log_distinct", "repeat_share", "log_days_since_last")
CROSS = (
    "retrieval_z",
    "retrieval_log_rank",
    "own_log_count",
    "own_decayed_14d",
    "own_decayed_60d",
    "own_log_days_since",
    "own_due",
    "own_due_known",
    "neighbour_sum",
    "neighbour_max",
)


@dataclass(frozen=True, slots=True)
class ItemTables:
    """What cross features need to know of items, fixed when the bundle is made.

    neighbours: signed integers [N, m], item indices, most similar first, -1 for none.
    similarity: float32 or float16 [N, m].
    affinity: integers [N, a], codes of the categorical features named in `schema.affinity`.
    """

    neighbours: NDArray[Any]
    similarity: NDArray[Any]
    affinity: NDArray[Any]


class UserFeatures(NamedTuple):
    """categorical: int64 [Fu], see `user_categories`.  numeric: float32 [Gu], see `user_numbers`."""

    categorical: NDArray[np.int64]
    numeric: NDArray[np.float32]


def cross_names(schema: Schema) -> list[str]:
    return [*CROSS, *(f"affinity_{name}" for name in schema.affinity)]


def user_numeric_names(schema: Schema) -> list[str]:
    return [*USER_NUMERIC, *(feature.name for feature in schema.numeric("user"))]


def user_features(
    schema: Schema, state: UserState | None, history: History, context: dict[str, str], now_ms: int
) -> UserFeatures:
    return UserFeatures(user_categories(schema, state, context, now_ms), user_numbers(schema, state, history, now_ms))


def user_categories(schema: Schema, state: UserState | None, context: dict[str, str], now_ms: int) -> NDArray[np.int64]:
    """Codes int64 [Fu] of the static user features, then of the context features; 0 is missing, unknown or expired."""
    static = {name: str(value) for name, value in _fresh(schema, state, now_ms).items()}
    return np.concatenate(
        [
            encode_categorical(schema.categorical("user"), static),
            encode_categorical(schema.context_features, context),
        ]
    )


def user_numbers(schema: Schema, state: UserState | None, history: History, now_ms: int) -> NDArray[np.float32]:
    """float32 [Gu], in the order of `user_numeric_names`."""
    total, last_28d = _activity(state, history, now_ms)
    count, distinct = len(history), len(np.unique(history.items))
    days_since = (now_ms - int(history.times_ms[-1])) / DAY_MS if count else 365.0
    derived = [
        np.log1p(total) / 6.0,
        np.log1p(last_28d) / 4.0,
        np.log1p(distinct) / 6.0,
        1.0 - distinct / count if count else 0.0,
        np.log1p(max(days_since, 0.0)) / 3.0,
    ]
    static = {k: float(v) for k, v in _fresh(schema, state, now_ms).items() if isinstance(v, int | float)}
    return np.concatenate([np.array(derived, np.float32), encode_numeric(schema.numeric("user"), static)])


def cross_features(
    items: NDArray[np.int64],
    retrieval_scores: NDArray[np.float32],
    history: History,
    tables: ItemTables,
    now_ms: int,
) -> NDArray[np.float32]:
    """Features of each candidate for this user, float32 [n, c], in the order of `cross_names`.

    items: int64 [n], distinct item indices.  retrieval_scores: float32 [n]; they enter as rank and standardised
    score only, the forms that survive a retrained retrieval model.
    """
    finder = _Finder(items)
    ages = np.maximum(now_ms - history.times_ms, 0) / DAY_MS
    columns = [
        *_retrieval_forms(retrieval_scores),
        *_own_history(finder, history, ages),
        *_neighbours(finder, history, ages, tables),
        *_affinities(items, history, ages, tables),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


class _Finder:
    """Finds where item indices stand among the candidates."""

    def __init__(self, items: NDArray[np.int64]) -> None:
        self.size = len(items)
        self._order = np.argsort(items)
        self._sorted = items[self._order]

    def positions(self, wanted: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """For each wanted item its candidate position (valid only where the mask says so), and the mask."""
        if not self.size:
            return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
        slots = np.minimum(np.searchsorted(self._sorted, wanted), self.size - 1)
        return self._order[slots], self._sorted[slots] == wanted


def _retrieval_forms(scores: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    n = len(scores)
    ranks = np.empty(n, np.float64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(n)
    values = scores.astype(np.float64)
    z = (values - values.mean()) / (values.std() + 1e-6) if n else values
    return [z, np.log1p(ranks) / np.log(200.0)]


def _own_history(finder: _Finder, history: History, ages: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Count, decayed counts, days since the last time, and how due the item is by the user's own rhythm."""
    n = finder.size
    slots, found = finder.positions(history.items)
    slots, own_ages = slots[found], ages[found]
    count = np.bincount(slots, minlength=n).astype(np.float64)
    decayed = [
        np.log1p(np.bincount(slots, weights=np.exp2(-own_ages / half_life), minlength=n))
        for half_life in HALF_LIVES_DAYS
    ]
    newest, oldest = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(newest, slots, own_ages)
    np.maximum.at(oldest, slots, own_ages)
    bought = count > 0
    since = np.where(bought, newest, 365.0)
    rhythmic = (count > 1) & (oldest > newest)
    interval = np.where(rhythmic, oldest - newest, 1.0) / np.maximum(count - 1, 1)
    due = np.where(rhythmic, np.minimum(since / np.maximum(interval, 0.5), 4.0), 0.0)
    return [np.log1p(count), *decayed, np.log1p(since) / 3.0, due, rhythmic.astype(np.float64)]


def _neighbours(
    finder: _Finder, history: History, ages: NDArray[np.float64], tables: ItemTables
) -> list[NDArray[np.float64]]:
    """Sum and maximum of the item-to-item similarities from the user's newest distinct items."""
    total, largest = np.zeros(finder.size), np.zeros(finder.size)
    recent, positions = recent_distinct(history, RECENT_ITEMS)
    weights = np.exp2(-ages[positions] / HALF_LIVES_DAYS[1])
    slots, found = finder.positions(tables.neighbours[recent].ravel())
    similarity = tables.similarity[recent].astype(np.float64)
    np.add.at(total, slots[found], (similarity * weights[:, None]).ravel()[found])
    np.maximum.at(largest, slots[found], similarity.ravel()[found])
    return [np.log1p(total), largest]


def _affinities(
    items: NDArray[np.int64], history: History, ages: NDArray[np.float64], tables: ItemTables
) -> list[NDArray[np.float64]]:
    """For each affinity column the decayed share of the user's history that has the candidate's value; 0 is unknown."""
    weights = np.exp2(-ages / HALF_LIVES_DAYS[1])
    total = weights.sum()
    columns = []
    for codes in tables.affinity.T:
        own, wanted = codes[history.items], codes[items]
        mass = np.bincount(own, weights=weights, minlength=int(wanted.max(initial=0)) + 1)
        share = mass[wanted] / total if total > 0 else np.zeros(len(items))
        columns.append(np.where(wanted > 0, np.sqrt(share), 0.0))
    return columns


def recent_distinct(history: History, limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The newest distinct items, newest first, int64 [r], and the position of each one's newest interaction."""
    reversed_items = history.items[::-1]
    _, first = np.unique(reversed_items, return_index=True)
    first = np.sort(first)[:limit]
    return reversed_items[first], len(history) - 1 - first


def _activity(state: UserState | None, history: History, now_ms: int) -> tuple[float, float]:
    """Interactions ever, and in the newest 28 UTC days, from the counters; without a state, from the history."""
    if state is None or not len(state.counters):
        return float(len(history)), float(np.count_nonzero(history.times_ms > now_ms - 28 * DAY_MS))
    days, counts = state.counters["day"], state.counters["count"]
    return float(counts[days == 0].sum()), float(counts[days > now_ms // DAY_MS - 28].sum())


def _fresh(schema: Schema, state: UserState | None, now_ms: int) -> dict[str, str | float]:
    """Static features younger than the schema's time to live."""
    if state is None:
        return {}
    oldest = now_ms - schema.feature_ttl_s * 1000 if schema.feature_ttl_s is not None else None
    return {name: value for name, (value, time_ms) in state.features.items() if oldest is None or time_ms >= oldest}
