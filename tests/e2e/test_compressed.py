"""Compressed models go the way of any other: `shortlist compress`, `shortlist export --compressed`, `/recommend`."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from planted import user_id, write_planted
from typer.testing import CliRunner

from app.call import Call, resolve_items
from app.flow import Flow
from app.opening import open_engine
from app.settings import Settings
from app.wire import RecommendRequest
from cli import export as export_command
from cli.main import app
from export import quality, ship
from models.contract import bundle as layout
from models.contract.versions import bundle_path, read_active

TRAIN = """
[train.retrieval]
dim = 16
layers = 2
history_length = 20
negatives = 64
max_steps = 8
[train.ranker]
windows = 1
epochs = 1
dim = 8
hidden = [16, 8]
"""


@pytest.fixture(scope="module", autouse=True)
def few_users() -> Iterator[None]:
    """The gates judge on fewer users than in an export for real."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "MAX_USERS", 48)
        patch.setattr(ship, "CALIBRATION", 16)
        patch.setattr(ship, "TIMED", 8)
        patch.setattr(export_command, "FLOW_USERS", 40)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained small shop: its data folder, with shortlist.toml beside."""
    folder = tmp_path_factory.mktemp("shop")
    config = write_planted(folder).config
    lines = pq.read_table(folder / "interactions.parquet")
    pq.write_table(lines.filter(pc.less(lines["user_id"], user_id(60))), folder / "interactions.parquet")
    config.write_text(config.read_text("utf-8") + TRAIN, "utf-8")
    run("train", "--config", str(config), "--data-dir", str(folder / "data"), "--threads", "1")
    return folder / "data"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_compressed_models_pass_every_gate_and_serve(shop: Path) -> None:
    name = "both-distilled"
    run("compress", "--config", str(shop.parent / "shortlist.toml"), "--data-dir", str(shop), "--only", name)
    run("export", "--data-dir", str(shop), "--compressed", name)
    version = read_active(shop / "bundles")
    assert version is not None
    engine = open_engine(bundle_path(shop / "bundles", version), 0)
    graphs = engine.bundle.manifest.graphs
    for path in (layout.USER_TOWER, layout.RANKING_HEAD):
        assert graphs[path].compression[0].startswith("distilled: ")
    call = Call(RecommendRequest(history=["i000", "i012"], k=5), engine, engine.bundle.manifest.as_of_ms, 0.0)
    resolve_items(call)
    (found,) = Flow(Settings()).run([call])
    assert (len(found["items"]), found["served_by"], found["degraded"]) == (5, "ranking", [])


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_a_name_that_is_none_is_told_with_those_that_are(shop: Path, command: str) -> None:
    result = CliRunner().invoke(app, [command, "--data-dir", str(shop), "--compressed", "tiny"])
    assert result.exit_code == 2
    assert result.stderr.startswith("--compressed tiny: there is no such model below ")
    assert "run `shortlist compress` for more" in result.stderr


def test_compress_before_train_and_names_that_are_none(shop: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["compress", "--data-dir", str(tmp_path)])
    assert (result.exit_code, "does not exist; run `shortlist train`" in result.stderr) == (2, True)
    result = CliRunner().invoke(app, ["compress", "--data-dir", str(shop), "--only", "tiny"])
    assert (result.exit_code, result.stderr.startswith("--only tiny: is not one of pruned, ")) == (2, True)


@pytest.mark.parametrize("share", ["0", "1", "1.5"])
def test_a_share_outside_0_to_1_is_named_with_its_file(tmp_path: Path, share: str) -> None:
    config = write_planted(tmp_path).config
    config.write_text(config.read_text("utf-8") + f"[compress]\nprune_units = {share}\n", "utf-8")
    result = CliRunner().invoke(app, ["compress", "--config", str(config), "--data-dir", str(tmp_path / "data")])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{config}: compress.prune_units: ")
