"""A verified bundle, ready to compute: the only place where ONNX sessions and the FAISS index are opened and run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.filters import Allowed, Mask, MaskCache
from models.contract.bundle import Bundle, BundleError, open_bundle
from models.contract.features import ItemTables, UserFeatures
from models.contract.history import History
from models.contract.tables import RowTable
from models.contract.user_inputs import reads_features, user_inputs

MAPPED = faiss.IO_FLAG_MMAP_IFC
FEW = 4_096  # items a filter may leave for an exact search over them; also the most that is fetched to be filtered


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
    """Everything a request needs of one bundle with N items; read-only but for the cache of filter masks, and the
    marks of Allowed (bool [N])."""

    bundle: Bundle
    tables: ItemTables
    masks: MaskCache
    marks: Mask
    index: Any
    user_tower: onnxruntime.InferenceSession
    tower_inputs: frozenset[str]
    ranking: "Ranking | None"

    @property
    def version(self) -> str:
        return self.bundle.version

    @property
    def tower_reads_features(self) -> bool:
        return reads_features(self.tower_inputs)

    def user_vectors(self, histories: Sequence[History], features: Sequence[UserFeatures] = ()) -> NDArray[np.float32]:
        """One user vector per user, float32 [B, d].  features: may be left out unless `tower_reads_features`."""
        length = self.bundle.manifest.retrieval.history_length
        return _run(self.user_tower, user_inputs(self.tower_inputs, length, histories, features))

    def nearest(self, user_vector: NDArray[np.float32], allowed: Allowed, limit: int) -> NDArray[np.int64]:
        """The allowed items with the highest product with the user vector, best first, int64 [at most limit].

        The index knows nothing of what is allowed: more is fetched and the rest dropped; where few items are allowed,
        or the fetched ones do not suffice, exactly those are scored.
        """
        num_items, num_allowed = self.bundle.num_items, allowed.count
        wanted = min(limit, num_allowed)
        # Fetching all that is not allowed on top suffices for certain; twice the expected share nearly always does.
        fetch = min(limit + num_items - num_allowed, 2 * limit * num_items // max(num_allowed, 1), num_items)
        if num_allowed > min(FEW, num_items // 4) and fetch <= FEW:
            _, found = self.index.search(user_vector[None, :], fetch)  # [1, d] -> [1, fetch], -1 past the end
            kept: NDArray[np.int64] = found[0][found[0] >= 0]
            kept = kept[allowed[kept]][:limit]
            if len(kept) == wanted:
                return kept
        return self._exact(user_vector, allowed.items(), limit)

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
            "item_part": self.ranking.item_part.take(items[0] if alone else np.concatenate(items), axis=0, mode="clip"),
            "cross": cross[0] if alone else np.concatenate(cross),  # [sum n, c]
            "row_user": np.zeros(sizes[0], np.int64) if alone else np.repeat(np.arange(len(sizes)), sizes),  # [sum n]
        }
        scores = _run(self.ranking.head, inputs)
        return [scores] if alone else np.split(scores, np.cumsum(sizes)[:-1])


def open_engine(path: Path, filter_cache_bytes: int) -> Engine:
    """Verify the bundle in this folder and open its graphs and index. Raises BundleError with the file's name."""
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


def _run(session: onnxruntime.InferenceSession, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = session.run(None, inputs)[0]
    return result
