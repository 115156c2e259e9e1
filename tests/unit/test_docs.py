"""What the documents name exists: files, commands, options, settings, make targets."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from app.settings import PREFIX, Settings
from cli.main import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TEXTS = [*DOCUMENTS, ROOT / "Dockerfile", ROOT / "docker-compose.yml", ROOT / "Makefile"]
NAMES = [str(path.relative_to(ROOT)) for path in TEXTS]

LINK = re.compile(r"\]\(([^)\s]+)\)|href=\"([^\"]+)\"")
INLINE = re.compile(r"`(shortlist [^`\n]+)`")
# at the start of a line, with or without a prompt, `time` or a path before it; or as what a container is to run
COMMAND_LINE = re.compile(
    r"(?:^(?:\$ )?(?:time )?\S*?|-- |--rm )shortlist((?: (?!#)\S+)+)|run --rm train((?: (?!#)\S+)+)", re.MULTILINE
)
# Where the text was written is nobody's business, and no reader has such a folder.
PRIVATE_PATHS = re.compile(r"(?<![\w./$}-])/(?:work|root|home|tmp)/")


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def headings(text: str) -> set[str]:
    """Anchors as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(text: str) -> Iterator[list[str]]:
    """Every `shortlist ...` of the text as words: in backticks, or on a line of a code block."""
    yield from (found.split() for found in INLINE.findall(text))
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from (["shortlist", *(named or in_train).split()] for named, in_train in COMMAND_LINE.findall(block))


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files_and_headings_of_the_repository(name: str) -> None:
    """Outside links are left alone: tests open no connection."""
    page = ROOT / name
    for markdown, html in LINK.findall(read(name)):
        target, _, anchor = (markdown or html).partition("#")
        if target.startswith(("https://", "http://")):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{name} links to {target}"
        assert file.is_relative_to(ROOT), f"{name} links out of the repository: {target}"
        if anchor:
            assert anchor in headings(file.read_text("utf-8")), f"{name} links to {target}#{anchor}"


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_their_options_exist(name: str) -> None:
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    for words in commands(read(name)):
        command: TyperCommand | TyperGroup = root
        for word in words[1:]:
            if word.startswith("--"):
                options = {o for found in command.params for o in (*found.opts, *found.secondary_opts)} | {"--help"}
                assert word.partition("=")[0] in options, f"{name}: {' '.join(words)}"
            elif isinstance(command, TyperGroup) and word != "COMMAND":
                assert word in command.commands, f"{name}: {' '.join(words)}"
                below = command.commands[word]
                assert isinstance(below, TyperCommand | TyperGroup)
                command = below


@pytest.mark.parametrize("name", NAMES)
def test_settings_exist(name: str) -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    assert set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", read(name))) <= known


@pytest.mark.parametrize("name", NAMES)
def test_make_targets_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    text = read(name)
    named = re.findall(r"`make ([a-z]+)`", text) + re.findall(r"^make ([a-z]+)\b", text, re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize("name", NAMES)
def test_no_path_of_the_machine_it_was_written_on(name: str) -> None:
    assert not PRIVATE_PATHS.search(read(name))


def test_every_page_is_in_the_index() -> None:
    """docs/README.md lists the pages, docs/decisions/README.md the notes."""
    for folder in (ROOT / "docs", ROOT / "docs" / "decisions"):
        index = (folder / "README.md").read_text("utf-8")
        missing = [page.name for page in folder.glob("*.md") if f"]({page.name})" not in index]
        assert missing == ["README.md"]


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = sorted(int(page.name[:2]) for page in (ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_setting_is_documented() -> None:
    """The supervisor's own worker_index is not for operators."""
    documented = read("docs/operations.md")
    assert [name for name in Settings.model_fields if f"`{PREFIX}{name.upper()}`" not in documented] == ["worker_index"]
