"""Real requests of the validation window: to calibrate int8 with, and to measure what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from export.gates import int8_gates
from export.graphs import Feed, open_session, run
from export.measure import mean_overlap
from models import metrics
from models.contract.candidates import Candidates
from models.contract.manifest import Gate
from models.contract.schema import Schema
from models.contract.user_inputs import user_inputs
from models.data.dataset import Dataset
from models.offline import (
    Retrieval,
    UserMoment,
    candidates,
    exact_nearest,
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


def tower_gates(asked: Requests, fp32: bytes, int8: bytes) -> list[Gate]:
    """int8 against fp32: the exact top 10 of the whole catalogue by each graph's user vectors."""
    before, after = (_nearest_lists(asked, open_session(graph)) for graph in (fp32, int8))
    return _compare("user_tower", asked, before, after, range(len(asked.users)))


def _nearest_lists(asked: Requests, session: ort.InferenceSession) -> NDArray[np.int64]:
    items = asked.retrieval.item_vectors
    allowed = np.ones(len(items), np.bool_)
    vectors = [run(session, feed)[0] for feed in asked.tower_feeds()]
    return _padded([exact_nearest(items, vector, allowed, K) for vector in vectors])


@dataclass(frozen=True, slots=True)
class RankedRequests:
    """Each request twice: with seen items among the candidates, and without."""

    asked: Requests
    found: list[Candidates]
    owners: list[int]
    users: list[Feed]
    cross: list[NDArray[np.float32]]

    def head_feeds(self, user_rows: Sequence[NDArray[np.float32]], item_part: NDArray[np.float32]) -> list[Feed]:
        """user_rows: float32 [1, u] of each request.  item_part: float32 [N, h]."""
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
    for number, (who, vector) in enumerate(zip(asked.moments, asked.vectors, strict=True)):
        for include_seen in (True, False):
            found = candidates(asked.retrieval, who, vector, include_seen)
            features, cross = ranker_input(dataset, asked.retrieval, who, found)
            result.found.append(found)
            result.owners.append(number)
            result.users.append(user_inputs(user_names, history_length, [who.history], [features]))
            result.cross.append(cross[:, :num_cross])
    return result


def ranking_gates(
    name: str,
    ranked: RankedRequests,
    fp32: tuple[bytes, bytes],
    int8: tuple[bytes, bytes],
    item_part: NDArray[np.float32],
) -> list[Gate]:
    """int8 against fp32: the top 10 of the candidates, by the pair (user graph, head) of each precision."""
    before, after = (_ranked_lists(ranked, graphs, item_part) for graphs in (fp32, int8))
    return _compare(name, ranked.asked, before, after, ranked.owners)


def user_rows(ranked: RankedRequests, graph: bytes) -> list[NDArray[np.float32]]:
    session = open_session(graph)
    return [run(session, feed) for feed in ranked.users]


def _ranked_lists(
    ranked: RankedRequests, graphs: tuple[bytes, bytes], item_part: NDArray[np.float32]
) -> NDArray[np.int64]:
    user_graph, head = graphs
    session = open_session(head)
    feeds = ranked.head_feeds(user_rows(ranked, user_graph), item_part)
    orders = [np.argsort(-run(session, feed), kind="stable")[:K] for feed in feeds]
    return _padded([found.items[order] for found, order in zip(ranked.found, orders, strict=True)])


def _padded(lists: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    padded = np.full((len(lists), K), -1, np.int64)
    for row, items in enumerate(lists):
        padded[row, : len(items)] = items
    return padded


def _compare(
    name: str,
    asked: Requests,
    fp32: NDArray[np.int64],
    int8: NDArray[np.int64],
    owners: Sequence[int],
) -> list[Gate]:
    """owners: of each list, the position of its user in `asked`."""
    targets = [asked.targets[owner] for owner in owners]
    offsets = np.cumsum([0, *(len(items) for items in targets)]).astype(np.int64)
    counts, items = np.diff(offsets), np.concatenate(targets)
    ndcg = [float(metrics.ndcg(metrics.find_hits(lists, offsets, items), counts, K).mean()) for lists in (fp32, int8)]
    return int8_gates(name, ndcg[0], ndcg[1], mean_overlap(fp32, int8))
