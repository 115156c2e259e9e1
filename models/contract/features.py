"""User and cross features of the ranker: the one implementation, used by training and by serving.

Everything is computed from what the service knows at the moment of a request: the user's state, the item tables of
the bundle, and the candidates. Training calls the same functions for moments of the past.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log1p
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.contract.history import HALF_LIVES_DAYS, History
from models.contract.kernels.chosen import kernels
from models.contract.schema import Schema, encode_categorical, encode_numeric
from models.contract.state import UserState

Static = Mapping[str, str | float]  # features of a user that no interaction changes

DAY_MS = 86_400_000
RECENT_ITEMS = 30  # distinct newest items whose neighbours count

__all__ = ["HALF_LIVES_DAYS"]

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
    """categorical: codes int64 [Fu] of the static user features, then of the context features; 0 is missing, unknown
    or expired.  numeric: float32 [Gu], in the order of `user_numeric_names`."""

    categorical: NDArray[np.int64]
    numeric: NDArray[np.float32]


def cross_names(schema: Schema) -> list[str]:
    return [*CROSS, *(f"affinity_{name}" for name in schema.affinity)]


def user_numeric_names(schema: Schema) -> list[str]:
    return [*USER_NUMERIC, *(feature.name for feature in schema.numeric("user"))]


def user_features(
    schema: Schema, state: UserState | None, history: History, context: dict[str, str], now_ms: int
) -> UserFeatures:
    """Of a user at a moment.  context: the request's context features."""
    static = _fresh(schema, state, now_ms)
    texts = {name: str(value) for name, value in static.items()}
    numbers = {name: float(value) for name, value in static.items() if isinstance(value, int | float)}
    own, asked = schema.categorical("user"), schema.context_features
    codes = [*encode_categorical(own, texts), *encode_categorical(asked, context)]
    values = [*_derived(state, history, now_ms), *encode_numeric(schema.numeric("user"), numbers)]
    return UserFeatures(np.array(codes, np.int64), np.array(values, np.float32))


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
    own, aged = history.distinct, history.recency(now_ms)
    near, similarity, affinity = tables.neighbours, tables.similarity, tables.affinity
    return kernels.cross(items, retrieval_scores, own, aged, RECENT_ITEMS, near, similarity, affinity)


def recent_distinct(history: History, limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The newest distinct items, newest first, int64 [r], and the position of each one's newest interaction."""
    items, positions, _ = history.distinct
    return items[:limit], positions[:limit]


def _derived(state: UserState | None, history: History, now_ms: int) -> list[float]:
    """What USER_NUMERIC names."""
    total, last_28d = _activity(state, history, now_ms)
    count, distinct = len(history), len(history.distinct[0])
    days_since = (now_ms - int(history.times_ms[-1])) / DAY_MS if count else 365.0
    repeated = 1.0 - distinct / count if count else 0.0
    since = log1p(max(days_since, 0.0))
    return [log1p(total) / 6.0, log1p(last_28d) / 4.0, log1p(distinct) / 6.0, repeated, since / 3.0]


def _activity(state: UserState | None, history: History, now_ms: int) -> tuple[float, float]:
    """Interactions ever, and in the newest 28 UTC days, from the counters; without a state, from the history."""
    if state is None or not len(state.counters):
        return float(len(history)), float(np.count_nonzero(history.times_ms > now_ms - 28 * DAY_MS))
    days, counts = state.counters["day"], state.counters["count"]
    return kernels.activity(days, counts, now_ms // DAY_MS - 28)


def _fresh(schema: Schema, state: UserState | None, now_ms: int) -> Static:
    """Static features younger than the schema's time to live."""
    if state is None:
        return {}
    oldest = now_ms - schema.feature_ttl_s * 1000 if schema.feature_ttl_s is not None else None
    return {name: value for name, (value, time_ms) in state.features.items() if oldest is None or time_ms >= oldest}
