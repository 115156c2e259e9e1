"""What every command shares: its help, and how it ends when the machine refuses a file."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup
from typer.testing import CliRunner

from cli.main import app, main

PREPARE = ["prepare", "--config", "docs/example/shortlist.toml"]


def commands(path: tuple[str, ...], command: TyperCommand | TyperGroup) -> Iterator[tuple[str, ...]]:
    """The words after `shortlist` of every command and group; none for `shortlist` itself."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands((*path, name), inner)


ROOT = typer.main.get_command(app)
COMMANDS = list(commands((), ROOT))
GROUPS = ((), ("events",))  # which do nothing themselves


def found(path: tuple[str, ...]) -> TyperCommand | TyperGroup:
    command = ROOT
    for name in path:
        command = command.commands[name]
    return command


def words(text: str) -> str:
    """Without what only lays the text out, or marks code."""
    return " ".join(text.replace("`", "").split())


def shown(path: tuple[str, ...]) -> str:
    """The help, on a terminal so wide that no row of a table is broken."""
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "2000"})
    assert result.exit_code == 0
    return words(result.stdout)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_shows_every_word_that_was_written(path: tuple[str, ...]) -> None:
    """Brackets too, which name sections of shortlist.toml and may look like markup."""
    command, help_text = found(path), shown(path)
    assert command.help is not None
    assert words(command.help) in help_text
    for parameter in command.params:
        assert words(getattr(parameter, "help", None) or "") in help_text
    for inner in getattr(command, "commands", {}).values():
        assert words(inner.help.split("\n\n")[0]) in help_text


@pytest.mark.parametrize("path", [path for path in COMMANDS if path not in GROUPS], ids=" ".join)
def test_help_has_an_example_that_the_command_accepts(path: tuple[str, ...]) -> None:
    command = found(path)
    examples = re.findall(r"^Example: shortlist (.+)$", command.help or "", re.MULTILINE)
    assert len(examples) == 1
    given = shlex.split(examples[0])
    assert tuple(given[: len(path)]) == path
    command.make_context(path[-1], given[len(path) :])  # which exits with a sentence for an option that is none


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
