"""A bundle is whole or refused: every file is covered by a hash, and nothing else may lie beside them."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.contract.bundle import BundleError, open_bundle, verify_bundle
from models.contract.verify import hash_line
from tests.tiny_bundle import CATEGORIES, tiny_category, tiny_item_ids, write_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tmp_path / write_tiny_bundle(tmp_path)


def files_of(bundle: Path) -> list[str]:
    return sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())


def test_a_bundle_opens_with_everything_that_was_put_in(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert opened.version == bundle.name
    assert opened.num_items == len(opened.item_vectors) == len(opened.item_part) == 120
    assert opened.schema.returned == ["title", "category", "price"]
    assert opened.tables.keys() == {"affinity"}
    assert opened.manifest.format_version == 2
    for path in (opened.user_tower, opened.ranking_user, opened.ranking_head, opened.index):
        assert path.is_file()


def test_arrays_are_mapped_and_read_only(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert isinstance(opened.item_vectors.stored, np.memmap)
    assert isinstance(opened.items.hashes, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        opened.item_vectors.stored[0, 0] = 1.0


def test_a_flipped_byte_in_any_file_is_refused_with_its_name(bundle: Path) -> None:
    """The first, the middle and the last byte of every file, the manifest and its hash included."""
    for name in files_of(bundle):
        path = bundle / name
        whole = path.read_bytes()
        for position in {0, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            with pytest.raises(BundleError) as error:
                open_bundle(bundle)
            assert name in str(error.value)
        path.write_bytes(whole)
    open_bundle(bundle)


def test_a_missing_file_is_refused_with_its_name(bundle: Path) -> None:
    for name in files_of(bundle):
        path = bundle / name
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(BundleError) as error:
            verify_bundle(bundle)
        assert error.value.file == name
        path.write_bytes(whole)


def test_a_file_cut_short_is_refused_by_its_size(bundle: Path) -> None:
    path = bundle / "ranking/head.onnx"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(BundleError, match=r"ranking/head.onnx: has \d+ bytes instead of"):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("extra.txt", lambda path: path.write_text("x")),
        ("ranking/.hidden", lambda path: path.write_text("x")),
        ("deep/", lambda path: path.mkdir()),
        ("deep/er/extra.npy", lambda path: (path.parent.mkdir(parents=True), path.write_text("x"))),
        ("link.npy", lambda path: path.symlink_to("neighbours.npy")),
        ("dangling", lambda path: path.symlink_to("nowhere")),
        ("folder_link", lambda path: path.symlink_to("items")),
        ("pipe", os.mkfifo),
    ],
)
def test_anything_the_manifest_does_not_name_is_refused(
    bundle: Path, name: str, make: Callable[[Path], object]
) -> None:
    make(bundle / name)
    with pytest.raises(BundleError) as error:
        verify_bundle(bundle)
    assert error.value.file == name


@pytest.mark.parametrize("name", ["neighbours.npy", "manifest.json", "manifest.sha256", "items/hashes.npy"])
def test_a_link_in_place_of_a_file_is_refused_even_when_its_content_is_right(bundle: Path, name: str) -> None:
    shutil.move(bundle / name, bundle.parent / "moved")
    (bundle / name).symlink_to(bundle.parent / "moved")
    with pytest.raises(BundleError) as error:
        verify_bundle(bundle)
    assert error.value.file == name


def test_a_bundle_under_another_version_is_refused(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest.json: is of bundle"):
        verify_bundle(bundle.rename(bundle.with_name("20261121T204107Z-000000")))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a folder with a bundle"):
        open_bundle(tmp_path / "20261121T204107Z-000000")


def rewrite_manifest(bundle: Path, change: Callable[[dict[str, object]], object]) -> None:
    """Change the manifest and its hash together, as someone with write access could."""
    document = json.loads((bundle / "manifest.json").read_bytes())
    change(document)
    raw = json.dumps(document).encode()
    (bundle / "manifest.json").write_bytes(raw)
    (bundle / "manifest.sha256").write_bytes(hash_line(raw))


def test_a_manifest_with_an_unknown_field_is_refused(bundle: Path) -> None:
    rewrite_manifest(bundle, lambda document: document.update(color="red"))
    with pytest.raises(BundleError, match=r"manifest.json: color"):
        verify_bundle(bundle)


def test_a_manifest_of_a_later_format_is_refused(bundle: Path) -> None:
    rewrite_manifest(bundle, lambda document: document.update(format_version=3))
    with pytest.raises(BundleError, match="format_version"):
        verify_bundle(bundle)


def test_a_manifest_cannot_name_a_file_outside_the_bundle(bundle: Path) -> None:
    outside = bundle.parent / "outside.npy"
    outside.write_bytes(b"x")
    entry = {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1}
    rewrite_manifest(bundle, lambda document: document["files"].update({"../outside.npy": entry}))  # type: ignore[attr-defined]
    with pytest.raises(BundleError, match=r"\.\./outside.npy: is missing"):
        verify_bundle(bundle)


def test_an_array_of_the_wrong_shape_is_refused_at_load(bundle: Path) -> None:
    """The hashes hold, yet the vectors are not of this catalogue: found at load, not at some request."""
    name = "retrieval/item_vectors.npy"
    np.save(bundle / name, np.zeros((119, 8), np.float32))
    raw = (bundle / name).read_bytes()
    entry = {"sha256": hashlib.sha256(raw).hexdigest(), "size": len(raw)}
    rewrite_manifest(bundle, lambda document: document["files"].update({name: entry}))  # type: ignore[attr-defined]
    with pytest.raises(BundleError, match=r"item_vectors.npy: is float32 \[119, 8\] instead of float32 \[120, 8\]"):
        open_bundle(bundle)


def test_a_pickle_is_not_loaded(bundle: Path) -> None:
    name = "fallback/popular.npy"
    np.save(bundle / name, np.array([{}], dtype=object), allow_pickle=True)
    raw = (bundle / name).read_bytes()
    entry = {"sha256": hashlib.sha256(raw).hexdigest(), "size": len(raw)}
    rewrite_manifest(bundle, lambda document: document["files"].update({name: entry}))  # type: ignore[attr-defined]
    with pytest.raises(BundleError, match=r"fallback/popular.npy: cannot be read"):
        open_bundle(bundle)


def test_item_ids_map_to_indices_and_back(bundle: Path) -> None:
    items = open_bundle(bundle).items
    names = tiny_item_ids()
    indices = items.item_indices(names)
    assert sorted(indices) == list(range(120))
    assert [items.item_id(index) for index in indices] == names


def test_unknown_items_have_index_minus_one(bundle: Path) -> None:
    items = open_bundle(bundle).items
    assert items.item_indices(["i0", "nope", "", "I0"]).tolist()[1:] == [-1, -1, -1]
    assert items.item_indices([]).tolist() == []


def test_an_equal_hash_of_another_id_is_unknown(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = open_bundle(bundle).items
    monkeypatch.setattr("models.contract.items.hash_ids", lambda texts: items.hashes[[5] * len(texts)])
    assert items.item_indices([items.item_id(5), "another"]).tolist() == [5, -1]


def test_fields_are_json_and_filters_are_codes(bundle: Path) -> None:
    items = open_bundle(bundle).items
    index = int(items.item_indices(["i6"])[0])
    assert items.fields["title"][index] == b'"Fruit no. 6"'
    assert items.fields["price"][index] == b"7.0"
    assert items.fields["title"][int(items.item_indices(["i7"])[0])] == b"null"
    codes, values = items.filters["category"]
    assert values[codes[index]] == tiny_category("i6") == CATEGORIES[2]
    codes, values = items.filters["brand"]
    assert codes[int(items.item_indices(["i0"])[0])] == -1
    assert items.filters["organic"][1] == [False, True]
