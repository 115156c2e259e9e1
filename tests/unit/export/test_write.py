"""Writing is all or nothing, wherever it is interrupted."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.gates import GateError, check, recall_gate
from export.write import BundleContent, write_bundle
from models.contract.bundle import BundleError, open_bundle, verify_bundle
from models.contract.versions import list_bundles
from tests.tiny_bundle import CREATED, tiny_content, write_tiny_bundle


@pytest.fixture
def content(tmp_path: Path) -> BundleContent:
    return tiny_content(tmp_path / "items")


def test_a_written_bundle_opens_and_holds_what_was_given(tmp_path: Path, content: BundleContent) -> None:
    path = write_bundle(tmp_path / "bundles", content, CREATED)
    opened = open_bundle(path)
    np.testing.assert_array_equal(opened.item_vectors, content.item_vectors)
    np.testing.assert_array_equal(opened.tables["affinity"], content.item_tables["affinity"])
    assert opened.user_tower.read_bytes() == content.user_tower
    assert opened.manifest.created == "2026-11-21T20:41:07+00:00"
    assert path.name.startswith("20261121T204107Z-")
    assert os.listdir(tmp_path / "bundles") == [path.name]


def test_other_content_is_another_version(tmp_path: Path) -> None:
    first, again, other = (write_tiny_bundle(tmp_path / str(n), seed) for n, seed in enumerate((0, 0, 1)))
    assert first == again
    assert first != other


def test_a_bundle_is_never_overwritten(tmp_path: Path) -> None:
    version = write_tiny_bundle(tmp_path)
    with pytest.raises(BundleError, match="is there already"):
        write_tiny_bundle(tmp_path)
    verify_bundle(tmp_path / version)
    assert os.listdir(tmp_path) == [version]


class Interrupted(BaseException):
    """As Ctrl-C: not an Exception."""


def test_an_interruption_at_any_step_leaves_no_bundle(
    tmp_path: Path, content: BundleContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop at the first system call that touches the disk, then at the second, and so on until none is left."""
    bundles = tmp_path / "bundles"
    steps = stopped = after_rename = 0

    def limit(name: str, owner: object) -> None:
        original = getattr(owner, name)

        def counted(*args: object, **kwargs: object) -> object:
            nonlocal steps
            steps += 1
            if steps == stopped:
                raise Interrupted
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    limit("save", np)
    limit("fsync", os)
    limit("write_bytes", Path)
    limit("rename", Path)
    while True:
        stopped, steps = stopped + 1, 0
        try:
            path = write_bundle(bundles, content, CREATED)
        except Interrupted:
            for version in list_bundles(bundles):  # only the last step comes after the rename: the bundle is whole
                verify_bundle(bundles / version)
                shutil.rmtree(bundles / version)
                after_rename += 1
            assert os.listdir(bundles) == []
        else:
            break
    monkeypatch.undo()
    assert stopped > 50
    assert after_rename == 1
    verify_bundle(path)


def test_a_gate_of_the_whole_flow_sees_the_bundle_and_can_stop_it(tmp_path: Path, content: BundleContent) -> None:
    def too_poor(path: Path) -> None:
        assert open_bundle(path).num_items == 120
        check([recall_gate(0.5, 120)])

    with pytest.raises(GateError):
        write_bundle(tmp_path / "bundles", content, CREATED, check=too_poor)
    assert os.listdir(tmp_path / "bundles") == []


def test_content_that_does_not_fit_together_leaves_no_bundle(tmp_path: Path, content: BundleContent) -> None:
    wrong = replace(content, ranking=replace(content.ranking, item_part=content.ranking.item_part[:-1]))
    with pytest.raises(BundleError, match=r"item_part.npy: is float32"):
        write_bundle(tmp_path / "bundles", wrong, CREATED)
    assert os.listdir(tmp_path / "bundles") == []


def test_what_only_training_reads_stays_out(tmp_path: Path, content: BundleContent) -> None:
    (content.items_folder / "text").mkdir()
    for name in ("edges.npy", "text/description.data.npy"):
        np.save(content.items_folder / name, np.zeros(3))
    path = write_bundle(tmp_path / "bundles", content, CREATED)
    assert not {"items/edges.npy", "items/text/description.data.npy"} & open_bundle(path).manifest.files.keys()
    assert (path / "items" / "hashes.npy").exists()


def test_an_array_of_objects_is_not_written(tmp_path: Path, content: BundleContent) -> None:
    wrong = replace(content, item_tables={"affinity": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        write_bundle(tmp_path / "bundles", wrong, CREATED)
    assert os.listdir(tmp_path / "bundles") == []


def test_the_model_card_says_what_was_shipped_and_why(tmp_path: Path, content: BundleContent) -> None:
    card = (write_bundle(tmp_path, replace(content, notes="Baskets of 2017."), CREATED) / "model_card.md").read_text()
    for words in (
        "Baskets of 2017.",
        "| retrieval/user_tower.onnx | fp32 | none | written by hand |",
        "| item vectors | 0.00 |",
        "recall@200 1.0000",
        "| ndcg@10 | 0.1 |",
        "| index_recall@200 | 1 | at least 0.99 | yes |",
        "up to 2023-11-14 22:13 UTC",
    ):
        assert words in card
