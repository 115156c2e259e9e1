"""After training on a labelled table there is nothing to export or load, and the commands say so."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.train import TABLE_FILE
from models.data.sections import LabelledSection


@pytest.mark.parametrize("command", ["export", "load"])
def test_a_ranker_of_a_labelled_table_has_no_bundle(tmp_path: Path, command: str) -> None:
    section = LabelledSection(train="t.csv", valid="v.csv", user=["user"], item=["item"])
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / TABLE_FILE).write_text(section.model_dump_json(), "utf-8")
    result = CliRunner().invoke(app, [command, "--data-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{tmp_path / 'train' / TABLE_FILE}: the last training was on a labelled table")
    assert "shortlist evaluate" in result.stderr
