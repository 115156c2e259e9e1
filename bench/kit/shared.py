"""What the services of a run share: the machine's cores, one Redis with everybody's users, the files of a bundle."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from app.feature_store.embedded import find_server, prepare_socket, socket_path
from bench.kit.processes import CannotRun, Running, clean_environment, running
from models.contract.versions import bundle_path, read_active, write_active

LOAD_TIMEOUT_S = 600.0


class SharedRedis(NamedTuple):
    """A server that stands for the whole run."""

    url: str
    pid: int


def cores_of_machine() -> tuple[list[int], list[int]]:
    """The service's core, and those of the load client, Redis and all else. Raises CannotRun on a machine with one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise CannotRun("the load client and the service need a core each; this machine lets us use one")
    return cores[:1], cores[1:]


@contextmanager
def redis_server(folder: Path, cores: Sequence[int]) -> Iterator[SharedRedis]:
    """A Redis that keeps nothing, on a unix socket. It runs beside the load client: what it spends is no part of the
    service's time."""
    folder = folder.absolute()  # the server reads paths from its own folder
    socket = socket_path(folder)
    prepare_socket(socket, folder)  # one of a run that was killed would say that the server is ready
    command = [find_server(), "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
    with running([*command, "--dir", str(folder)], log=folder / "redis.log", cores=cores, ready=socket.exists) as redis:
        yield SharedRedis(f"unix://{socket}", redis.process.pid)


def load_users(data_dir: Path, redis_url: str, prefix: str, log: Path) -> str:
    """`shortlist load`; returns what it printed. Raises CannotRun."""
    command = [sys.executable, "-m", "cli.main", "load", "--data-dir", str(data_dir), "--redis-url", redis_url]
    with log.open("wb") as out:
        found = subprocess.run(
            [*command, "--redis-prefix", prefix],
            stdout=out, stderr=subprocess.STDOUT, env=clean_environment(), timeout=LOAD_TIMEOUT_S, check=False,
        )  # fmt: skip
    told = log.read_text(errors="replace")
    if found.returncode:
        raise CannotRun(f"`shortlist load` of {data_dir}: {told.strip()[-500:]}")
    return told


def link_bundle(data_dir: Path, own: Path) -> None:
    """A data folder with the very files of the other's active bundle."""
    version = read_active(data_dir / "bundles")
    if version is None:
        raise CannotRun(f"{data_dir}: no bundle is active there; export one")
    bundles = own / "bundles"
    if not (bundles / version).exists():
        shutil.copytree(bundle_path(data_dir / "bundles", version), bundles / version, copy_function=os.link)
    write_active(bundles, version)


def worker_memory(process: Running) -> list[int]:
    """Private bytes of each worker, in the order of their pids."""
    workers = [one for one in process.memory() if "app.worker" in one.command]
    return [one.private for one in sorted(workers, key=lambda one: one.pid)]
