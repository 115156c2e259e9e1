"""Candidate generation from several sources, shared by training (the ranker learns on what it will see) and serving.

Each source returns item indices, best first. The nearest items to the user vector come from the index in serving and
from an exact search in training; the other sources are here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract.features import DAY_MS, HALF_LIVES_DAYS, RECENT_ITEMS, ItemTables, recent_distinct
from models.contract.history import History
from models.contract.tables import Rows

SOURCES = ("own_frequent", "user_vector", "neighbours", "popular")
OWN_FREQUENT, USER_VECTOR, NEIGHBOURS, POPULAR = range(len(SOURCES))

NUM_RANKED = 200
# Shares of the ranked candidates that a source other than the user vector may take, when seen items are wanted or not.
QUOTAS = {True: {OWN_FREQUENT: 0.5, NEIGHBOURS: 0.1, POPULAR: 0.05}, False: {NEIGHBOURS: 0.2, POPULAR: 0.1}}

REASON_ITEMS = 50  # newest distinct history items whose neighbours are looked through for a reason


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items considered for one request, distinct.

    items: int64 [n], item indices.  scores: float32 [n], the item vector's product with the user vector, whatever the
    source; zero without a user vector.  sources: uint8 [n], positions in SOURCES.
    """

    items: NDArray[np.int64]
    scores: NDArray[np.float32]
    sources: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.items)

    def take(self, order: NDArray[np.int64]) -> "Candidates":
        return Candidates(self.items[order], self.scores[order], self.sources[order])


def own_frequent(history: History, now_ms: int, limit: int) -> NDArray[np.int64]:
    """The user's own items by decayed frequency (half-life 60 days), best first; ties by item index."""
    items, inverse = np.unique(history.items, return_inverse=True)
    ages = np.maximum(now_ms - history.times_ms, 0) / DAY_MS
    weights = np.bincount(inverse, weights=np.exp2(-ages / HALF_LIVES_DAYS[1]), minlength=len(items))
    return items[np.argsort(-weights, kind="stable")[:limit]]


def neighbours_of_recent(history: History, tables: ItemTables, limit: int) -> NDArray[np.int64]:
    """Items most similar to the user's newest distinct items, by summed similarity, best first; ties by item index."""
    recent, _ = recent_distinct(history, RECENT_ITEMS)
    near = tables.neighbours[recent].ravel()
    items, inverse = np.unique(near, return_inverse=True)
    weights = np.bincount(inverse, weights=tables.similarity[recent].ravel(), minlength=len(items))
    order = np.argsort(-weights, kind="stable")
    ranked = items[order].astype(np.int64)
    return ranked[ranked >= 0][:limit]


def from_history(
    history: History,
    tables: ItemTables,
    popular: NDArray[Any],
    allowed: NDArray[np.bool_],
    include_seen: bool,
    limit: int,
    now_ms: int,
) -> list[tuple[int, NDArray[np.int64]]]:
    """What the sources other than the user vector bring to `limit` candidates, each its share, in order of precedence.

    popular: integers [p], best first.  allowed: bool [N], the items that may be answered.
    """
    found = [(NEIGHBOURS, neighbours_of_recent(history, tables, len(tables.neighbours))), (POPULAR, popular)]
    if include_seen:
        found.insert(0, (OWN_FREQUENT, own_frequent(history, now_ms, len(history))))
    shares = ((source, items, int(QUOTAS[include_seen][source] * limit)) for source, items in found)
    return [(source, items[allowed[items]][:share].astype(np.int64)) for source, items, share in shares]


def merge(
    sources: Sequence[tuple[int, NDArray[np.int64]]],
    user_vector: NDArray[np.float32] | None,
    item_vectors: Rows,
    limit: int,
) -> Candidates:
    """The sources' items, each once and under the first source that names it, at most `limit`, first come first kept.

    user_vector: float32 [d] or None.  item_vectors: N rows of d numbers.
    """
    items = np.concatenate([found for _, found in sources]) if sources else np.empty(0, np.int64)
    codes = np.concatenate([np.full(len(found), code, np.uint8) for code, found in sources] or [np.empty(0, np.uint8)])
    _, first = np.unique(items, return_index=True)
    first = np.sort(first)[:limit]
    items, codes = items[first], codes[first]
    scores = np.zeros(len(items), np.float32) if user_vector is None else item_vectors[items] @ user_vector
    return Candidates(items, scores, codes)


def reasons(
    items: NDArray[np.int64], history: History, tables: ItemTables, threshold: float = 0.05
) -> NDArray[np.int64]:
    """For each item the history item with the highest item-to-item similarity, int64 [n]; -1 below the threshold.

    A pair counts when either stands among the other's neighbours; the rows read are the items' own and those of the
    newest REASON_ITEMS distinct history items. Of equally similar ones the newest wins. No item neighbours itself.
    """
    best = np.full(len(items), -1, np.int64)
    recent, _ = recent_distinct(history, len(history))
    near = recent[:REASON_ITEMS]
    position, newest_rank, similarity = _neighbours_among(items, recent, tables)
    their_rank, their_position, their_similarity = _neighbours_among(near, items, tables)
    position = np.concatenate([position, their_position])
    newest_rank = np.concatenate([newest_rank, their_rank])
    similarity = np.concatenate([similarity, their_similarity])
    order = np.lexsort((newest_rank, -similarity, position))
    order = order[(similarity[order] >= threshold) & (similarity[order] > 0)]
    reasoned, first = np.unique(position[order], return_index=True)
    best[reasoned] = recent[newest_rank[order[first]]]
    return best


def _neighbours_among(
    items: NDArray[np.int64], wanted: NDArray[np.int64], tables: ItemTables
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Each of the items' neighbours that is wanted: position in `items`, position in `wanted`, similarity, all [p]."""
    if not len(wanted):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    near = tables.neighbours[items].ravel()  # [n * m]
    order = np.argsort(wanted)
    ascending = wanted[order].astype(near.dtype)  # of one type, or each search would convert all of `near`
    slots = np.minimum(np.searchsorted(ascending, near), len(wanted) - 1)
    cells = np.flatnonzero(ascending[slots] == near)
    return cells // tables.neighbours.shape[1], order[slots[cells]], tables.similarity[items].ravel()[cells]
