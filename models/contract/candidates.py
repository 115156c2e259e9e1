"""Candidate generation from several sources, shared by training (the ranker learns on what it will see) and serving.

Each source returns item indices, best first. The nearest items to the user vector come from the index in serving and
from an exact search in training; the other sources are here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.contract.features import RECENT_ITEMS, ItemTables, recent_distinct
from models.contract.history import History
from models.contract.kernels.chosen import kernels
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
    items, weights = _own(history, now_ms)
    return kernels.best_first(items, weights, np.ones(len(items), np.bool_), limit)


def neighbours_of_recent(history: History, tables: ItemTables, limit: int) -> NDArray[np.int64]:
    """Items most similar to the user's newest distinct items, by summed similarity, best first; ties by item index."""
    items, weights = _near(history, tables)
    return kernels.best_first(items, weights, np.ones(len(items), np.bool_), limit)


def _own(history: History, now_ms: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    items, _, inverse = history.distinct
    _, decayed = history.recency(now_ms)
    return items, kernels.own_sums(inverse, decayed[1], len(items))


def _near(history: History, tables: ItemTables) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    recent, _ = recent_distinct(history, RECENT_ITEMS)
    return kernels.neighbour_sums(recent, tables.neighbours, tables.similarity)


class Allowed(Protocol):
    """The items that may be answered: bool [N], or what tells it of some items, `allowed[items]` bool [n]."""

    def __getitem__(self, items: NDArray[Any], /) -> NDArray[np.bool_]: ...


def from_history(
    history: History,
    tables: ItemTables,
    popular: NDArray[Any],
    allowed: Allowed,
    include_seen: bool,
    limit: int,
    now_ms: int,
) -> list[tuple[int, NDArray[np.int64]]]:
    """What the sources other than the user vector bring to `limit` candidates, each its share, in order of precedence.

    popular: integers [p], best first.  allowed: asked for few items, never for all N.
    """
    shares = {source: int(share * limit) for source, share in QUOTAS[include_seen].items()}
    found: list[tuple[int, NDArray[np.int64]]] = []
    if include_seen:
        items, weights = _own(history, now_ms)
        found.append((OWN_FREQUENT, kernels.best_first(items, weights, allowed[items], shares[OWN_FREQUENT])))
    items, weights = _near(history, tables)
    found.append((NEIGHBOURS, kernels.best_first(items, weights, allowed[items], shares[NEIGHBOURS])))
    found.append((POPULAR, first_allowed(popular, allowed, shares[POPULAR])))
    return found


def first_allowed(items: NDArray[Any], allowed: Allowed, limit: int) -> NDArray[np.int64]:
    """The first `limit` of the items that are allowed. Of the whole catalogue the head nearly always suffices."""
    look = 4 * limit
    head: NDArray[Any] = items[:look]
    while len(kept := head[allowed[head]]) < limit and look < len(items):
        look *= 4
        head = items[:look]
    return kept[:limit].astype(np.int64)


def merge(
    sources: Sequence[tuple[int, NDArray[np.int64]]],
    user_vector: NDArray[np.float32] | None,
    item_vectors: Rows,
    limit: int,
) -> Candidates:
    """The sources' items, each once and under the first source that names it, at most `limit`, first come first kept.

    user_vector: float32 [d] or None.  item_vectors: N rows of d numbers.
    """
    items, codes = kernels.first_named(sources, limit)
    scores = np.zeros(len(items), np.float32) if user_vector is None else item_vectors[items] @ user_vector
    return Candidates(items, scores, codes)


def reasons(
    items: NDArray[np.int64], history: History, tables: ItemTables, threshold: float = 0.05
) -> NDArray[np.int64]:
    """For each item the history item with the highest item-to-item similarity, int64 [n]; -1 below the threshold.

    A pair counts when either stands among the other's neighbours; the rows read are the items' own and those of the
    newest REASON_ITEMS distinct history items. Of equally similar ones the newest wins. No item neighbours itself.
    """
    recent, _, _ = history.distinct
    return kernels.reasons(items, recent, REASON_ITEMS, tables.neighbours, tables.similarity, threshold)
