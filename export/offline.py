"""The evaluation's systems on an exported bundle: its int8 graphs and its index, over users of the prepared data."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from export.graphs import Feed, open_session, run
from export.index import index_of_codes
from export.index_measure import one_thread
from models.contract.bundle import Bundle
from models.contract.candidates import Candidates
from models.contract.features import ItemTables
from models.contract.fetching import fetches
from models.contract.user_inputs import user_inputs
from models.data.dataset import Dataset
from models.evaluate_ranker import Scored
from models.offline import (
    Retrieval,
    UserMoment,
    candidates,
    exact_nearest,
    moments,
    ranker_input,
    seen_items,
    user_vectors,
)
from models.targets import Mode

Order = Literal["retrieval", "user_vector", "ranking"]


@dataclass(frozen=True, slots=True)
class BundleModels:
    """A bundle opened for offline use. Build with `open_models`."""

    dataset: Dataset
    bundle: Bundle
    retrieval: Retrieval
    ranking: "tuple[ort.InferenceSession, ort.InferenceSession] | None"
    _cache: dict[tuple[int, int, bool], "Listed"] = field(default_factory=dict)

    def listed(self, users: Sequence[int], now_ms: int, include_seen: bool) -> list["Listed"]:
        """Candidates with both scores, for users whose state is of now_ms; remembered, as several systems ask."""
        if self._cache and next(iter(self._cache))[1] != now_ms:
            self._cache.clear()  # one moment at a time, or the next baskets of everyone would be kept
        missing = [user for user in users if (user, now_ms, include_seen) not in self._cache]
        found = moments(self.dataset, missing, now_ms)
        vectors = user_vectors(self.dataset.schema, self.retrieval, found)
        for user, who, vector in zip(missing, found, vectors, strict=True):
            self._cache[user, now_ms, include_seen] = self._listed(who, vector, include_seen)
        return [self._cache[user, now_ms, include_seen] for user in users]

    def _listed(self, who: UserMoment, vector: NDArray[np.float32], include_seen: bool) -> "Listed":
        picked = candidates(self.retrieval, who, vector, include_seen)
        info = self.bundle.manifest.ranking
        if self.ranking is None or self.bundle.item_part is None or info is None:
            return Listed(picked, picked.scores, vector, who)
        user_graph, head = self.ranking
        features, cross = ranker_input(self.dataset, self.retrieval, who, picked)
        names = {tensor.name for tensor in info.tensors}
        user = run(user_graph, user_inputs(names, info.history_length, [who.history], [features]))
        feed: Feed = {
            "user": user,
            "item_part": np.ascontiguousarray(self.bundle.item_part[picked.items]),
            "cross": cross[:, : len(info.cross_features)],
            "row_user": np.zeros(len(picked), np.int64),
        }
        return Listed(picked, run(head, feed), vector, who)


@dataclass(frozen=True, slots=True)
class Listed:
    """One request: candidates, their ranking scores float32 [n] (without a ranker the retrieval scores), the user
    vector float32 [d], the state."""

    candidates: Candidates
    ranking: NDArray[np.float32]
    vector: NDArray[np.float32]
    who: UserMoment


@dataclass(frozen=True, slots=True)
class BundleSystem:
    """Lists in one order: `user_vector` is the user vector against the whole catalogue, exactly; `retrieval` the
    candidates of all sources by retrieval score; `ranking` the same candidates as ranked, which is what is served."""

    models: BundleModels
    split_ms: int
    order: Order

    def __call__(self, users: NDArray[np.int64], mode: Mode, k: int) -> NDArray[np.int64]:
        """int64 [U, k], padded with -1, with the state as of the split."""
        return self.at(users, np.full(len(users), self.split_ms, np.int64), mode, k)

    def at(self, users: NDArray[np.int64], state_times_ms: NDArray[np.int64], mode: Mode, k: int) -> NDArray[np.int64]:
        """The same with the state of each row at its own time."""
        lists = np.full((len(users), k), -1, np.int64)
        for now_ms in np.unique(state_times_ms):
            rows = np.flatnonzero(state_times_ms == now_ms)
            found = self.models.listed(users[rows].tolist(), int(now_ms), include_seen=mode == "all")
            for row, one in zip(rows, found, strict=True):
                items = self._top(one, mode, k)
                lists[row, : len(items)] = items
        return lists

    def _top(self, one: Listed, mode: Mode, k: int) -> NDArray[np.int64]:
        if self.order == "user_vector":
            allowed = np.ones(self.models.dataset.num_items, np.bool_)
            if mode == "new":
                allowed[seen_items(one.who.state, self.models.retrieval.item_hashes)] = False
            return exact_nearest(self.models.retrieval.item_vectors, one.vector, allowed, k)
        scores = one.ranking if self.order == "ranking" else one.candidates.scores
        return one.candidates.items[np.argsort(-scores, kind="stable")[:k]]

    def scored(self, users: NDArray[np.int64], mode: Mode) -> Scored:
        """The candidates with their ranking logits, for AUC, log-loss and calibration."""
        found = self.models.listed(users.tolist(), self.split_ms, include_seen=mode == "all")
        offsets = np.cumsum([0, *(len(one.candidates) for one in found)]).astype(np.int64)
        items = np.concatenate([one.candidates.items for one in found])
        return Scored(offsets, items, np.concatenate([one.ranking for one in found]))


def open_models(dataset: Dataset, bundle: Bundle) -> BundleModels:
    """Raises ValueError when the bundle is of other data."""
    if bundle.manifest.data_fingerprint != dataset.fingerprint:
        raise ValueError(f"bundle {bundle.version} was made from other data than {dataset.folder}; export again")
    tower = _open(bundle.user_tower)
    if bundle.manifest.index.from_vectors:
        index = index_of_codes(bundle.item_vectors)
    else:
        index = faiss.deserialize_index(np.frombuffer(bundle.index.read_bytes(), np.uint8))
    item_vectors = np.array(bundle.item_vectors[:])
    retrieval = Retrieval(
        tower=lambda inputs: run(tower, inputs),
        history_length=bundle.manifest.retrieval.history_length,
        item_hashes=np.asarray(bundle.items.hashes),
        item_vectors=item_vectors,
        tables=ItemTables(bundle.neighbours, bundle.neighbours_similarity, bundle.tables["affinity"]),
        popular=np.asarray(bundle.popular),
        nearest=lambda vector, allowed, limit: nearest_allowed(index, item_vectors, vector, allowed, limit),
        tower_inputs=tuple(value.name for value in tower.get_inputs()),
    )
    graphs = (bundle.ranking_user, bundle.ranking_head) if bundle.manifest.ranking else None
    ranking = (_open(graphs[0]), _open(graphs[1])) if graphs else None
    return BundleModels(dataset, bundle, retrieval, ranking)


def _open(path: Path) -> ort.InferenceSession:
    return open_session(path.read_bytes(), path.parent)


def nearest_allowed(
    index: Any,
    item_vectors: NDArray[np.float32],
    vector: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    limit: int,
) -> NDArray[np.int64]:
    """What the service finds: the index's nearest allowed items, or the exact ones where that does not suffice."""
    num_allowed = int(np.count_nonzero(allowed))
    for fetch in fetches(len(allowed), num_allowed, limit):
        with one_thread():
            _, found = index.search(vector[None, :], fetch)  # [1, d] -> [1, fetch], -1 past the end
        kept = found[0][found[0] >= 0]
        nearest: NDArray[np.int64] = kept[allowed[kept]][:limit]
        if len(nearest) == min(limit, num_allowed):
            return nearest
    return exact_nearest(item_vectors, vector, allowed, limit)
