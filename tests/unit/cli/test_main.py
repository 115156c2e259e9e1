"""What every command shares: how it ends when the machine refuses a file."""

from pathlib import Path

import pytest

from cli.main import main

PREPARE = ["prepare", "--config", "docs/example/shortlist.toml"]


@pytest.mark.parametrize("command", [PREPARE, ["events", "archive"]], ids=lambda command: str(command[0]))
def test_a_data_folder_that_cannot_be_used_is_one_sentence_that_names_it(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file stands where the folder should be, which stops root too; a folder without permission ends alike."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("sys.argv", ["shortlist", *command, "--data-dir", str(tmp_path / "file" / "data")])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2
    assert told.startswith(str(tmp_path / "file" / "data"))
    assert told.endswith(": Not a directory")
