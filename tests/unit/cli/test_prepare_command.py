"""`shortlist prepare` at the terminal."""

from pathlib import Path

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
    """The data directory comes from the environment."""
    truth = write_planted(tmp_path)
    monkeypatch.setenv("SHORTLIST_DATA_DIR", str(tmp_path / "data"))
    first = CliRunner().invoke(app, ["--config", str(truth.config)])
    assert first.exit_code == 0, first.output
    assert f"{truth.num_interactions:,}" in first.output
    assert "nothing was done" not in first.output
    second = CliRunner().invoke(app, ["--config", str(truth.config)])
    assert second.exit_code == 0
    assert "The same input and configuration as before: nothing was done." in second.output


def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    config = tmp_path / "shortlist.toml"
    config.write_text('[interaction]\npath = "log.csv"\n')
    result = CliRunner().invoke(app, ["--config", str(config), "--data-dir", str(tmp_path / "data")])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"{config}: interactions is missing",
        f"{config}: unknown key 'interaction'; did you mean 'interactions'?",
    ]
    assert not (tmp_path / "data").exists()
