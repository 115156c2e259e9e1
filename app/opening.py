"""Opening a bundle: verified, its arrays mapped, its ONNX sessions and its FAISS index made."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import onnxruntime

from app.engine import Engine, Ranking
from app.filters import MaskCache
from app.kept import Kept
from models.contract.bundle import Bundle, BundleError, open_bundle
from models.contract.features import ItemTables
from models.contract.tables import RowTable

MAPPED = faiss.IO_FLAG_MMAP_IFC


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
