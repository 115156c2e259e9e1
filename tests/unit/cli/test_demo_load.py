"""The step of `shortlist demo` that loads the users, and the service that it becomes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import typer
from typer.testing import CliRunner, Result

from app.settings import Settings
from cli import demo as command
from tests.unit.cli.test_load import DATASET, NUM_USERS


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Settings]]:
    """Settings that the service would have; the data are given, and the steps before loading were done."""
    found: list[Settings] = []
    monkeypatch.setattr("models.data.dataset.load_dataset", lambda folder: DATASET)
    monkeypatch.setattr(command, "_run", lambda preset, data_dir, threads: None)
    monkeypatch.setattr(os, "execv", lambda *arguments: found.append(Settings()))
    before = dict(os.environ)
    yield found
    os.environ.clear()
    os.environ.update(before)


def demo(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(command.demo)
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.mark.parametrize("by_option", [True, False])
def test_users_are_loaded_under_the_prefix_that_the_service_reads(
    redis_url: str,
    key_prefix: str,
    tmp_path: Path,
    served: list[Settings],
    monkeypatch: pytest.MonkeyPatch,
    by_option: bool,
) -> None:
    """Options and variables alike."""
    options = ["--redis-url", redis_url, "--redis-prefix", key_prefix] if by_option else []
    if not by_option:
        monkeypatch.setenv("SHORTLIST_REDIS_URL", redis_url)
        monkeypatch.setenv("SHORTLIST_REDIS_PREFIX", key_prefix)
    result = demo("--data-dir", tmp_path, *options)
    assert result.exit_code == 0, result.output
    [settings] = served
    assert (settings.redis_url, settings.redis_prefix, settings.redis_cluster) == (redis_url, key_prefix, False)
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        assert len(client.keys(f"{key_prefix}:*:u:*")) == NUM_USERS


def test_a_port_that_there_is_not_is_refused_before_anything_is_trained(tmp_path: Path, served: list[Settings]) -> None:
    result = demo("--data-dir", tmp_path, "--port", 65_536)
    assert result.exit_code == 2
    assert "--port" in result.output
    assert served == []
    assert list(tmp_path.iterdir()) == []
