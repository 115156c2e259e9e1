"""`shortlist events archive`: each event exactly once, whatever dies when; erased users leave the archive too."""

import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
import redis

from app.feature_store.keys import PARTITIONS, Keys
from app.feature_store.store import FeatureStore
from cli.archive import archive_events
from cli.archive_files import ArchiveError
from models.contract.events import Event
from models.contract.schema import Schema

NOW_MS = 20_000 * 86_400_000
SCHEMA = Schema(event_types=["view", "purchase"], seen_types=["purchase"], event_context=["store", "position"])
ROOT = Path(__file__).parents[2]

# Runs the command with `what` replaced by a function that dies before or after doing its work.
DIE = """
import os, signal, sys
from importlib import import_module
from pathlib import Path
from cli.archive import archive_events

url, folder, prefix, module, path, moment, nth = sys.argv[1:]
owner = import_module(module)
*holders, name = path.split(".")
for holder in holders:
    owner = getattr(owner, holder)
real, calls = getattr(owner, name), 0

def dying(*args, **named):
    global calls
    calls += 1
    if calls == int(nth) and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*args, **named)
    if calls == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, name, dying)
archive_events(url, Path(folder), prefix=prefix, rows_per_file=40, context=["store"])
"""


def event(user: int, number: int) -> Event:
    return Event(
        user_id=f"u{user}",
        item_id=f"i{number}",
        event_type="purchase",
        event_id=f"{user}-{number}",
        time=NOW_MS - number * 1000,
        value=number / 2,
        context={"store": number % 3, "position": "shelf"},
        recommendation_id="r1",
        position=number + 1,
    )


async def send(store: FeatureStore, users: Sequence[int], numbers: Sequence[int]) -> set[str]:
    events = [event(user, number) for user in users for number in numbers]
    results = await store.apply(events, SCHEMA, NOW_MS)
    assert {result.status for result in results} == {"accepted"}
    return {f"{one.user_id[1:]}-{one.item_id[1:]}" for one in events}


def archive_and_die(url: str, folder: Path, prefix: str, module: str, path: str, moment: str, nth: int) -> None:
    """Run the archive in another process that kills itself at the nth call of a function."""
    command = [sys.executable, "-c", DIE, url, str(folder), prefix, module, path, moment, str(nth)]
    died = subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()


def archived(folder: Path) -> Counter[str]:
    return Counter(name for path in folder.glob("*.parquet") for name in pq.read_table(path)["event_id"].to_pylist())


def left_in_redis(url: str, prefix: str) -> int:
    with redis.Redis.from_url(url, protocol=2) as client:
        return sum(client.xlen(Keys(prefix).events(p)) for p in range(PARTITIONS))


async def test_rows_have_the_shape_of_the_interactions_input(
    redis_url: str, key_prefix: str, store: FeatureStore, tmp_path: Path
) -> None:
    """DuckDB, which prepare uses, reads a plain UTC timestamp, texts and numbers."""
    await store.apply([event(1, 4)], SCHEMA, NOW_MS, clock_shift_ms=7)
    await store.apply([Event(user_id="ü", item_id="i", event_type="view", time=NOW_MS + 1)], SCHEMA, NOW_MS)
    report = archive_events(redis_url, tmp_path, context=["store", "unused"], prefix=key_prefix)
    assert (report.events, report.files) == (2, 1)
    with duckdb.connect() as connection:
        result = connection.sql(f"select * exclude (stream_id) from '{tmp_path}/*.parquet' order by user_id")
        names, rows = result.columns, result.fetchall()
    at = datetime(2024, 10, 4)
    expected = {
        "user_id": ("u1", "ü"),
        "item_id": ("i4", "i"),
        "timestamp": (at.replace(day=3, hour=23, minute=59, second=56), at.replace(microsecond=1000)),
        "event_type": ("purchase", "view"),
        "value": (2.0, None),
        "store": ("1", None),
        "unused": (None, None),
        "context.position": ("shelf", None),
        "recommendation_id": ("r1", None),
        "position": (5, None),
        "event_id": ("1-4", None),
        "clock_shift_ms": (7, 0),
    }
    assert dict(zip(names, zip(*rows, strict=True), strict=True)) == expected
    assert left_in_redis(redis_url, key_prefix) == 0


async def test_each_event_is_archived_once_over_several_runs(
    redis_url: str, key_prefix: str, store: FeatureStore, tmp_path: Path
) -> None:
    sent = await send(store, range(5), range(4))
    archive_events(redis_url, tmp_path, prefix=key_prefix, rows_per_file=7)
    assert archive_events(redis_url, tmp_path, prefix=key_prefix).events == 0
    sent |= await send(store, range(5), range(4, 9))
    archive_events(redis_url, tmp_path, prefix=key_prefix, rows_per_file=7)
    assert archived(tmp_path) == Counter(sent)
    assert left_in_redis(redis_url, key_prefix) == 0


@pytest.mark.parametrize(
    ("module", "path", "moment", "nth"),
    [
        ("cli.archive", "write_file", "before", 1),  # nothing written
        ("cli.archive_files", "os.fsync", "before", 1),  # a temporary file that may not be on the disk
        ("pathlib", "Path.replace", "before", 2),  # the first file done, the second still temporary
        ("pathlib", "Path.replace", "after", 1),  # in place, not trimmed
        ("pathlib", "Path.replace", "after", 2),
        ("app.feature_store.event_log", "EventLog.trim", "after", 2),  # the first call trims what earlier runs left
    ],
)
async def test_killed_at_any_step_the_next_run_archives_each_event_once(
    redis_url: str, key_prefix: str, store: FeatureStore, tmp_path: Path, module: str, path: str, moment: str, nth: int
) -> None:
    """After kill -9 each event is in the archive or in Redis; after the next run it is in the archive, once."""
    sent = await send(store, range(10), range(10))
    archive_and_die(redis_url, tmp_path, key_prefix, module, path, moment, nth)
    in_between = archived(tmp_path)
    assert set(in_between.values()) <= {1}
    assert sum(in_between.values()) + left_in_redis(redis_url, key_prefix) >= len(sent)

    sent |= await send(store, range(10), range(10, 12))
    archive_events(redis_url, tmp_path, prefix=key_prefix, rows_per_file=1000)
    assert archived(tmp_path) == Counter(sent)
    assert left_in_redis(redis_url, key_prefix) == 0
    assert [name for name in os.listdir(tmp_path) if name.endswith(".tmp")] == []


async def test_an_erased_user_leaves_the_archive_and_later_events_stay(
    redis_url: str, key_prefix: str, store: FeatureStore, tmp_path: Path
) -> None:
    """Rows from before the erasure go, from files and stream alike; what the user did afterwards is kept."""
    await send(store, [1, 2], range(6))
    archive_events(redis_url, tmp_path, prefix=key_prefix, rows_per_file=5)
    await send(store, [1, 2], range(6, 8))
    erased = await store.erase_user("u1")
    assert (erased.states, erased.stream_events) == (1, 2)
    await send(store, [1], [20])
    report = archive_events(redis_url, tmp_path, prefix=key_prefix)
    assert (report.events, report.erased_users, report.erased_rows) == (3, 1, 6)
    assert set(archived(tmp_path)) == {"1-20", *(f"2-{number}" for number in range(8))}
    assert archive_events(redis_url, tmp_path, prefix=key_prefix).erased_users == 0
    await send(store, [2], [30])
    archive_events(redis_url, tmp_path, prefix=key_prefix)
    assert archived(tmp_path)["2-30"] == 1


async def test_killed_while_erasing_the_next_run_finishes(
    redis_url: str, key_prefix: str, store: FeatureStore, tmp_path: Path
) -> None:
    """The tombstone outlives a run that rewrote only one of the files."""
    await send(store, [1, 2], range(6))
    archive_events(redis_url, tmp_path, prefix=key_prefix, rows_per_file=5)
    await store.erase_user("u1")
    archive_and_die(redis_url, tmp_path, key_prefix, "cli.archive", "remove_users", "after", 2)
    assert archive_events(redis_url, tmp_path, prefix=key_prefix).erased_users == 1
    assert archived(tmp_path) == Counter(f"2-{number}" for number in range(6))


async def test_an_erasure_that_was_interrupted_is_finished_by_the_archive(
    redis_url: str, key_prefix: str, store: FeatureStore, tmp_path: Path
) -> None:
    """Entries up to the tombstone that are still in the stream do not stay in a file."""
    await send(store, [1, 2], range(3))
    keys = Keys(key_prefix)
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        for p in range(PARTITIONS):
            for entry_id, fields in client.xrange(keys.events(p)):
                if b'"user":"u1"' in fields[b"event"]:
                    client.hset(keys.erasing(p), "u1", entry_id)  # as erase_user does before it deletes entries
    archive_events(redis_url, tmp_path, prefix=key_prefix)
    assert archived(tmp_path) == Counter(f"2-{number}" for number in range(3))
    assert left_in_redis(redis_url, key_prefix) == 0


async def test_an_emptied_store_starts_new_marks(
    redis_url: str, key_prefix: str, store: FeatureStore, tmp_path: Path
) -> None:
    """Positions of a store that was lost say nothing about its successor's streams, even if its clock ran ahead."""
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        sent = await send(store, [1], [1])
        [stream] = client.keys(f"{key_prefix}:*:events")
        client.xadd(stream, client.xrange(stream)[0][1], id="99999999999999-0")
        archive_events(redis_url, tmp_path, prefix=key_prefix)
        client.delete(*client.keys(f"{key_prefix}:*"))
    sent |= await send(store, [1], [2])
    assert archive_events(redis_url, tmp_path, prefix=key_prefix).events == 1
    assert set(archived(tmp_path)) == sent


async def test_a_folder_that_cannot_be_written_trims_nothing(
    redis_url: str, key_prefix: str, store: FeatureStore, tmp_path: Path
) -> None:
    """A file stands where the folder should be: the error names it, and Redis keeps the events."""
    await send(store, [1], range(3))
    (tmp_path / "archive").write_text("not a folder")
    with pytest.raises(ArchiveError, match=r"cannot write to .*archive: .* No event was moved or trimmed"):
        archive_events(redis_url, tmp_path / "archive", prefix=key_prefix)
    assert left_in_redis(redis_url, key_prefix) == 3


async def test_a_full_disk_trims_nothing(redis_url: str, key_prefix: str, store: FeatureStore, tmp_path: Path) -> None:
    """The write fails half-way: no file is left, and the next run archives all."""
    sent = await send(store, range(3), range(100))
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, previous[1]))
    try:
        with pytest.raises(ArchiveError, match=r"cannot write .*events-00000001.parquet.* Events stay in Redis"):
            archive_events(redis_url, tmp_path, prefix=key_prefix)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous)
    assert left_in_redis(redis_url, key_prefix) == 300
    assert os.listdir(tmp_path) == [".lock"]
    archive_events(redis_url, tmp_path, prefix=key_prefix)
    assert archived(tmp_path) == Counter(sent)


async def test_a_damaged_file_is_named_and_nothing_is_trimmed(
    redis_url: str, key_prefix: str, store: FeatureStore, tmp_path: Path
) -> None:
    await send(store, [1], range(3))
    (tmp_path / "events-00000001.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(ArchiveError, match=r"events-00000001.parquet is damaged"):
        archive_events(redis_url, tmp_path, prefix=key_prefix)
    assert left_in_redis(redis_url, key_prefix) == 3


async def test_a_second_run_at_the_same_time_is_refused(
    redis_url: str, key_prefix: str, store: FeatureStore, tmp_path: Path
) -> None:
    """Two runs would each write the same events."""
    await send(store, [1], [1])

    def again(step: str, events: int) -> None:
        if step == "started":
            archive_events(redis_url, tmp_path, prefix=key_prefix)

    with pytest.raises(ArchiveError, match="another `shortlist events archive` is at work"):
        archive_events(redis_url, tmp_path, prefix=key_prefix, on_step=again)
    assert archive_events(redis_url, tmp_path, prefix=key_prefix).events == 1
