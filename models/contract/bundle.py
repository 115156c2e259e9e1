"""Opening a bundle: verify it, then memory-map its arrays. The graphs and the index are left to who runs them."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract.items import ItemTable
from models.contract.manifest import BundleError, Manifest
from models.contract.schema import Schema
from models.contract.verify import verify_bundle

__all__ = ["Bundle", "BundleError", "Manifest", "open_bundle", "verify_bundle"]

USER_TOWER = "retrieval/user_tower.onnx"
ITEM_VECTORS = "retrieval/item_vectors.npy"
INDEX = "retrieval/index.faiss"
RANKING_USER = "ranking/user.onnx"
RANKING_HEAD = "ranking/head.onnx"
ITEM_PART = "ranking/item_part.npy"
NEIGHBOURS = "neighbours.npy"
NEIGHBOURS_SIMILARITY = "neighbours_similarity.npy"
POPULAR = "fallback/popular.npy"
ITEMS = "items"
ITEM_TABLES = "item_tables"
MODEL_CARD = "model_card.md"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle of N items. Arrays are read-only views of the files, shared by all processes that open it.

    item_vectors: float32 [N, d].  neighbours: int32 [N, m], item indices, most similar first, -1 for none.
    neighbours_similarity: float32 [N, m].  popular: int64 [p], item indices, best first.  item_part: float32 [N, h],
    None in a bundle without a ranker, which then has no ranking graphs either.
    tables: arrays of item_tables/ by file name without suffix, which the cross features read.
    user_tower, ranking_user, ranking_head: ONNX files.  index: a FAISS file over item_vectors, inner product.
    """

    path: Path
    manifest: Manifest
    items: ItemTable
    item_vectors: NDArray[np.float32]
    neighbours: NDArray[np.int32]
    neighbours_similarity: NDArray[np.float32]
    popular: NDArray[np.int64]
    item_part: NDArray[np.float32] | None
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
            item_vectors=_array(path, ITEM_VECTORS),
            neighbours=_array(path, NEIGHBOURS),
            neighbours_similarity=_array(path, NEIGHBOURS_SIMILARITY),
            popular=_array(path, POPULAR),
            item_part=_array(path, ITEM_PART) if manifest.ranking else None,
            tables={name.stem: _array(path, str(name)) for name in tables},
        )
    except FileNotFoundError as error:  # the hashes hold, so the exporter left it out
        missing = Path(error.filename).relative_to(path).as_posix()
        raise BundleError(missing, "is needed but the manifest does not name it; export the bundle again") from error
    _check_shapes(bundle)
    return bundle


def _array(path: Path, name: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path / name, mmap_mode="r", allow_pickle=False)
    except ValueError as error:  # also for object arrays, which would need pickle
        raise BundleError(name, "cannot be read as an array; export the bundle again") from error
    return array


def _check_shapes(bundle: Bundle) -> None:
    """A bundle put together wrongly is refused at load, not at the first request that touches the wrong row."""
    num_items, manifest = bundle.num_items, bundle.manifest
    expected: list[tuple[str, NDArray[Any], type, tuple[int, ...]]] = [
        ("items/hashes.npy", bundle.items.hashes, np.uint64, (num_items,)),
        ("items/ids.offsets.npy", bundle.items.ids.offsets, np.int64, (num_items + 1,)),
        (ITEM_VECTORS, bundle.item_vectors, np.float32, (num_items, manifest.retrieval.dim)),
        (NEIGHBOURS, bundle.neighbours, np.int32, (num_items, *bundle.neighbours.shape[1:2])),
        (NEIGHBOURS_SIMILARITY, bundle.neighbours_similarity, np.float32, bundle.neighbours.shape),
        (POPULAR, bundle.popular, np.int64, (bundle.popular.size,)),
    ]
    if manifest.ranking is not None and bundle.item_part is not None:
        expected.append((ITEM_PART, bundle.item_part, np.float32, (num_items, manifest.ranking.item_part_dim)))
    for name, column in bundle.items.fields.items():
        expected.append((f"items/fields/{name}.offsets.npy", column.offsets, np.int64, (num_items + 1,)))
    for name, (codes, _) in bundle.items.filters.items():
        expected.append((f"items/filters/{name}.npy", codes, np.int32, (num_items,)))
    for name, array, dtype, shape in expected:
        if array.dtype != dtype or array.shape != shape:
            reason = f"is {array.dtype} {list(array.shape)} instead of {np.dtype(dtype)} {list(shape)}"
            raise BundleError(name, f"{reason}; export the bundle again")
