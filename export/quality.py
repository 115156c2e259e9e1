"""Real requests of the validation window: to calibrate int8 with, and to measure what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from export.gates import Lost
from export.graphs import Feed, open_session, run
from export.measure import mean_overlap
from models import metrics
from models.contract.candidates import NUM_RANKED, Candidates
from models.contract.schema import Schema
from models.contract.user_inputs import user_inputs
from models.data.dataset import Dataset
from models.offline import (
    Retrieval,
    UserMoment,
    all_nearest,
    candidates,
    moments,
    ranker_input,
    tower_inputs,
    user_vectors,
)
from models.targets import Window, window_targets

MAX_USERS = 512
K = 10


@dataclass(frozen=True, slots=True)
class Requests:
    """Q users of the validation window as the service would find them at its start, and the items they then took.

    targets: int64 each, by user.  vectors: float32 [Q, d], user vectors of the torch model.
    """

    users: list[int]
    moments: list[UserMoment]
    targets: list[NDArray[np.int64]]
    vectors: NDArray[np.float32]
    retrieval: Retrieval
    schema: Schema

    def tower_feeds(self) -> list[Feed]:
        return [tower_inputs(self.schema, self.retrieval, [who]) for who in self.moments]


def requests(dataset: Dataset, retrieval: Retrieval) -> Requests:
    """At most MAX_USERS users, spread evenly. Raises ValueError when the validation window has none."""
    targets = window_targets(dataset, Window.validation(dataset), "all")
    if not len(targets):
        raise ValueError("the validation window has no user who was known before: int8 cannot be judged; use more data")
    rows = np.unique(np.linspace(0, len(targets) - 1, min(MAX_USERS, len(targets))).astype(np.int64))
    users = targets.users[rows].tolist()
    found = moments(dataset, users, dataset.splits.valid_start_ms)
    return Requests(
        users=users,
        moments=found,
        targets=[targets.items[targets.offsets[row] : targets.offsets[row + 1]] for row in rows],
        vectors=user_vectors(dataset.schema, retrieval, found),
        retrieval=retrieval,
        schema=dataset.schema,
    )


def tower_loss(asked: Requests, fp32: bytes, smaller: bytes) -> Lost:
    """By the exact top 10 of the whole catalogue for each graph's user vectors."""
    before, after = (_tower_lists(asked, open_session(graph)) for graph in (fp32, smaller))
    return compare(asked, before, after, range(len(asked.users)))


def vectors_loss(asked: Requests, smaller: NDArray[np.float32]) -> Lost:
    """By the exact top 10 of the whole catalogue with each table of item vectors, float32 [N, d]."""
    before, after = (_nearest_lists(table, asked.vectors) for table in (asked.retrieval.item_vectors, smaller))
    return compare(asked, before, after, range(len(asked.users)))


def _tower_lists(asked: Requests, session: ort.InferenceSession) -> NDArray[np.int64]:
    vectors = np.concatenate([run(session, feed) for feed in asked.tower_feeds()])
    return _nearest_lists(asked.retrieval.item_vectors, vectors)


def _nearest_lists(item_vectors: NDArray[np.float32], users: NDArray[np.float32]) -> NDArray[np.int64]:
    return padded(all_nearest(item_vectors, users, K))


class RankingParts(NamedTuple):
    """user, head: ONNX.  item_part: [N, h], of the type that the head takes."""

    user: bytes
    head: bytes
    item_part: NDArray[Any]


@dataclass(frozen=True, slots=True)
class RankedRequests:
    """Each request twice: with seen items among the candidates, and without."""

    asked: Requests
    found: list[Candidates]
    owners: list[int]
    users: list[Feed]
    cross: list[NDArray[np.float32]]

    def head_feeds(self, user_rows: Sequence[NDArray[np.float32]], item_part: NDArray[Any]) -> list[Feed]:
        """user_rows: float32 [1, u] of each request.  item_part: [N, h], of the type that the head takes."""
        return [
            {
                "user": user,
                "item_part": item_part[found.items],
                "cross": cross,
                "row_user": np.zeros(len(found), np.int64),
            }
            for user, found, cross in zip(user_rows, self.found, self.cross, strict=True)
        ]


def ranked_requests(
    dataset: Dataset, asked: Requests, num_cross: int, user_names: Sequence[str], history_length: int
) -> RankedRequests:
    """num_cross: cross features that the ranker takes: all of them, or none.  user_names: what its user graph takes.
    history_length: positions of the history, where that is among them."""
    result = RankedRequests(asked, [], [], [], [])
    retrieval = asked.retrieval
    fetched = NUM_RANKED + max(len(who.state.seen_hashes) for who in asked.moments)  # enough when the seen are dropped
    near = all_nearest(retrieval.item_vectors, asked.vectors, fetched)
    for number, (who, vector) in enumerate(zip(asked.moments, asked.vectors, strict=True)):
        known = replace(retrieval, nearest=partial(_allowed_of, near[number]))
        for include_seen in (True, False):
            found = candidates(known, who, vector, include_seen)
            features, cross = ranker_input(dataset, asked.retrieval, who, found)
            result.found.append(found)
            result.owners.append(number)
            result.users.append(user_inputs(user_names, history_length, [who.history], [features]))
            result.cross.append(cross[:, :num_cross])
    return result


def _allowed_of(
    near: NDArray[np.int64], vector: NDArray[np.float32], allowed: NDArray[np.bool_], limit: int
) -> NDArray[np.int64]:
    return near[allowed[near]][:limit]


def ranking_loss(ranked: RankedRequests, before: RankingParts, after: RankingParts) -> Lost:
    """By the top 10 of the same candidates."""
    lists = [ranked_lists(ranked, parts) for parts in (before, after)]
    return compare(ranked.asked, lists[0], lists[1], ranked.owners)


def user_rows(ranked: RankedRequests, graph: bytes) -> list[NDArray[np.float32]]:
    session = open_session(graph)
    return [run(session, feed) for feed in ranked.users]


def ranked_lists(ranked: RankedRequests, parts: RankingParts) -> NDArray[np.int64]:
    """The best K candidates of each request, int64 [2 Q, K]."""
    session = open_session(parts.head)
    feeds = ranked.head_feeds(user_rows(ranked, parts.user), parts.item_part)
    orders = [np.argsort(-run(session, feed), kind="stable")[:K] for feed in feeds]
    return padded([found.items[order] for found, order in zip(ranked.found, orders, strict=True)])


def padded(lists: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """int64 [Q, K], -1 past the end of a list."""
    padded = np.full((len(lists), K), -1, np.int64)
    for row, items in enumerate(lists):
        padded[row, : len(items)] = items
    return padded


def compare(asked: Requests, before: NDArray[np.int64], after: NDArray[np.int64], owners: Sequence[int]) -> Lost:
    """owners: of each list, the position of its user in `asked`."""
    targets = [asked.targets[owner] for owner in owners]
    offsets = np.cumsum([0, *(len(items) for items in targets)]).astype(np.int64)
    counts, items = np.diff(offsets), np.concatenate(targets)
    ndcg = [
        float(metrics.ndcg(metrics.find_hits(lists, offsets, items), counts, K).mean()) for lists in (before, after)
    ]
    return Lost(ndcg[0], ndcg[1], mean_overlap(before, after))
