"""A small real bundle, made in about a second without training: real graphs, a real index, planted structure.

Items belong to categories, and an item's vector lies near its category's centre; the user vector is the recency
weighted mean of the history's vectors. So a user with a history in one category gets that category first, by the
index as well as by the ranker. With another seed everything numeric differs, and the ids stay.
"""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import faiss
import numpy as np
import orjson
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.write import BundleContent, RankingContent, write_bundle
from models.contract.columns import BytesColumn
from models.contract.features import cross_names, user_numeric_names
from models.contract.ids import hash_ids
from models.contract.manifest import Gate, GraphInfo, IndexInfo, RankingInfo, RetrievalInfo, Tensor
from models.contract.schema import CategoricalFeature, NumericFeature, Schema
from models.contract.tables import RowTable

CATEGORIES = ("bakery", "dairy", "fruit", "wine")
BRANDS = ("own", "national")
HISTORY_LENGTH = 20
NUM_NEIGHBOURS = 8
AS_OF_MS = 1_700_000_000_000
CREATED = datetime(2026, 11, 21, 20, 41, 7, tzinfo=UTC)
CROSS_WEIGHTS = {"retrieval_z": 1.0, "own_decayed_60d": 0.5, "neighbour_sum": 0.3, "affinity_category": 0.5}

SCHEMA = Schema(
    event_types=["view", "click", "purchase"],
    seen_types=["purchase"],
    user_features=[
        CategoricalFeature(name="segment", vocabulary=["loyal", "occasional"]),
        NumericFeature(name="age", mean=40.0, std=15.0),
    ],
    context_features=[CategoricalFeature(name="device", vocabulary=["desktop", "mobile"])],
    item_features=[
        CategoricalFeature(name="category", vocabulary=list(CATEGORIES)),
        NumericFeature(name="price", mean=5.0, std=2.0),
    ],
    returned=["title", "category", "price"],
    filterable=["category", "brand", "organic", "aisle"],
    event_context=["device"],
    affinity=["category"],
)


def tiny_item_ids(num_items: int = 120) -> list[str]:
    """Ids in order of creation: item n is of category n % 4; the last one is not ASCII."""
    return [f"i{n}" for n in range(num_items - 1)] + ["i-größe/1"]


def tiny_category(item_id: str, num_items: int = 120) -> str:
    return CATEGORIES[tiny_item_ids(num_items).index(item_id) % len(CATEGORIES)]


def write_tiny_bundle(
    bundles_dir: Path, seed: int = 0, num_items: int = 120, dim: int = 8, created: datetime = CREATED
) -> str:
    """Write a bundle and return its version; it is not made active. Bundles of different seeds differ in version."""
    with TemporaryDirectory() as folder:
        content = tiny_content(Path(folder), seed, num_items, dim)
        return write_bundle(bundles_dir, content, created).name


def tiny_content(items_folder: Path, seed: int = 0, num_items: int = 120, dim: int = 8) -> BundleContent:
    """The content of the bundle. The item table is written to `items_folder`, an empty folder."""
    rng = np.random.default_rng(seed)
    serials = _write_items(items_folder, num_items)  # item_index -> order of creation
    category = serials % len(CATEGORIES)
    centres = np.linalg.qr(rng.normal(size=(dim, dim)))[0][: len(CATEGORIES)]
    vectors = (centres[category] + 0.25 * rng.normal(size=(num_items, dim))).astype(np.float32)
    neighbours, similarity = _neighbours(vectors)
    cross = cross_names(SCHEMA)
    info = RankingInfo(
        model="tiny", user_dim=dim, item_part_dim=dim, cross_features=cross, tensors=_ranking_tensors(dim)
    )
    item_part = rng.normal(0, 0.1, (num_items, dim)).astype(np.float32)
    user_tower, ranking_user = _user_tower(vectors, rng), _ranking_user(dim, rng)
    head = _ranking_head(dim, cross).SerializeToString()
    return BundleContent(
        code_version="test",
        data_fingerprint=f"{seed:064x}",
        as_of_ms=AS_OF_MS,
        schema=SCHEMA,
        retrieval=RetrievalInfo(model="tiny", dim=dim, history_length=HISTORY_LENGTH, tensors=_retrieval_tensors(dim)),
        ranking=RankingContent(info, item_part, ranking_user.SerializeToString(), head),
        index=IndexInfo(kind="Flat", recall=1.0),
        graphs={
            f"{name}.onnx": GraphInfo(precision="fp32", why="written by hand")
            for name in ("retrieval/user_tower", "ranking/user", "ranking/head")
        },
        gates=[Gate(name="index_recall@200", value=1.0, rule="at_least", limit=0.99, passed=True)],
        items_folder=items_folder,
        item_vectors=RowTable.of(vectors, "fp32"),
        neighbours=neighbours,
        neighbours_similarity=similarity,
        popular=np.argsort(serials).astype(np.int64)[: num_items // 2],  # the oldest items sell best
        user_tower=user_tower.SerializeToString(),
        faiss_index=_index(vectors),
        item_tables={"affinity": (category[:, None] + 1).astype(np.int32)},
        metrics={"test": {"ndcg@10": 0.1 + seed / 100}},
    )


def _write_items(folder: Path, num_items: int) -> NDArray[np.int64]:
    """The files of the item table; returns each item's order of creation, int64 [N]."""
    names = tiny_item_ids(num_items)
    hashes = hash_ids(names)
    serials = np.argsort(hashes).astype(np.int64)
    category = serials % len(CATEGORIES)
    price = 1.0 + serials % 9
    titles = [None if n == 7 else f"{CATEGORIES[n % len(CATEGORIES)].title()} no. {n}" for n in serials.tolist()]
    columns: dict[str, list[Any]] = {
        "title": titles,
        "category": [CATEGORIES[code] for code in category],
        "price": price.tolist(),
    }
    filters: dict[str, tuple[NDArray[Any], list[Any]]] = {
        "category": (category, list(CATEGORIES)),
        "brand": (serials % 3 - 1, list(BRANDS)),  # every third item has no brand
        "organic": (serials % 2, [False, True]),
        "aisle": (serials % 5, [11, 12, 13, 14, 15]),
    }
    for sub in ("fields", "filters"):
        (folder / sub).mkdir(parents=True)
    np.save(folder / "hashes.npy", hashes[serials])
    BytesColumn.of(names[n].encode() for n in serials).save(folder, "ids")
    np.save(folder / "categorical.npy", (category[:, None] + 1).astype(np.int32))
    np.save(folder / "numeric.npy", ((price[:, None] - 5.0) / 2.0).astype(np.float32))
    for name, values in columns.items():
        BytesColumn.of(orjson.dumps(value) for value in values).save(folder / "fields", name)
    for name, (codes, values) in filters.items():
        np.save(folder / "filters" / f"{name}.npy", codes.astype(np.int32))
        (folder / "filters" / f"{name}.json").write_bytes(orjson.dumps(values))
    return serials


def _neighbours(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The most similar other items by cosine; the last place of every row is left empty, as with rare items."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -1.0)
    nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :NUM_NEIGHBOURS].astype(np.int32)
    similarity = np.take_along_axis(cosine, nearest.astype(np.int64), 1).clip(0.0).astype(np.float32)
    nearest[:, -1], similarity[:, -1] = -1, 0.0
    return nearest, similarity


def _index(vectors: NDArray[np.float32]) -> bytes:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    serialized: bytes = faiss.serialize_index(index).tobytes()
    return serialized


def _user_tower(vectors: NDArray[np.float32], rng: np.random.Generator) -> ModelProto:
    """Mean of the history's vectors, weighted by 1 / set_ordinal; a fixed vector where the history is empty."""
    dim = vectors.shape[1]
    constants = {
        "table": np.vstack([np.zeros((1, dim), np.float32), vectors]),
        "start": rng.normal(0, 0.01, (1, dim)).astype(np.float32),
        "zero": np.zeros((), np.int64),
        "one": np.ones((), np.int64),
        "small": np.full((), 1e-6, np.float32),
        "positions": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "history"], ["content"]),
        helper.make_node("Greater", ["history", "zero"], ["real"]),
        helper.make_node("Cast", ["real"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Max", ["set_ordinal", "one"], ["ordinal"]),
        helper.make_node("Cast", ["ordinal"], ["age"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["mask", "age"], ["weight"]),  # [B, L]
        helper.make_node("ReduceSum", ["weight", "positions"], ["total"], keepdims=1),
        helper.make_node("Max", ["total", "small"], ["divisor"]),
        helper.make_node("Div", ["weight", "divisor"], ["share"]),
        helper.make_node("Unsqueeze", ["share", "minus_one"], ["shares"]),  # [B, L, 1]
        helper.make_node("Mul", ["content", "shares"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "positions"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "start"], ["user_vector"]),
    ]
    constants["minus_one"] = np.array([-1], np.int64)
    return _model(nodes, constants, _retrieval_tensors(dim), outputs={"user_vector"})


def _ranking_user(dim: int, rng: np.random.Generator) -> ModelProto:
    numbers = len(user_numeric_names(SCHEMA))
    categories = len(SCHEMA.categorical("user")) + len(SCHEMA.context_features)
    constants = {
        "from_numbers": rng.normal(0, 0.3, (numbers, dim)).astype(np.float32),
        "from_codes": rng.normal(0, 0.3, (categories, dim)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["user_numeric", "from_numbers"], ["a"]),
        helper.make_node("Cast", ["user_categorical"], ["codes"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["codes", "from_codes"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["user"]),
    ]
    return _model(nodes, constants, _ranking_tensors(dim)[:3], outputs={"user"})


def _ranking_head(dim: int, cross: list[str]) -> ModelProto:
    """user · item_part + cross · weights."""
    constants = {
        "weights": np.array([[CROSS_WEIGHTS.get(name, 0.0)] for name in cross], np.float32),
        "last": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["user", "row_user"], ["user_rows"]),
        helper.make_node("Mul", ["user_rows", "item_part"], ["products"]),
        helper.make_node("ReduceSum", ["products", "last"], ["product"], keepdims=0),
        helper.make_node("MatMul", ["cross", "weights"], ["crossed"]),
        helper.make_node("Squeeze", ["crossed", "last"], ["from_cross"]),
        helper.make_node("Add", ["product", "from_cross"], ["score"]),
    ]
    return _model(nodes, constants, _ranking_tensors(dim)[2:], outputs={"score"})


def _retrieval_tensors(dim: int) -> list[Tensor]:
    return [
        Tensor(name="history", dtype="int64", shape=["batch", HISTORY_LENGTH]),
        Tensor(name="set_ordinal", dtype="int64", shape=["batch", HISTORY_LENGTH]),
        Tensor(name="user_vector", dtype="float32", shape=["batch", dim]),
    ]


def _ranking_tensors(dim: int) -> list[Tensor]:
    categories = len(SCHEMA.categorical("user")) + len(SCHEMA.context_features)
    return [
        Tensor(name="user_categorical", dtype="int64", shape=["batch", categories]),
        Tensor(name="user_numeric", dtype="float32", shape=["batch", len(user_numeric_names(SCHEMA))]),
        Tensor(name="user", dtype="float32", shape=["batch", dim]),
        Tensor(name="item_part", dtype="float32", shape=["rows", dim]),
        Tensor(name="cross", dtype="float32", shape=["rows", len(cross_names(SCHEMA))]),
        Tensor(name="row_user", dtype="int64", shape=["rows"]),
        Tensor(name="score", dtype="float32", shape=["rows"]),
    ]


def _model(
    nodes: list[Any], constants: dict[str, NDArray[Any]], tensors: list[Tensor], outputs: set[str]
) -> ModelProto:
    types = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}
    infos = {t.name: helper.make_tensor_value_info(t.name, types[t.dtype], t.shape) for t in tensors}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [info for name, info in infos.items() if name not in outputs],
        [info for name, info in infos.items() if name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
