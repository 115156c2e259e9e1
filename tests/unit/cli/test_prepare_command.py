"""`shortlist prepare` at the terminal."""

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted import write_planted
from typer import Typer
from typer.testing import CliRunner

from cli.prepare import prepare

app = Typer()
app.command()(prepare)


def test_the_report_is_shown_and_a_second_run_says_that_nothing_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data directory comes from the environment, and is named as it is, brackets and all."""
    truth = write_planted(tmp_path)
    data_dir = tmp_path / "data[old]"
    monkeypatch.setenv("SHORTLIST_DATA_DIR", str(data_dir))
    first = CliRunner().invoke(app, ["--config", str(truth.config)])
    assert first.exit_code == 0, first.output
    assert str(data_dir / "prepared") in "".join(first.output.split())  # the title is as wide as the table
    assert f"{truth.num_interactions:,}" in first.output
    assert "nothing was done" not in first.output
    second = CliRunner().invoke(app, ["--config", str(truth.config)])
    assert second.exit_code == 0
    assert "The same input and configuration as before: nothing was done." in second.output


def test_archived_events_are_told_of(tmp_path: Path) -> None:
    truth = write_planted(tmp_path)
    event = {"user_id": "u000", "item_id": "i001", "event_type": "view", "value": 1.0, "stream_id": "1-0"}
    event |= {"recommendation_id": None, "position": None, "event_id": None, "clock_shift_ms": 0}
    table = pa.Table.from_pylist([event | {"timestamp": datetime(2024, 5, 2)}])
    (tmp_path / "data/archive").mkdir(parents=True)
    pq.write_table(table, tmp_path / "data/archive/events-00000001.parquet")
    arguments = ["--config", str(truth.config), "--data-dir", str(tmp_path / "data")]
    for first in ("Prepared", "Up to date"):
        result = CliRunner().invoke(app, arguments)
        assert f"{first}, with 1 archived events" in result.output
        assert "archived events: rows read" in result.output


def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    config = tmp_path / "shortlist.toml"
    config.write_text('[interaction]\npath = "log.csv"\n')
    result = CliRunner().invoke(app, ["--config", str(config), "--data-dir", str(tmp_path / "data")])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [f"{config}: unknown key 'interaction'; did you mean 'interactions'?"]
    assert not (tmp_path / "data").exists()
