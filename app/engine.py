"""A verified bundle, ready to compute: the only place where ONNX sessions and the FAISS index are opened and run."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.filters import NOTHING, Allowed, Mask, MaskCache
from app.kept import Kept
from models.contract.bundle import Bundle, BundleError, open_bundle
from models.contract.features import ItemTables, UserFeatures
from models.contract.fetching import fetches
from models.contract.history import History, tower_input
from models.contract.kernels.chosen import kernels
from models.contract.tables import RowTable
from models.contract.user_inputs import reads_features, user_inputs

MAPPED = faiss.IO_FLAG_MMAP_IFC
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


def open_engine(path: Path, filter_cache_bytes: int, user_vector_bytes: int = 0) -> Engine:
    """Verify the bundle in this folder and open its graphs and index. Raises BundleError with the file's name.

    filter_cache_bytes, user_vector_bytes: bounds of what is kept between requests.
    """
    bundle = _plain(open_bundle(path))
    affinity = bundle.tables.get("affinity")
    return Engine(
        bundle=bundle,
        tables=ItemTables(
            neighbours=bundle.neighbours,
            similarity=bundle.neighbours_similarity,
            affinity=affinity if affinity is not None else np.zeros((bundle.num_items, 0), np.int32),
        ),
        masks=MaskCache(bundle.items.filters, filter_cache_bytes),
        marks=np.zeros(bundle.num_items, np.bool_),
        index=_index(bundle),
        user_tower=_session(bundle, bundle.user_tower),
        tower_inputs=frozenset(tensor.name for tensor in bundle.manifest.retrieval.tensors),
        kept_vectors=Kept(user_vector_bytes),
        ranking=_ranking(bundle),
    )


def _ranking(bundle: Bundle) -> Ranking | None:
    info = bundle.manifest.ranking
    if bundle.item_part is None or info is None:
        return None
    return Ranking(
        user=_session(bundle, bundle.ranking_user),
        head=_session(bundle, bundle.ranking_head),
        user_inputs=frozenset(tensor.name for tensor in info.tensors),
        history_length=info.history_length,
        item_part=bundle.item_part,
    )


def _plain(bundle: Bundle) -> Bundle:
    """The same memory under plain arrays: np.memmap costs microseconds at every indexing."""
    names = ("neighbours", "neighbours_similarity", "popular", "item_part")
    arrays = {name: getattr(bundle, name) for name in names}
    plain: dict[str, Any] = {name: array.view(np.ndarray) for name, array in arrays.items() if array is not None}
    plain |= {"items": bundle.items.unmapped(), "item_vectors": bundle.item_vectors.unmapped()}
    plain["tables"] = {name: table.view(np.ndarray) for name, table in bundle.tables.items()}
    return replace(bundle, **plain)


def _index(bundle: Bundle) -> Any:
    try:
        info, vectors = bundle.manifest.index, bundle.item_vectors
        # Mapped where FAISS can, and shared by all workers: the bytes are those that were verified, since nobody
        # changes a bundle (docs/bundle.md).
        index = _index_of_codes(vectors) if info.from_vectors else faiss.read_index(str(bundle.index), MAPPED)
        space = faiss.ParameterSpace()
        for name, value in info.parameters.items():
            space.set_index_parameter(index, name, value)
    except RuntimeError as error:
        raise BundleError(bundle.index.name, "FAISS cannot read it; export the bundle again") from error
    if (index.ntotal, index.d) != bundle.item_vectors.shape:
        shape = list(bundle.item_vectors.shape)
        raise BundleError(bundle.index.name, f"holds [{index.ntotal}, {index.d}] instead of {shape}; export again")
    return index


def _index_of_codes(item_vectors: RowTable) -> Any:
    """An SQ8 index with the item vectors' own codes: a search gives exactly the products with those rows."""
    ranges, unsigned = item_vectors.sq8()
    index: Any = faiss.index_factory(item_vectors.shape[1], "SQ8", faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(ranges, index.sq.trained)
    index.is_trained = True
    index.add_sa_codes(unsigned)
    return index


def _session(bundle: Bundle, path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # one process per core; two threads were no faster and took twice the CPU
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    # large tables lie in a file beside the graph, and are mapped like the index
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen types without a common one of its own
        name = path.relative_to(bundle.path).as_posix()
        raise BundleError(name, "onnxruntime cannot load it; export the bundle again") from error


def _key(history: History, length: int) -> bytes:
    """Of what the user tower is fed with; 16 bytes, so that of two histories none is taken for the other."""
    row, ordinals = tower_input(history, length)
    digest = blake2b(row.data, digest_size=16)
    digest.update(ordinals.data)
    return digest.digest()


def _run(session: onnxruntime.InferenceSession, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = session.run(None, inputs)[0]
    return result
