"""What the manifest says of a table, and what the table is, must agree; bundles of the first format still open."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.contract.bundle import BundleError, open_bundle
from models.contract.tables import read_similarity
from models.contract.verify import hash_line
from tests.tiny_bundle import write_tiny_bundle

VECTORS, SCALES = "retrieval/item_vectors.npy", "retrieval/item_vectors.scales.npy"
INT8 = {VECTORS: {"precision": "int8", "why": "small"}}
NEIGHBOURS, SIMILARITY, COUNT = "neighbours.npy", "neighbours_similarity.npy", "neighbours_count.npy"
FP8 = {SIMILARITY: {"precision": "fp8", "why": "small"}}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tmp_path / write_tiny_bundle(tmp_path)


def rewrite(bundle: Path, arrays: dict[str, np.ndarray[Any, Any]], change: Callable[[dict[str, Any]], object]) -> None:
    """Put in arrays and change the manifest, with all hashes right: as an exporter with a mistake would."""
    document = json.loads((bundle / "manifest.json").read_bytes())
    for name, array in arrays.items():
        np.save(bundle / name, array)
        raw = (bundle / name).read_bytes()
        document["files"][name] = {"sha256": hashlib.sha256(raw).hexdigest(), "size": len(raw)}
    change(document)
    raw = json.dumps(document).encode()
    (bundle / "manifest.json").write_bytes(raw)
    (bundle / "manifest.sha256").write_bytes(hash_line(raw))


def nothing(document: dict[str, Any]) -> None:
    pass


def test_int8_vectors_open_with_their_scales(bundle: Path) -> None:
    codes = np.arange(960, dtype=np.int64).reshape(120, 8) % 255 - 127
    scales = np.linspace(0.5, 4, 8, dtype=np.float32)
    rewrite(bundle, {VECTORS: codes.astype(np.int8), SCALES: scales}, lambda document: document.update(tables=INT8))
    vectors = open_bundle(bundle).item_vectors
    assert vectors[np.array([1])].tolist() == [((np.arange(8) + 8 - 127) * scales).tolist()]


def test_similarities_of_eight_bits_are_read_as_what_they_stand_for(bundle: Path) -> None:
    stored = np.arange(960).reshape(120, 8).astype(np.uint8)
    rewrite(bundle, {SIMILARITY: stored}, lambda document: document.update(tables=FP8))
    similarity = open_bundle(bundle).neighbours_similarity
    assert similarity.tolist() == read_similarity(stored).tolist()
    assert similarity[28].tolist() == [0.5 * (1 + step / 16) for step in range(8)], "bytes 224 to 231"


def test_neighbours_without_padding_are_read_with_it(bundle: Path) -> None:
    counts = (np.arange(120) % 4).astype(np.uint8)
    near = np.arange(counts.sum()).astype(np.int8) % 120
    rewrite(bundle, {NEIGHBOURS: near, COUNT: counts, SIMILARITY: near.astype(np.float32) / 128}, nothing)
    opened = open_bundle(bundle)
    assert opened.neighbours[:5].tolist() == [[-1, -1, -1], [0, -1, -1], [1, 2, -1], [3, 4, 5], [-1, -1, -1]]
    assert opened.neighbours_similarity[2].tolist() == [1 / 128, 2 / 128, 0]
    assert opened.neighbours.dtype == np.int8
    assert not opened.neighbours.flags.writeable


def test_neighbours_without_padding_and_without_counts_are_refused(bundle: Path) -> None:
    rewrite(bundle, {NEIGHBOURS: np.zeros(120, np.int8), SIMILARITY: np.zeros(120, np.float32)}, nothing)
    with pytest.raises(BundleError, match=r"is int8 \[120\] instead of .* \[120, 0\]") as error:
        open_bundle(bundle)
    assert error.value.file == NEIGHBOURS


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        ({NEIGHBOURS: np.zeros(121, np.int8)}, NEIGHBOURS, r"is int8 \[121\] instead of .* \[120\]"),
        ({NEIGHBOURS: np.zeros((120, 1), np.int8)}, NEIGHBOURS, r"\[120, 1\] instead of .* \[120\]"),
        ({SIMILARITY: np.zeros(119, np.float32)}, SIMILARITY, r"\[119\] instead of float32 \[120\]"),
        ({COUNT: np.ones(120, np.int64)}, COUNT, r"is int64 \[120\] instead of uint8"),
        ({NEIGHBOURS: np.full(120, -1, np.int8)}, NEIGHBOURS, "holds an index that no item has"),
        ({NEIGHBOURS: np.full(120, 120, np.int8)}, NEIGHBOURS, "holds an index that no item has"),
        ({COUNT: np.full(120, "1")}, COUNT, r"is <U1 \[120\] instead of uint8"),
        (
            {name: np.ones(119, kind) for name, kind in ((COUNT, np.uint8), (NEIGHBOURS, np.int8))}
            | {SIMILARITY: np.ones(119, np.float32)},
            COUNT,
            r"is uint8 \[119\] instead of uint8 \[120\]",
        ),
    ],
)
def test_neighbours_without_padding_must_be_as_many_as_their_counts_say(
    bundle: Path, change: dict[str, np.ndarray[Any, Any]], name: str, message: str
) -> None:
    whole = {
        NEIGHBOURS: np.zeros(120, np.int8),
        SIMILARITY: np.zeros(120, np.float32),
        COUNT: np.ones(120, np.uint8),
    }
    rewrite(bundle, whole | change, nothing)
    with pytest.raises(BundleError, match=message) as error:
        open_bundle(bundle)
    assert error.value.file == name


@pytest.mark.parametrize(
    ("name", "array", "tables", "message"),
    [
        (VECTORS, np.zeros((120, 8), np.int8), {}, r"is int8 \[120, 8\] instead of float32 \[120, 8\]"),
        (VECTORS, np.zeros((120, 8), np.float16), {VECTORS: {"precision": "fp32", "why": ""}}, "is float16"),
        ("ranking/item_part.npy", np.zeros((120, 8), np.int8), {}, r"is int8 \[120, 8\] instead of float32"),
        ("ranking/item_part.npy", np.zeros((120, 7), np.float32), {}, r"\[120, 7\] instead of float32 \[120, 8\]"),
        (SIMILARITY, np.zeros((120, 8), np.float16), {}, "is float16"),
        (SIMILARITY, np.zeros((120, 8), np.float16), FP8, r"is float16 \[120, 8\] instead of uint8"),
        (SIMILARITY, np.zeros((120, 7), np.uint8), FP8, r"is uint8 \[120, 7\] instead of uint8 \[120, 8\]"),
        (
            SIMILARITY,
            np.zeros((120, 8), np.int8),
            {SIMILARITY: {"precision": "int8", "why": ""}},
            "stored as int8, only",
        ),
        (
            VECTORS,
            np.zeros((120, 8), np.uint8),
            {VECTORS: {"precision": "fp8", "why": ""}},
            "stored as fp8, only as fp32",
        ),
        ("neighbours.npy", np.zeros((120, 8), np.uint8), {}, "is uint8 .* instead of int8 or int16 or int32 or int64"),
        ("items/filters/brand.npy", np.zeros(120, np.float32), {}, "is float32"),
        ("items/fields/category.codes.npy", np.zeros(119, np.uint8), {}, r"is uint8 \[119\] instead of uint8"),
        ("items/ids.offsets.npy", np.zeros(121, np.float64), {}, "is float64"),
    ],
)
def test_a_table_of_another_type_than_the_manifest_says_is_refused_by_its_name(
    bundle: Path, name: str, array: np.ndarray[Any, Any], tables: dict[str, Any], message: str
) -> None:
    rewrite(bundle, {name: array}, lambda document: document["tables"].update(tables))
    with pytest.raises(BundleError, match=message) as error:
        open_bundle(bundle)
    assert error.value.file == name


def test_int8_vectors_without_their_scales_are_refused(bundle: Path) -> None:
    rewrite(bundle, {VECTORS: np.zeros((120, 8), np.int8)}, lambda document: document.update(tables=INT8))
    with pytest.raises(BundleError, match="is needed but the manifest does not name it") as error:
        open_bundle(bundle)
    assert error.value.file == SCALES


def test_indices_too_small_for_the_catalogue_are_refused(tmp_path: Path) -> None:
    """200 items need 16 bits."""
    bundle = tmp_path / write_tiny_bundle(tmp_path, num_items=200)
    rewrite(bundle, {"neighbours.npy": np.zeros((200, 8), np.int8)}, nothing)
    with pytest.raises(BundleError, match=r"is int8 .* instead of int16") as error:
        open_bundle(bundle)
    assert error.value.file == "neighbours.npy"


def test_an_index_that_is_to_be_made_of_codes_needs_codes(bundle: Path) -> None:
    rewrite(bundle, {}, lambda document: document["index"].update(from_vectors=True))
    with pytest.raises(BundleError, match="is not int8") as error:
        open_bundle(bundle)
    assert error.value.file == VECTORS


def test_a_bundle_of_the_first_format_opens(bundle: Path) -> None:
    """Its tables are all of the widest types, and its manifest says nothing of them."""
    opened = open_bundle(bundle)
    column = opened.items.fields["category"]
    assert column.codes is not None
    strings = [column[index] for index in range(120)]
    wide = {
        "neighbours.npy": np.array(opened.neighbours, np.int32),
        "fallback/popular.npy": np.array(opened.popular, np.int64),
        "items/filters/brand.npy": np.array(opened.items.filters["brand"][0], np.int32),
        "items/fields/category.data.npy": np.frombuffer(b"".join(strings), np.uint8),
        "items/fields/category.offsets.npy": np.cumsum([0, *map(len, strings)]),
    }

    def first_format(document: dict[str, Any]) -> None:
        document["format_version"] = 1
        for name in ("profile", "tables"):
            del document[name]
        del document["index"]["from_vectors"]
        for graph in document["graphs"].values():
            del graph["compression"]
        del document["files"]["items/fields/category.codes.npy"]
        (bundle / "items/fields/category.codes.npy").unlink()

    rewrite(bundle, wide, first_format)
    old = open_bundle(bundle)
    assert (old.manifest.format_version, old.manifest.profile, old.manifest.tables) == (1, "default", {})
    assert [old.items.fields["category"][index] for index in range(120)] == strings
    assert (old.item_vectors[:] == opened.item_vectors[:]).all()
