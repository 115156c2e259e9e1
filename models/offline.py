"""The request flow over many users of the data at once: for the ranker's samples, validation and evaluation.

It reads the state as it stood at a moment and uses the contract's own candidates and features, so that training sees
what serving will see.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract.candidates import NUM_RANKED, USER_VECTOR, Candidates, from_history, merge
from models.contract.features import ItemTables, UserFeatures, cross_features, user_features
from models.contract.history import History, find_items, read_history
from models.contract.schema import Schema
from models.contract.state import UserState
from models.contract.user_inputs import HISTORY, reads_features, user_inputs
from models.data.dataset import Dataset
from models.states import UserStates

# inputs of B users by name, see models.contract.user_inputs -> user vectors float32 [B, d]
UserTower = Callable[[Mapping[str, NDArray[Any]]], NDArray[np.float32]]
# (user vector float32 [d], allowed bool [N], limit) -> item indices, best first
Nearest = Callable[[NDArray[np.float32], NDArray[np.bool_], int], NDArray[np.int64]]

TOWER_BATCH = 64
_BLOCK_CELLS = 2**26  # scores of `all_nearest` held at once, 256 MB
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Retrieval:
    """All that candidate generation needs, as it stood at one moment.

    item_hashes: uint64 [N], sorted.  item_vectors: float32 [N, d].  popular: int64 [p], best first.
    nearest: exact search when None.  tower_inputs: names of what the tower takes.
    """

    tower: UserTower
    history_length: int
    item_hashes: NDArray[np.uint64]
    item_vectors: NDArray[np.float32]
    tables: ItemTables
    popular: NDArray[np.int64]
    nearest: Nearest | None = None
    tower_inputs: tuple[str, ...] = HISTORY


@dataclass(frozen=True, slots=True)
class UserMoment:
    """A user at a moment: what a request would find, and the context that it brings."""

    state: UserState
    history: History
    now_ms: int
    context: dict[str, str] = field(default_factory=dict)

    def features(self, schema: Schema) -> UserFeatures:
        return user_features(schema, self.state, self.history, self.context, self.now_ms)


def moments(dataset: Dataset, users: Sequence[int], now_ms: int) -> list[UserMoment]:
    """The users' states from interactions strictly before now_ms."""
    states = UserStates(dataset)
    found = [states.at(user, now_ms) for user in users]
    return [UserMoment(state, read_history(state, dataset.item_hashes), now_ms) for state in found]


def seen_items(state: UserState, item_hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Item indices that the state says the user has seen: what the service leaves out, and no `new` target."""
    found = find_items(item_hashes, state.seen_hashes)
    return found[found >= 0]


def tower_inputs(schema: Schema, retrieval: Retrieval, whos: Sequence[UserMoment]) -> dict[str, NDArray[Any]]:
    """What the user tower takes, a row for each user."""
    names = retrieval.tower_inputs
    features = [who.features(schema) for who in whos] if reads_features(names) else []
    return user_inputs(names, retrieval.history_length, [who.history for who in whos], features)


def user_vectors(schema: Schema, retrieval: Retrieval, whos: Sequence[UserMoment]) -> NDArray[np.float32]:
    """float32 [B, d]."""
    batches = [whos[start : start + TOWER_BATCH] for start in range(0, len(whos), TOWER_BATCH)]
    parts = [retrieval.tower(tower_inputs(schema, retrieval, batch)) for batch in batches]
    return np.concatenate(parts) if parts else np.empty((0, retrieval.item_vectors.shape[1]), np.float32)


def candidates(
    retrieval: Retrieval, who: UserMoment, user_vector: NDArray[np.float32], include_seen: bool, limit: int = NUM_RANKED
) -> Candidates:
    """What the service would rank for this user; without `include_seen` no item of the state's seen set."""
    allowed = np.ones(len(retrieval.item_vectors), np.bool_)
    if not include_seen:
        allowed[seen_items(who.state, retrieval.item_hashes)] = False
    sources = from_history(who.history, retrieval.tables, retrieval.popular, allowed, include_seen, limit, who.now_ms)
    nearest = (
        retrieval.nearest(user_vector, allowed, limit)
        if retrieval.nearest
        else exact_nearest(retrieval.item_vectors, user_vector, allowed, limit)
    )
    return merge([*sources, (USER_VECTOR, nearest)], user_vector, retrieval.item_vectors, limit)


def exact_nearest(
    item_vectors: NDArray[np.float32], user_vector: NDArray[np.float32], allowed: NDArray[np.bool_], limit: int
) -> NDArray[np.int64]:
    """The allowed items with the highest product with the user vector, best first; ties by item index."""
    scores = np.where(allowed, item_vectors @ user_vector, np.float32(-np.inf))
    return _best(scores, min(limit, int(allowed.sum())))


def all_nearest(
    item_vectors: NDArray[np.float32], user_vectors: NDArray[np.float32], limit: int
) -> list[NDArray[np.int64]]:
    """`exact_nearest` of each user among all items: many users at once read a large catalogue from memory once.

    user_vectors: float32 [Q, d].
    """
    block, limit = max(1, _BLOCK_CELLS // max(len(item_vectors), 1)), min(limit, len(item_vectors))
    starts = range(0, len(user_vectors), block)
    blocks = (user_vectors[start : start + block] @ item_vectors.T for start in starts)  # [b, N]
    return [_best(scores, limit) for of_block in blocks for scores in of_block]


def _best(scores: NDArray[np.float32], limit: int) -> NDArray[np.int64]:
    """Positions of the `limit` highest scores, best first; ties by position."""
    if not limit:
        return np.empty(0, np.int64)
    chunks = len(scores) // _CHUNK
    if chunks <= limit:
        reached = np.partition(scores, -limit)[-limit]
    else:  # that many chunks hold a score that reaches it, so the best reach it too: few items are left to be sorted
        largest = scores[: chunks * _CHUNK].reshape(chunks, _CHUNK).max(axis=1)
        reached = np.partition(largest, -limit)[-limit]
    found = np.flatnonzero(scores >= reached)
    return found[np.argsort(-scores[found], kind="stable")][:limit]


def ranker_input(
    dataset: Dataset, retrieval: Retrieval, who: UserMoment, found: Candidates
) -> tuple[UserFeatures, NDArray[np.float32]]:
    """The features of one request: the user's, and cross float32 [n, c]."""
    cross = cross_features(found.items, found.scores, who.history, retrieval.tables, who.now_ms)
    return who.features(dataset.schema), cross
