"""A verified bundle, ready to compute: the only place where ONNX sessions and the FAISS index are run."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.filters import NOTHING, Allowed, Mask, MaskCache
from app.kept import Kept
from models.contract.bundle import Bundle
from models.contract.features import ItemTables, UserFeatures
from models.contract.fetching import fetches
from models.contract.history import History, tower_input
from models.contract.kernels.chosen import kernels
from models.contract.user_inputs import reads_features, user_inputs

KEPT_BYTES = 450  # of a kept user vector beside its numbers: the objects around it and its key (measured)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The ranker's graphs, the names of what its user graph takes, and its row of every item, [N, h]: of the type
    that the head takes."""

    user: onnxruntime.InferenceSession
    head: onnxruntime.InferenceSession
    user_inputs: frozenset[str]
    history_length: int
    item_part: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Engine:
    """Everything a request needs of one bundle with N items; read-only but for the filter masks and the user vectors
    that are kept, and the marks of Allowed (bool [N])."""

    bundle: Bundle
    tables: ItemTables
    masks: MaskCache
    marks: Mask
    index: Any
    user_tower: onnxruntime.InferenceSession
    tower_inputs: frozenset[str]
    kept_vectors: Kept[NDArray[np.float32]]
    ranking: "Ranking | None"

    @property
    def version(self) -> str:
        return self.bundle.version

    @property
    def tower_reads_features(self) -> bool:
        return reads_features(self.tower_inputs)

    def user_vectors(self, histories: Sequence[History], features: Sequence[UserFeatures] = ()) -> NDArray[np.float32]:
        """One user vector per user, float32 [B, d].  features: may be left out unless `tower_reads_features`.

        A tower that reads the history alone gives the same vector until the history changes, so those are kept. What
        it is fed with is the key: not even an event that does not reach it makes a vector be calculated again.
        """
        length = self.bundle.manifest.retrieval.history_length
        if self.tower_reads_features:
            return _run(self.user_tower, user_inputs(self.tower_inputs, length, histories, features))
        vectors = np.empty((len(histories), self.bundle.item_vectors.shape[1]), np.float32)
        missing: dict[int, bytes] = {}
        for row, history in enumerate(histories):
            key = _key(history, length)
            kept = self.kept_vectors.get(key)
            if kept is None:
                missing[row] = key
            else:
                vectors[row] = kept
        if missing:
            inputs = user_inputs(self.tower_inputs, length, [histories[row] for row in missing], ())
            vectors[list(missing)] = made = _run(self.user_tower, inputs)
            for key, vector in zip(missing.values(), made, strict=True):
                self.kept_vectors.put(key, vector.copy(), vector.nbytes + KEPT_BYTES)  # a view would hold the batch
        return vectors

    def nearest(
        self, user_vectors: NDArray[np.float32], allowed: Sequence[Allowed], limits: Sequence[int]
    ) -> list[NDArray[np.int64]]:
        """For each user the allowed items with the highest product with the user vector, best first, int64 [at most
        the user's limit].

        The index knows nothing of what is allowed: more is fetched (see `fetches`) and the rest dropped. Where
        that does not suffice, exactly the allowed items are scored. Users of whom equally many are fetched share a
        search where that finds what searches of their own would.
        """
        nearest: list[NDArray[np.int64]] = [NOTHING] * len(limits)
        counts = [one.count for one in allowed]
        waiting = {
            row: fetches(self.bundle.num_items, count, limit)
            for row, (count, limit) in enumerate(zip(counts, limits, strict=True))
        }
        while waiting:
            together: dict[int, list[int]] = defaultdict(list)
            for row, attempts in waiting.items():
                together[next(attempts, 0)].append(row)
            for row in together.pop(0, []):
                nearest[row] = self._exact(user_vectors[row], allowed[row].items(), limits[row])
                del waiting[row]
            for fetch, rows in together.items():
                for row, items in zip(rows, self._search(user_vectors[rows], fetch), strict=True):
                    nearest[row] = items[allowed[row][items]][: limits[row]]
                    if len(nearest[row]) == min(limits[row], counts[row]):
                        del waiting[row]
        return nearest

    def _search(self, user_vectors: NDArray[np.float32], fetch: int) -> Sequence[NDArray[np.int64]]:
        """For each user int64 [fetch], -1 past the end.

        A scan of all fast-scan codes finds another last item in a batch than alone for one user of 3,000, and gains
        nothing by it; an index of lists finds the same, a quarter faster.
        """
        if "IVF" in self.bundle.manifest.index.kind:
            together: NDArray[np.int64] = self.index.search(user_vectors, fetch)[1]
            return list(together)
        return [self.index.search(vector[None, :], fetch)[1][0] for vector in user_vectors]

    def _exact(self, user_vector: NDArray[np.float32], items: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
        scores = self.bundle.item_vectors[items] @ user_vector
        if len(items) > limit:
            best = np.argpartition(-scores, limit - 1)[:limit]
            items, scores = items[best], scores[best]
        return items[np.argsort(-scores, kind="stable")]

    def rank(
        self,
        histories: Sequence[History],
        features: Sequence[UserFeatures],
        items: Sequence[NDArray[np.int64]],
        cross: Sequence[NDArray[np.float32]],
    ) -> list[NDArray[np.float32]]:
        """Ranking scores of each user's candidates, one array float32 [n] per user.

        items: per user int64 [n].  cross: per user float32 [n, c]. Only for a bundle with a ranker.
        """
        assert self.ranking is not None
        sizes = [len(part) for part in items]
        names, length = self.ranking.user_inputs, self.ranking.history_length
        user = _run(self.ranking.user, user_inputs(names, length, histories, features))
        alone = len(sizes) == 1  # the most frequent case, in which nothing is to be joined
        inputs: dict[str, NDArray[Any]] = {
            "user": user,  # [B, u]
            # [sum n, h]
            "item_part": kernels.take_rows(self.ranking.item_part, items[0] if alone else np.concatenate(items)),
            "cross": cross[0] if alone else np.concatenate(cross),  # [sum n, c]
            "row_user": np.zeros(sizes[0], np.int64) if alone else np.repeat(np.arange(len(sizes)), sizes),  # [sum n]
        }
        scores = _run(self.ranking.head, inputs)
        return [scores] if alone else np.split(scores, np.cumsum(sizes)[:-1])


def _key(history: History, length: int) -> bytes:
    """Of what the user tower is fed with; 16 bytes, so that of two histories none is taken for the other."""
    row, ordinals = tower_input(history, length)
    digest = blake2b(row.data, digest_size=16)
    digest.update(ordinals.data)
    return digest.digest()


def _run(session: onnxruntime.InferenceSession, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = session.run(None, inputs)[0]
    return result
