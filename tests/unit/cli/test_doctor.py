"""`shortlist doctor`: each thing that can be wrong is found, named, and answered with what to do."""

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from typer import Typer
from typer.testing import CliRunner, Result

from app.feature_store.embedded import EmbeddedRedis
from app.workers import WorkerStatus, write_status
from cli import doctor_machine, doctor_redis
from cli.doctor import doctor
from export.write import write_bundle
from models.contract.manifest import Gate
from models.contract.versions import write_active
from tests.tiny_bundle import AS_OF_MS, tiny_content

app = Typer()
app.command()(doctor)
GIB = 2**30
DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any free port, so that what runs on this machine does not matter."""
    for name in [name for name in os.environ if name.upper().startswith("SHORTLIST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SHORTLIST_PORT", "0")


def activate(data_dir: Path, age: timedelta = timedelta(), **changes: Any) -> Path:
    """An active bundle whose data ended this long ago."""
    items = data_dir / "scratch"
    items.mkdir(parents=True)
    ended = datetime.now(UTC) - age
    shift = int(ended.timestamp() * 1000) - AS_OF_MS
    content = replace(tiny_content(items), clock_shift_ms=shift, **changes)
    path = write_bundle(data_dir / "bundles", content, ended)
    write_active(path.parent, path.name)
    return path


def run(data_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--data-dir", str(data_dir), *arguments])


def findings(data_dir: Path) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code, and the checks by name."""
    result = run(data_dir, "--json")
    told = json.loads(result.stdout)
    assert told["status"] == ("problem" if result.exit_code else told["status"])
    assert all(check["advice"] or check["status"] == "ok" for check in told["checks"])
    return result.exit_code, {check["name"]: check for check in told["checks"]}


@pytest.fixture
def with_redis(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORTLIST_REDIS_URL", redis_url)
    monkeypatch.setenv("SHORTLIST_REDIS_READ_TIMEOUT_MS", "5000")


@pytest.mark.usefixtures("with_redis")
def test_all_is_well(tmp_path: Path) -> None:
    path = activate(tmp_path)
    code, found = findings(tmp_path)
    names = {"bundle", "bundle gates", "bundle age", "redis server", "redis persistence", "redis eviction", "settings"}
    assert code == 0
    assert {name: found[name]["status"] for name in names} == dict.fromkeys(names, "ok")
    assert found["bundle"]["found"].startswith(f"{path.name}: 120 items, whole, answers")
    assert found["redis server"]["found"].startswith("Valkey ")
    assert found["redis persistence"]["found"].startswith("appendfsync always")
    assert found["bundle age"]["found"] == "made 0 days ago, of data up to 0 days ago"
    assert not (tmp_path / "redis").exists(), "nothing is changed"


def test_a_new_machine_is_told_how_to_start(tmp_path: Path) -> None:
    """Nothing is there yet, which is no problem; and nothing is made."""
    code, found = findings(tmp_path / "data")
    assert code == 0
    assert (found["data directory"]["status"], found["data directory"]["advice"]) == (
        "warning", "start with: shortlist demo",
    )  # fmt: skip
    assert found["bundle"]["status"] == "warning"
    assert found["redis server"]["found"].startswith("the embedded one starts")
    assert not (tmp_path / "data").exists()


def test_an_embedded_redis_that_a_service_runs_is_looked_at(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis"):
        assert findings(tmp_path)[1]["redis persistence"]["found"].startswith("appendfsync always")


@pytest.mark.usefixtures("with_redis")
def test_a_flipped_byte_is_a_problem_that_names_the_file(tmp_path: Path) -> None:
    path = activate(tmp_path)
    vectors = path / "retrieval/item_vectors.npy"
    raw = bytearray(vectors.read_bytes())
    raw[-5] ^= 1
    vectors.write_bytes(raw)
    code, found = findings(tmp_path)
    assert code == 1
    assert found["bundle"]["status"] == "problem"
    assert "retrieval/item_vectors.npy: was changed" in found["bundle"]["found"]
    assert found["bundle"]["advice"] == "shortlist export"
    assert "bundle age" not in found


@pytest.mark.usefixtures("with_redis")
@pytest.mark.parametrize(
    ("pointer", "reason"),
    [("20200101T000000Z-abcdef", "is not a folder with a bundle"), ("../../etc", "does not hold one bundle version")],
)
def test_a_pointer_to_nothing_is_a_problem(tmp_path: Path, pointer: str, reason: str) -> None:
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles/ACTIVE").write_text(f"{pointer}\n")
    code, found = findings(tmp_path)
    assert (code, found["bundle"]["status"]) == (1, "problem")
    assert reason in found["bundle"]["found"]


@pytest.mark.usefixtures("with_redis")
def test_a_damaged_bundle_with_a_whole_one_before_it(tmp_path: Path) -> None:
    path, before = activate(tmp_path), activate(tmp_path / "other")
    before = before.rename(path.parent / before.name)
    write_active(path.parent, before.name)
    write_active(path.parent, path.name)
    (path / "model_card.md").unlink()
    _, found = findings(tmp_path)
    assert found["bundle"]["found"].startswith("model_card.md: is missing")
    assert found["bundle"]["advice"].startswith(f"go back to {before.name} with POST /bundles/rollback")


@pytest.mark.usefixtures("with_redis")
def test_an_old_bundle_and_a_failed_gate(tmp_path: Path) -> None:
    """A gate fails in no bundle that `export` made; whoever made this one made a mistake."""
    gate = Gate(name="int8 overlap", value=0.5, rule="at_least", limit=0.9, passed=False)
    activate(tmp_path, timedelta(days=31, hours=1), gates=[gate])
    code, found = findings(tmp_path)
    assert code == 1
    assert (found["bundle gates"]["status"], found["bundle gates"]["found"]) == (
        "problem", "failed: int8 overlap 0.5 (at_least 0.9)",
    )  # fmt: skip
    assert (found["bundle age"]["status"], found["bundle age"]["found"]) == (
        "warning", "made 31 days ago, of data up to 31 days ago",
    )  # fmt: skip


def test_no_redis_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORTLIST_REDIS_URL", f"unix://{tmp_path}/none.sock")
    code, found = findings(tmp_path)
    assert (code, found["redis server"]["status"]) == (1, "problem")
    assert "SHORTLIST_REDIS_URL" in found["redis server"]["advice"]


def test_a_redis_that_never_answers_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts the connection and hangs; and no password of its address is repeated."""
    monkeypatch.setattr(doctor_redis, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("SHORTLIST_REDIS_URL", f"redis://:pass-word@127.0.0.1:{silent.getsockname()[1]}")
        result = run(tmp_path)
    assert result.exit_code == 1
    assert "no answer: Timeout" in result.output
    assert "pass-word" not in result.output


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    """A server of these tests alone, whose configuration they may change."""
    with (
        EmbeddedRedis(tmp_path_factory.mktemp("own")) as server,
        redis.Redis.from_url(server.url, protocol=2) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("config", "name", "status", "told"),
    [
        ({"appendfsync": "everysec"}, "redis persistence", "ok", "a crash of the machine costs about a second"),
        ({"appendfsync": "no"}, "redis persistence", "warning", "appendfsync no"),
        ({"appendonly": "no"}, "redis persistence", "warning", "no append-only file"),
        ({"maxmemory-policy": "allkeys-lru"}, "redis eviction", "warning", "allkeys-lru"),
        ({"maxmemory-policy": "allkeys-lru", "maxmemory": "1gb"}, "redis eviction", "problem", "allkeys-lru"),
    ],
)
def test_a_redis_that_loses_things(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own_redis: redis.Redis,
    config: dict[str, str],
    name: str,
    status: str,
    told: str,
) -> None:
    sound = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "maxmemory": "0"}
    for key, value in (sound | config).items():
        own_redis.config_set(key, value)
    socket_path = own_redis.connection_pool.connection_kwargs["path"]
    monkeypatch.setenv("SHORTLIST_REDIS_URL", f"unix://{socket_path}")
    _, found = findings(tmp_path)
    assert found[name]["status"] == status
    assert told in found[name]["found"]


@pytest.mark.usefixtures("with_redis")
def test_a_single_server_that_is_said_to_be_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORTLIST_REDIS_CLUSTER", "true")
    code, found = findings(tmp_path)
    assert (code, found["redis cluster"]["advice"]) == (1, "set SHORTLIST_REDIS_CLUSTER=false")


def test_versions_and_latencies_have_their_limits() -> None:
    def version(told: str) -> str:
        return doctor_redis.version({"redis_version": told}).status

    assert [version(told) for told in ("6.0.16", "5.9", "6.2.0", "7.2.4", "10.0")] == ["problem"] * 2 + ["ok"] * 3
    latencies = ([1.0, 2.0, 29.9], [1.0, 2.0, 30.0], [1.0, 30.0, 31.0])
    assert [doctor_redis.latency(times, 30).status for times in latencies] == ["ok", "warning", "problem"]
    assert doctor_redis.persistence(None).status == "warning"
    assert doctor_redis.eviction(None).status == "warning"


@pytest.mark.usefixtures("with_redis")
def test_a_port_in_use_is_a_problem_unless_the_service_itself_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("SHORTLIST_PORT", str(port))
        code, found = findings(tmp_path)
        assert (code, found["port"]["status"]) == (1, "problem")
        assert found["port"]["found"] == f"127.0.0.1:{port}: Address already in use"
        write_status(tmp_path / "run", WorkerStatus(0, os.getpid(), "1:1", "20200101T000000Z-abcdef"))
        code, found = findings(tmp_path)
        assert (code, found["port"]["status"], found["worker 0"]["status"]) == (0, "ok", "ok")
        refused = WorkerStatus(0, os.getpid(), "1:1", "20200101T000000Z-abcdef", "items/ids: was changed")
        write_status(tmp_path / "run", refused)
        code, found = findings(tmp_path)
    assert (code, found["worker 0"]["status"], found["worker 0"]["found"]) == (1, "problem", "items/ids: was changed")


def test_settings_that_the_service_would_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is named and none is repeated, since it may be a key; the rest is looked at all the same."""
    activate(tmp_path)
    monkeypatch.setenv("SHORTLIST_WORKERS", "0")
    monkeypatch.setenv("SHORTLIST_API_KEYS", "my-secret-key")
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "problem: settings: correct SHORTLIST_WORKERS" in result.output
    assert "problem: settings: correct SHORTLIST_API_KEYS" in result.output
    assert "my-secret-key" not in result.output
    assert "120 items" in result.output


@pytest.mark.usefixtures("with_redis")
def test_a_misspelt_setting_is_pointed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would have no effect, and nobody would say so."""
    monkeypatch.setenv("SHORTLIST_WROKERS", "2")
    result = run(tmp_path)
    assert result.exit_code == 0
    assert "warning: settings: did you mean SHORTLIST_WORKERS?" in result.output


@pytest.mark.usefixtures("with_redis")
def test_an_open_door_and_too_many_workers_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORTLIST_INSECURE", "true")
    monkeypatch.setenv("SHORTLIST_WORKERS", "256")
    _, found = findings(tmp_path)
    assert (found["access"]["status"], found["workers"]["status"]) == ("warning", "warning")


def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    code, found = findings(tmp_path / "data")
    assert (code, found["data directory"]["status"]) == (1, "problem")


def test_machines_that_are_too_small_or_too_old() -> None:
    assert [doctor_machine.python(v).status for v in ((3, 11, 0), (3, 12, 1), (3, 10, 9))] == ["ok"] + ["problem"] * 2
    assert [doctor_machine.cores(n).status for n in (1, 2)] == ["warning", "ok"]
    assert [doctor_machine.kernels(compiled).status for compiled in (False, True)] == ["warning", "ok"]
    assert "C compiler" in doctor_machine.kernels(False).advice
    sizes = (GIB // 2 - 1, GIB // 2, 2 * GIB - 1, 2 * GIB, None)
    assert [doctor_machine.memory(n).status for n in sizes] == ["problem", "warning", "warning", "ok", "ok"]
    sizes = (GIB // 2 - 1, GIB // 2, 5 * GIB)
    assert [doctor_machine.free_disk(n, Path("/")).status for n in sizes] == ["problem", "warning", "ok"]


def test_memory_is_what_is_available_within_the_containers_limit() -> None:
    meminfo = "MemTotal:       16000000 kB\nMemAvailable:    4000000 kB\n"
    assert doctor_machine.available_memory(meminfo, "max\n") == 4_096_000_000
    assert doctor_machine.available_memory(meminfo, "1073741824\n") == GIB
    assert doctor_machine.available_memory("", "max\n") is None


@pytest.mark.parametrize(
    ("architecture", "flags", "status", "told"),
    [
        ("x86_64", "fpu avx2 avx512_vnni", "ok", "AVX2, avx512_vnni"),
        ("x86_64", "fpu avx2 avx_vnni", "ok", "AVX2, avx_vnni"),
        ("x86_64", "fpu avx2", "ok", "AVX2, no VNNI: int8 graphs gain little"),
        ("x86_64", "fpu sse4_2", "warning", "no AVX2"),
        ("x86_64", "", "ok", "x86_64; the system does not list them"),
        ("aarch64", "fp asimddp", "ok", "aarch64, dot product"),
    ],
)
def test_instructions_of_the_processor(architecture: str, flags: str, status: str, told: str) -> None:
    found = doctor_machine.instructions(architecture, f"flags\t\t: {flags}\n" if flags else "")
    assert (found.status, found.found) == (status, told)


def test_a_library_that_does_not_load_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "SERVING", {"no-such-library": "no_such_library"})
    monkeypatch.setattr(doctor_machine, "TRAINING", ("no-such-trainer",))
    missing, optional = doctor_machine.libraries()
    assert (missing.status, optional.status) == ("problem", "ok")
    assert "only training needs it" in optional.found
