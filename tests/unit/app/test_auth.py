"""API keys: who gets in."""

import pytest
import typer
from typer.testing import CliRunner

from app.auth import ApiKey, authorise, hash_key, presented_key
from app.errors import Forbidden, Unauthenticated
from cli.key import key

KEYS = [ApiKey.parse(hash_key("front", ["serve"])), ApiKey.parse(hash_key("boss", ["admin"]))]


def test_the_entry_is_the_keys_sha256_and_never_the_key() -> None:
    digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # printf secret | sha256sum
    assert hash_key("secret", ["serve"]) == f"sha256:{digest}:serve"


@pytest.mark.parametrize("entry", ["", "secret", "sha256:abc:serve", f"sha256:{'0' * 64}", f"sha256:{'0' * 64}:root"])
def test_an_entry_of_another_form_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"entry|scope"):
        ApiKey.parse(entry)


def test_scopes_open_what_they_name_and_admin_opens_everything() -> None:
    authorise(KEYS, b"front", "serve")
    authorise(KEYS, b"boss", "serve")
    authorise(KEYS, b"boss", "admin")
    authorise([], None, "admin")
    with pytest.raises(Forbidden):
        authorise(KEYS, b"front", "admin")
    for wrong in (None, b"", b"fronT", b"front "):
        with pytest.raises(Unauthenticated):
            authorise(KEYS, wrong, "serve")


def test_a_key_is_read_from_either_header() -> None:
    assert presented_key([(b"x-api-key", b"k")]) == b"k"
    assert presented_key([(b"authorization", b"bearer  k")]) == b"k"
    assert presented_key([(b"authorization", b"Basic abc")]) is None
    assert presented_key([]) is None


def test_the_command_makes_a_key_that_its_entry_lets_in() -> None:
    command = typer.Typer()
    command.command()(key)
    shown = dict(line.split() for line in CliRunner().invoke(command, ["--scope", "admin"]).output.splitlines())
    authorise([ApiKey.parse(shown["entry"])], shown["key"].encode(), "admin")
    assert len(shown["key"]) >= 43  # 32 random bytes
    refused = CliRunner().invoke(command, ["--scope", "root"])
    assert (refused.exit_code, "unknown scope 'root'" in refused.output) == (2, True)
