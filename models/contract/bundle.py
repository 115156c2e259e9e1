"""Opening a bundle: verify it, then memory-map its arrays. The graphs and the index are left to who runs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.contract.columns import BytesColumn
from models.contract.items import ItemTable
from models.contract.manifest import BundleError, Manifest
from models.contract.ragged import padded
from models.contract.schema import Schema
from models.contract.tables import (
    DTYPES,
    INT_TYPES,
    SIMILARITY_DTYPES,
    Precision,
    RowTable,
    SimilarityPrecision,
    read_similarity,
)
from models.contract.verify import verify_bundle

__all__ = ["Bundle", "BundleError", "Manifest", "open_bundle", "verify_bundle"]

USER_TOWER = "retrieval/user_tower.onnx"
ITEM_VECTORS = "retrieval/item_vectors.npy"
ITEM_VECTOR_SCALES = "retrieval/item_vectors.scales.npy"
INDEX = "retrieval/index.faiss"
RANKING_USER = "ranking/user.onnx"
RANKING_HEAD = "ranking/head.onnx"
ITEM_PART = "ranking/item_part.npy"
NEIGHBOURS = "neighbours.npy"
NEIGHBOURS_SIMILARITY = "neighbours_similarity.npy"
NEIGHBOURS_COUNT = "neighbours_count.npy"  # only where the other two are without padding
POPULAR = "fallback/popular.npy"
ITEMS = "items"
ITEM_TABLES = "item_tables"
MODEL_CARD = "model_card.md"
COMPRESSION_PICTURE = "compression.png"  # of the model card; only where compression was measured

OFFSET_TYPES: Final[Sequence[type[np.generic]]] = (np.uint8, np.uint16, np.uint32, np.uint64, np.int64)
# name of the file, what it holds, the types it may have, its shape
Expected = tuple[str, NDArray[Any], Sequence[type[np.generic]], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle of N items. Arrays are read-only views of the files, shared by all processes that open it; only
    similarities in fp8 (as float16) and neighbours without padding (padded) are arrays of their own in each process.

    item_vectors: N rows of d numbers.  neighbours: signed integers [N, m], item indices, most similar first, -1 for
    none.  neighbours_similarity: float32 or float16 [N, m].  popular: integers [p], item indices, best first.
    item_part: [N, h], of the type that the ranking head takes; None in a bundle without a ranker, which then has no
    ranking graphs either.
    tables: arrays of item_tables/ by file name without suffix, which the cross features read.
    user_tower, ranking_user, ranking_head: ONNX files.  index: a FAISS file over item_vectors, inner product.
    """

    path: Path
    manifest: Manifest
    items: ItemTable
    item_vectors: RowTable
    neighbours: NDArray[Any]
    neighbours_similarity: NDArray[Any]
    popular: NDArray[Any]
    item_part: NDArray[Any] | None
    tables: dict[str, NDArray[Any]]

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def schema(self) -> Schema:
        return self.manifest.data_schema

    @property
    def num_items(self) -> int:
        return len(self.items)

    @property
    def user_tower(self) -> Path:
        return self.path / USER_TOWER

    @property
    def ranking_user(self) -> Path:
        return self.path / RANKING_USER

    @property
    def ranking_head(self) -> Path:
        return self.path / RANKING_HEAD

    @property
    def index(self) -> Path:
        return self.path / INDEX


def open_bundle(path: Path) -> Bundle:
    """Verify the bundle in this folder and memory-map its arrays. Raises BundleError."""
    manifest = verify_bundle(path)
    schema = manifest.data_schema
    tables = [PurePosixPath(name) for name in manifest.files if name.startswith(f"{ITEM_TABLES}/")]
    try:
        bundle = Bundle(
            path=path,
            manifest=manifest,
            items=ItemTable.load(path / ITEMS, schema.returned, schema.filterable),
            item_vectors=RowTable(_array(path, ITEM_VECTORS), _scales(path, manifest)),
            neighbours=_array(path, NEIGHBOURS),
            neighbours_similarity=_array(path, NEIGHBOURS_SIMILARITY),
            popular=_array(path, POPULAR),
            item_part=_array(path, ITEM_PART) if manifest.ranking else None,
            tables={name.stem: _array(path, str(name)) for name in tables},
        )
    except FileNotFoundError as error:  # the hashes hold, so the exporter left it out
        missing = Path(error.filename).relative_to(path).as_posix()
        raise BundleError(missing, "is needed but the manifest does not name it; export the bundle again") from error
    count = _count(path, bundle.num_items) if NEIGHBOURS_COUNT in manifest.files else None
    _check_shapes(bundle, None if count is None else int(count.sum(dtype=np.int64)))
    neighbours, similarity = bundle.neighbours, read_similarity(bundle.neighbours_similarity)
    if count is not None:
        if not np.all((neighbours >= 0) & (neighbours < bundle.num_items)):
            raise BundleError(NEIGHBOURS, "holds an index that no item has; export the bundle again")
        neighbours, similarity = padded(count, neighbours, -1), padded(count, similarity, 0)
    return replace(bundle, neighbours=neighbours, neighbours_similarity=similarity)


def _array(path: Path, name: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path / name, mmap_mode="r", allow_pickle=False)
    except ValueError as error:  # also for object arrays, which would need pickle
        raise BundleError(name, "cannot be read as an array; export the bundle again") from error
    return array


def _scales(path: Path, manifest: Manifest) -> NDArray[np.float32] | None:
    return _array(path, ITEM_VECTOR_SCALES) if precision_of(manifest, ITEM_VECTORS) == "int8" else None


def precision_of(manifest: Manifest, table: str) -> Precision | SimilarityPrecision:
    return manifest.tables[table].precision if table in manifest.tables else "fp32"


def _count(path: Path, num_items: int) -> NDArray[np.uint8]:
    count = _array(path, NEIGHBOURS_COUNT)
    _check_array(NEIGHBOURS_COUNT, count, [np.uint8], (num_items,))
    return count


def _check_shapes(bundle: Bundle, num_neighbours: int | None) -> None:
    """A bundle put together wrongly is refused at load, not at the first request that touches the wrong row.

    num_neighbours: of all items together where they are stored without padding.
    """
    if bundle.manifest.index.from_vectors and bundle.item_vectors.scales is None:
        raise BundleError(
            ITEM_VECTORS, "is not int8, and the index is to be made of its codes; export the bundle again"
        )
    num_items, manifest, items = bundle.num_items, bundle.manifest, bundle.items
    index_types = [kind for kind in INT_TYPES[True] if np.iinfo(kind).max >= num_items - 1]
    width = bundle.neighbours.shape[1] if bundle.neighbours.ndim == 2 else 0
    neighbours = (num_items, width) if num_neighbours is None else (num_neighbours,)
    expected: list[Expected] = [
        ("items/hashes.npy", items.hashes, [np.uint64], (num_items,)),
        *_of_column("items/ids", items.ids, num_items),
        (
            ITEM_VECTORS,
            bundle.item_vectors.stored,
            _stored(manifest, ITEM_VECTORS, DTYPES),
            (num_items, manifest.retrieval.dim),
        ),
        (NEIGHBOURS, bundle.neighbours, index_types, neighbours),
        (
            NEIGHBOURS_SIMILARITY,
            bundle.neighbours_similarity,
            _stored(manifest, NEIGHBOURS_SIMILARITY, SIMILARITY_DTYPES),
            neighbours,
        ),
        (POPULAR, bundle.popular, index_types, (bundle.popular.size,)),
    ]
    if bundle.item_vectors.scales is not None:
        expected.append((ITEM_VECTOR_SCALES, bundle.item_vectors.scales, [np.float32], (manifest.retrieval.dim,)))
    if manifest.ranking is not None and bundle.item_part is not None:
        taken = [np.dtype(tensor.dtype).type for tensor in manifest.ranking.tensors if tensor.name == "item_part"]
        expected.append((ITEM_PART, bundle.item_part, taken, (num_items, manifest.ranking.item_part_dim)))
    for name, column in items.fields.items():
        expected += _of_column(f"items/fields/{name}", column, num_items)
    for name, (codes, _) in items.filters.items():
        expected.append((f"items/filters/{name}.npy", codes, INT_TYPES[True], (num_items,)))
    for one in expected:
        _check_array(*one)


def _check_array(name: str, array: NDArray[Any], dtypes: Sequence[type[np.generic]], shape: tuple[int, ...]) -> None:
    if array.dtype not in dtypes or array.shape != shape:
        wanted = " or ".join(str(np.dtype(dtype)) for dtype in dtypes)
        reason = f"is {array.dtype} {list(array.shape)} instead of {wanted} {list(shape)}"
        raise BundleError(name, f"{reason}; export the bundle again")


def _stored(manifest: Manifest, table: str, types: Mapping[Any, type[np.generic]]) -> Sequence[type[np.generic]]:
    """types: by precision, of those that this table may have."""
    precision = precision_of(manifest, table)
    if precision not in types:
        raise BundleError(
            table, f"cannot be stored as {precision}, only as {', '.join(types)}; export the bundle again"
        )
    return [types[precision]]


def _of_column(name: str, column: BytesColumn, num_items: int) -> list[Expected]:
    """Either an offset for each item, or a code for each item and an offset for each distinct value."""
    if column.codes is None:
        return [(f"{name}.offsets.npy", column.offsets, OFFSET_TYPES, (num_items + 1,))]
    return [
        (f"{name}.codes.npy", column.codes, INT_TYPES[False], (num_items,)),
        (f"{name}.offsets.npy", column.offsets, OFFSET_TYPES, (column.offsets.size,)),
    ]
