"""The planted shop's models beside what is made of them: every figure in its range, and no figures of other models."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from cli.compare_bundles import CostError, bundle_cost, user_states
from cli.compress_report import PICTURE, TEXT, compression_card
from cli.main import app
from cli.train import read_options
from export.compression import FOLDER, REPORT, rankers, towers
from export.compression.bundles import bundle_rows
from export.compression.run import requests
from models.compress.options import CompressSection
from models.compress.run import compress
from models.data.dataset import Dataset, load_dataset
from models.run_log import Silent
from models.trained import load_trained
from tests.e2e.conftest import World, run

NARROW = ["int8, fp16 rows", "int8, int8 rows", "int8, fewer components", "int8, components"]
TEACHER = ["fp32", "int8", *NARROW, "int8 dynamic", "int8 QDQ"]
TOWERS = ["fp32", "int8", "int8, fp16 tables", "int8, int8 tables", "int8 dynamic", "int8 QDQ"]


@pytest.fixture(scope="module")
def data_dir(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared and trained as in `world`, with a pruned ranker and a pruned tower."""
    folder = tmp_path_factory.mktemp("compared")
    for name in ("prepared", "train"):
        shutil.copytree(world.data_dir / name, folder / name)
    options, dataset = read_options(folder), load_dataset(folder / "prepared")
    compress(dataset, options, folder / "train", CompressSection(), Silent(), ["pruned", "retrieval-pruned"])
    return folder


@pytest.fixture(scope="module")
def dataset(data_dir: Path) -> Dataset:
    return load_dataset(data_dir / "prepared")


@pytest.fixture(scope="module")
def report(data_dir: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rankers, "TIMED", 4)
        patch.setattr(towers, "TIMED", 4)
        run("compress-report", "--data-dir", str(data_dir), "--no-bundles")
    found: dict[str, Any] = orjson.loads((data_dir / FOLDER / REPORT).read_bytes())
    return found


def variants(report: dict[str, Any], table: str) -> dict[str, dict[str, Any]]:
    return {row["variant"]: row for row in report[table]}


def test_every_variant_has_its_figures(report: dict[str, Any]) -> None:
    rankers, towers = variants(report, "rankers"), variants(report, "towers")
    assert [*rankers] == [*TEACHER, "pruned fp32", "pruned int8"]
    assert [*towers] == [*TOWERS, "retrieval-pruned fp32", "retrieval-pruned int8"]
    for row in [*rankers.values(), *towers.values()]:
        for found in row["lists"].values():
            assert 0 < found["ndcg"] < 1
            assert 0 < found["overlap"] <= 1
            assert found["change"]["low"] <= found["change"]["value"] <= found["change"]["high"]
    for row in rankers.values():
        for found in row["scores"].values():
            assert 0.5 < found["auc"] < 1
            assert 0 <= found["calibration_error"] < 1
            assert found["predicted_over_actual"] > 0


@pytest.mark.parametrize("table", ["rankers", "towers"])
def test_float32_is_what_the_others_are_compared_with(report: dict[str, Any], table: str) -> None:
    first = variants(report, table)["fp32"]
    for found in first["lists"].values():
        assert found["change"] == {"value": 0, "low": 0, "high": 0}
        assert found["overlap"] == 1
    assert all(found["auc_change"] == 0 for found in first.get("scores", {}).values())


def test_only_dynamic_ranges_depend_on_who_shares_the_batch(report: dict[str, Any]) -> None:
    for table in ("rankers", "towers"):
        changed = {name: row["rows_changed"] for name, row in variants(report, table).items()}
        assert changed.pop("int8 dynamic") > 0
        assert not any(changed.values()), changed


def test_what_is_smaller_is_told_so(report: dict[str, Any]) -> None:
    rows = variants(report, "rankers")
    assert rows["int8"]["graph_bytes"] < rows["fp32"]["graph_bytes"]
    assert rows["int8, fp16 rows"]["item_bytes"] * 2 == rows["fp32"]["item_bytes"]
    assert rows["int8, int8 rows"]["item_bytes"] * 4 == rows["fp32"]["item_bytes"]
    pruned = rows["pruned fp32"]
    assert pruned["parameters"] < rows["fp32"]["parameters"]
    assert pruned["made"] == ["structured pruning: hidden units [128, 64] to [64, 32]"]


def test_the_card_of_these_models_gets_text_and_picture(
    data_dir: Path, dataset: Dataset, report: dict[str, Any]
) -> None:
    card = compression_card(dataset, data_dir, report["training_key"])
    assert card is not None
    for key in report["models"].values():
        assert compression_card(dataset, data_dir, key) == card, "a compressed model's card has the same"
    assert compression_card(dataset, data_dir, "of others") is None
    assert "| pruned int8 |" in card.text
    assert card.picture.startswith(b"\x89PNG")
    assert sorted(path.name for path in (data_dir / FOLDER).iterdir()) == sorted([REPORT, TEXT, PICTURE])


def test_a_bundle_against_itself(data_dir: Path, dataset: Dataset, world: World) -> None:
    """Nothing lost, every byte counted, and a service process that takes memory and time."""
    [path] = (world.data_dir / "evaluation" / "bundles").iterdir()
    trained = load_trained(dataset, read_options(data_dir), data_dir / "train", for_test=True)
    asked, _ = requests(dataset, trained)
    paths = {"one": path, "same": path}
    cost = bundle_cost(path, user_states(dataset, trained.until_ms))
    first, second = bundle_rows(dataset, paths, {"one": cost, "same": cost}, asked, trained.until_ms, seed=0)
    assert first.lists == second.lists
    assert first.lists["all"].overlap == 1
    # as `shortlist evaluate` measured it
    [section] = [s for s in world.report["sections"] if (s["mode"], s["unit"]) == ("all", "window")]  # type: ignore
    measured = section["systems"]["retrieval_ranking"]["metrics"]["ndcg@10"]["value"]
    assert first.lists["all"].ndcg == pytest.approx(measured, abs=1e-6)
    assert first.size == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert 0 < cost.bundle_bytes < cost.private_bytes
    assert cost.request_us > 0


def test_a_cost_that_cannot_be_measured_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(CostError, match=r"^.*BundleError.*no-bundle.*$"):
        bundle_cost(tmp_path / "no-bundle", [])


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["compress-report", "--no-bundles", *arguments])
    assert result.exit_code == 2
    return result.output


def test_a_name_that_is_no_compressed_model_is_refused(data_dir: Path) -> None:
    told = refused("--data-dir", str(data_dir), "--only", "distilled")
    assert "--only distilled: there is no such compressed model" in told
    assert "there are pruned, retrieval-pruned" in told


def test_models_made_from_another_teacher_are_refused_and_the_report_stays(
    data_dir: Path, report: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(data_dir, tmp_path / "data")
    path = tmp_path / "data" / "train" / "ranker.npz"
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    arrays["head_module.bias"] = arrays["head_module.bias"] + 1
    np.savez(path, allow_pickle=False, **arrays)
    before = (tmp_path / "data" / FOLDER / REPORT).read_bytes()
    moved = load_dataset(tmp_path / "data" / "prepared")
    assert compression_card(moved, tmp_path / "data", report["training_key"]) is None, "figures of other models"
    told = refused("--data-dir", str(tmp_path / "data"))
    assert "the compressed model pruned cannot be compared" in told
    assert "was made from other models" in told
    assert (tmp_path / "data" / FOLDER / REPORT).read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [FOLDER, "prepared", "train"]


def test_nothing_trained_is_refused(tmp_path: Path, world: World) -> None:
    shutil.copytree(world.data_dir / "prepared", tmp_path / "prepared")
    assert "run `shortlist train`" in refused("--data-dir", str(tmp_path))
