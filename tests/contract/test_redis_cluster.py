"""The same calls on a server in cluster mode, which refuses a script whose keys lie in different slots."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import redis

from app.feature_store.embedded import find_server
from app.feature_store.load import LoadJob, load_states
from app.feature_store.store import FeatureStore, StoreSettings
from cli.archive import archive_events
from models.contract.events import Event
from models.contract.schema import Schema
from models.contract.state import Limits, pack
from models.contract.state_parts import apply, assemble, empty

SCHEMA = Schema(event_types=["purchase"], seen_types=["purchase"])
NOW_MS = 20_000 * 86_400_000
NUM_SLOTS = 16_384


def free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One node that serves all slots."""
    port, bus = free_ports()
    folder: Path = tmp_path_factory.mktemp("cluster")
    options = {
        "port": port,
        "cluster-port": bus,
        "bind": "127.0.0.1",
        "cluster-enabled": "yes",
        "dir": folder,
        "save": "",
        "logfile": folder / "log",
    }
    command = [find_server(), *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
    process = subprocess.Popen(command)
    try:
        with redis.Redis(port=port, protocol=2) as client:
            until(client.ping)
            client.execute_command("CLUSTER ADDSLOTS", *range(NUM_SLOTS))
            until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            if condition():
                return
        except redis.ConnectionError:
            pass
        assert time.monotonic() < deadline, "the cluster does not come up"


async def test_events_reads_erasure_load_and_archive_work_on_a_cluster(
    cluster_url: str, key_prefix: str, tmp_path: Path
) -> None:
    settings = StoreSettings(prefix=key_prefix, cluster=True, read_timeout_s=5, write_timeout_s=5)
    store = await FeatureStore.connect(cluster_url, settings, now_ms=lambda: NOW_MS)
    events = [
        Event(user_id=f"u{user}", item_id=f"i{n}", event_type="purchase", event_id=f"e{n}", time=NOW_MS - n)
        for user in range(20)
        for n in range(3)
    ]
    results = await store.apply([*events, *events[:5]], SCHEMA, NOW_MS)
    assert [result.status for result in results] == ["accepted"] * 60 + ["duplicate"] * 5
    assert store.durability == "no"  # this server has no append-only file
    expected = empty()
    for n in range(3):
        expected = apply(
            expected,
            time_ms=NOW_MS - n,
            item_id=f"i{n}",
            event_type="purchase",
            seen=True,
            limits=Limits.of(SCHEMA),
        )
    state = await store.state("u7")
    assert state is not None
    assert pack(state) == pack(expected)

    erased = await store.erase_user("u7")
    assert (erased.states, erased.event_ids, erased.stream_events) == (1, 3, 3)
    assert len((await store.export_user("u8", SCHEMA.event_types))["events"]) == 3
    await store.aclose()

    loaded = pack(assemble([], {}, False, {}, b"", load_tag=9))
    users = [(f"u{user}", loaded) for user in range(6, 30)]
    job = LoadJob(lambda start: users[start:], len(users), 9, NOW_MS - 10, SCHEMA)
    report = load_states(cluster_url, job, prefix=key_prefix, cluster=True)
    assert (report.loaded, report.merged, report.erased) == (10, 13, 1)

    archive_events(cluster_url, tmp_path, prefix=key_prefix, cluster=True)
    archived = pq.read_table(tmp_path / "events-00000001.parquet")
    assert sorted(set(archived["user_id"].to_pylist())) == sorted(f"u{n}" for n in range(20) if n != 7)
