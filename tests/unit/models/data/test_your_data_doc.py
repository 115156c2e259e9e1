"""docs/your-data.md is followed word for word."""

import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer import Typer
from typer.testing import CliRunner

from cli.prepare import prepare
from models.contract.schema import MultiFeature
from models.data.config import load_config
from models.data.dataset import load_dataset
from models.data.prepare import prepare_dataset

ROOT = Path(__file__).parents[4]
TEXT = (ROOT / "docs/your-data.md").read_text("utf-8")


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the reader has: the example's files, of which the document shows the configuration as it is."""
    shutil.copytree(ROOT / "docs/example", tmp_path / "docs/example")
    block = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    assert (tmp_path / "docs/example/shortlist.toml").read_text("utf-8") == block.group(1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_prepares_the_example(clone: Path) -> None:
    """The command line is taken from the document; 168 loans of 12 readers, 30 books, ids with their zeros."""
    command = re.search(r"^shortlist prepare (.+)$", TEXT, re.MULTILINE)
    assert command is not None
    app = Typer()
    app.command()(prepare)
    result = CliRunner().invoke(app, command.group(1).split())
    assert result.exit_code == 0, result.output
    assert "interactions: rows read" in result.output
    dataset = load_dataset(clone / ".shortlist-books/prepared")
    assert dataset.report.sources["interactions"].rows == 168
    assert dataset.report.sources["interactions"].num_bad == 0
    assert (dataset.num_users, dataset.report.users_without_row) == (12, 4)
    assert dataset.item_ids[0].startswith(b"00")
    assert dataset.schema.event_types == ["loan", "view"]
    assert dataset.item_filters["language"][1] == ["de", "en"]
    assert {type(year) for year in dataset.item_filters["year"][1]} == {int}


def test_what_the_document_shows_of_the_log_is_what_the_file_has(clone: Path) -> None:
    shown = re.search(r"\$ head -3 (\S+)\n(.*?)```", TEXT, re.DOTALL)
    assert shown is not None
    assert "".join((clone / shown.group(1)).read_text().splitlines(keepends=True)[:3]) == shown.group(2)


def test_every_other_toml_block_is_valid(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        (tmp_path / "shortlist.toml").write_text(block, "utf-8")
        load_config(tmp_path / "shortlist.toml")


def test_the_block_with_every_kind_of_feature_prepares(tmp_path: Path) -> None:
    """With a file for each section of it."""
    [block] = [block for block in re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL) if "[social]" in block]
    (tmp_path / "shortlist.toml").write_text(block + "[split]\ntest_days = 10\nvalid_days = 9\nranker_windows = 1\n")
    log = ["user_id,item_id,timestamp", *(f"u{i % 2},i{i // 2 % 2},2024-01-{i + 1:02d}" for i in range(30))]
    (tmp_path / "loans.csv").write_text("\n".join(log))
    (tmp_path / "friends.csv").write_text("user_id,knows\nu0,u1\nu1,u7\n")
    (tmp_path / "series.csv").write_text("item_id,next_volume\ni0,i1\n")
    books = {
        "item_id": ["i0", "i1"],
        "genre": ["crime", "poetry"],
        "year": [1990, 2000],
        "subjects": [["sea", "ships"], ["sea"]],
        "awards": ["gold|silver", "gold"],
        "title": ["The Tide", "Tides"],
        "cover": [[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]],
    }
    pq.write_table(pa.table(books), tmp_path / "books.parquet")
    dataset = load_dataset(prepare_dataset(load_config(tmp_path / "shortlist.toml"), tmp_path / "data").folder)
    named = {feature.name: feature.kind for feature in dataset.schema.item_features}
    assert named == dict(re.findall(r'name = "(\w+)", kind = "(\w+)"', block)) | {"item_id": "categorical"}
    assert [feature.name for feature in dataset.schema.user_features] == ["user_id"]
    assert dataset.schema.of_items(MultiFeature)[1].vocabulary == ["gold"]
    assert (dataset.num_users, len(dataset.social_edges), len(dataset.item_edges)) == (3, 2, 1)


def test_the_block_with_impressions_prepares(tmp_path: Path) -> None:
    """Each loan was shown twice before, seven hours apart: it is a click on the newer showing alone."""
    [block] = [block for block in re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL) if "[impressions]" in block]
    (tmp_path / "shortlist.toml").write_text(block + "[split]\ntest_days = 10\nvalid_days = 9\nranker_windows = 1\n")
    loans = [(f"u{i % 2}", f"i{i // 2 % 2}", f"2024-01-{i + 1:02d}") for i in range(30)]
    lines = ["user_id,item_id,timestamp", *(f"{user},{item},{day}T08:00" for user, item, day in loans)]
    (tmp_path / "loans.csv").write_text("\n".join(lines))
    shown = [f"{user},{item},{day}T{hour},2,{day}" for user, item, day in loans for hour in ("07:00", "00:00")]
    (tmp_path / "shown.csv").write_text("\n".join(["user_id,item_id,timestamp,place,list", *shown]))
    config = load_config(tmp_path / "shortlist.toml")
    assert (config.train.ranker.impressions, config.train.ranker.propensity) == (True, "position")
    dataset = load_dataset(prepare_dataset(config, tmp_path / "data").folder)
    assert (dataset.report.num_impressions, dataset.report.impressions_clicked) == (60, 30)


def test_the_example_in_the_help_is_the_example_of_the_document() -> None:
    assert prepare.__doc__ is not None
    assert "--config docs/example/shortlist.toml" in prepare.__doc__
    assert "--config docs/example/shortlist.toml" in TEXT
