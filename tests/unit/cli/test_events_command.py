"""`shortlist events archive` as a person runs it."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.feature_store.embedded import EmbeddedRedis
from app.feature_store.store import FeatureStore
from cli.events import events
from models.contract.events import Event
from models.contract.schema import Schema

NOW_MS = 20_000 * 86_400_000


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA_DIR", "REDIS_URL", "REDIS_CLUSTER", "REDIS_PREFIX"):
        monkeypatch.delenv(f"SHORTLIST_{name}", raising=False)


def archive(*arguments: object) -> Result:
    return CliRunner().invoke(events, ["archive", *map(str, arguments)])


async def two_events(url: str) -> None:
    store = await FeatureStore.connect(url)
    sent = [Event(user_id="u", item_id=item, event_type="view", time=NOW_MS) for item in "ab"]
    await store.apply(sent, Schema(event_types=["view"], seen_types=[]), NOW_MS)
    await store.erase_user("nobody")
    await store.aclose()


def test_archives_from_the_embedded_redis_whether_a_service_runs_it_or_not(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        asyncio.run(two_events(server.url))
        result = archive("--data-dir", tmp_path)
        assert "archived 2 events in 1 files" in result.output.replace("\n", " ")
        assert "removed 0 archived events of 1 erased users" in result.output
        assert server.running
    result = archive("--data-dir", tmp_path)
    assert result.exit_code == 0, result.output
    assert "archived 0 events in 0 files" in result.output.replace("\n", " ")


def test_a_redis_that_is_not_there_ends_with_code_2(tmp_path: Path) -> None:
    result = archive("--data-dir", tmp_path, "--redis-url", f"unix://{tmp_path}/none.sock")
    assert result.exit_code == 2
    assert "run the command again" in result.output


def test_an_archive_folder_that_cannot_be_made_ends_with_code_2(
    tmp_path: Path, redis_url: str, key_prefix: str
) -> None:
    (tmp_path / "archive").write_text("not a folder")
    result = archive("--data-dir", tmp_path, "--redis-url", redis_url, "--redis-prefix", key_prefix)
    assert result.exit_code == 2
    assert "No event was moved or trimmed" in result.output
