"""What stands on the machine during a run: one Redis for all, and services on folders that share a bundle."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.feature_store.embedded import find_server
from bench.kit.plan import LoadPlan
from bench.kit.processes import CannotRun, Running, answers, clean_environment, free_port, running
from models.contract.versions import bundle_path, read_active, write_active

LOAD_TIMEOUT_S = 600.0
START_TIMEOUT_S = 120.0
WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True)
class Side:
    """A service under measurement.  name: in figures, as `60k`.  bodies: file with a request a line."""

    name: str
    port: int
    bodies: Path
    running: Running

    def plan(self, connections: int, seconds: float) -> LoadPlan:
        pids = tuple(self.running.pids)
        return LoadPlan(self.port, self.bodies, connections, seconds, warmup_s=WARM_UP_S, watch=pids)


@contextmanager
def redis_server(folder: Path, cores: Sequence[int]) -> Iterator[str]:
    """A Redis that keeps nothing, on a unix socket; yields its URL. It runs beside the load client: what it spends is
    no part of the service's time."""
    socket = folder / "redis.sock"
    command = [find_server(), "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
    with running([*command, "--dir", str(folder)], log=folder / "redis.log", cores=cores, ready=socket.exists):
        yield f"unix://{socket}"


def load_users(data_dir: Path, redis_url: str, prefix: str, log: Path) -> None:
    """`shortlist load`. Raises CannotRun."""
    command = [sys.executable, "-m", "cli.main", "load", "--data-dir", str(data_dir), "--redis-url", redis_url]
    with log.open("wb") as out:
        found = subprocess.run(
            [*command, "--redis-prefix", prefix],
            stdout=out, stderr=subprocess.STDOUT, env=clean_environment(), timeout=LOAD_TIMEOUT_S, check=False,
        )  # fmt: skip
    if found.returncode:
        raise CannotRun(f"`shortlist load` of {data_dir}: {log.read_text(errors='replace').strip()[-500:]}")


@contextmanager
def shortlist(
    name: str,
    data_dir: Path,
    bodies: Path,
    folder: Path,
    cores: Sequence[int],
    *,
    workers: int = 1,
    **settings: object,
) -> Iterator[Side]:
    """`shortlist serve` on the active bundle of data_dir.

    folder: of this service; its data folder has the same bundle, since two services cannot share one.  settings: more
    SHORTLIST_* variables. Without a deadline: answers that left something out would count as quick ones.
    """
    own = folder / name
    link_bundle(data_dir, own)
    port = free_port()
    given = {
        "data_dir": own,
        "port": port,
        "workers": workers,
        "deadline_ms": "null",
        "max_concurrency": 1024,
        **settings,
    }
    environment = clean_environment(**{f"SHORTLIST_{key.upper()}": value for key, value in given.items()})
    command = [sys.executable, "-m", "cli.main", "serve"]
    with running(
        command, log=folder / f"{name}.log", cores=cores, env=environment, start_timeout_s=START_TIMEOUT_S,
        ready=lambda: answers(f"http://127.0.0.1:{port}/readyz") and all_ready(folder / f"{name}.log"),
    ) as process:  # fmt: skip
        yield Side(name, port, bodies, process)


def all_ready(log: Path) -> bool:
    """Whether every worker serves, which the command says once."""
    return "serves on" in log.read_text(errors="replace")


def link_bundle(data_dir: Path, own: Path) -> None:
    """A data folder with the very files of the other's active bundle."""
    version = read_active(data_dir / "bundles")
    if version is None:
        raise CannotRun(f"{data_dir}: no bundle is active there; export one")
    bundles = own / "bundles"
    if not (bundles / version).exists():
        shutil.copytree(bundle_path(data_dir / "bundles", version), bundles / version, copy_function=os.link)
    write_active(bundles, version)


@contextmanager
def module(name: str, command: Sequence[str], bodies: Path, folder: Path, cores: Sequence[int]) -> Iterator[Side]:
    """Another service: `python -m command... --port N`, which answers GET /readyz."""
    port = free_port()
    with running(
        [sys.executable, "-m", *command, "--port", str(port)],
        log=folder / f"{name}.log", cores=cores, env=clean_environment(), start_timeout_s=START_TIMEOUT_S,
        ready=lambda: answers(f"http://127.0.0.1:{port}/readyz"),
    ) as process:  # fmt: skip
        yield Side(name, port, bodies, process)


def worker_memory(process: Running) -> list[int]:
    """Private bytes of each worker, in the order of their pids."""
    workers = [one for one in process.memory() if "app.worker" in one.command]
    return [one.private for one in sorted(workers, key=lambda one: one.pid)]


def cores_of_machine() -> tuple[list[int], list[int]]:
    """The service's core, and those of the load client, Redis and all else. Raises CannotRun on a machine with one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise CannotRun("the load client and the service need a core each; this machine lets us use one")
    return cores[:1], cores[1:]
