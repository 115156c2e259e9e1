"""The service and its yardsticks as running processes, each ready to be loaded, each gone when its block ends."""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.feature_store.embedded import EmbeddedRedis
from app.settings import PREFIX
from app.workers import live_workers
from bench.kit.naive_files import FOLDER, read_info
from bench.kit.naive_graphs import naive_folder
from bench.kit.processes import Running, answers, clean_environment, free_port, running
from bench.naive import seed
from models.contract.bundle import verify_bundle
from models.contract.versions import bundle_path
from models.data.dataset import load_dataset

Cores = Sequence[int] | None


@dataclass(frozen=True, slots=True)
class Service:
    """A service that answers POST /recommend on a port of loopback."""

    port: int
    running: Running


@contextmanager
def shortlist(
    data_dir: Path,
    log: Path,
    *,
    cores: Cores = None,
    workers: int = 1,
    settings: Mapping[str, object] | None = None,
    start_timeout_s: float = 120.0,
) -> Iterator[Service]:
    """`shortlist serve` on this data folder, with its embedded Redis unless `settings` names another.

    settings: of app.settings.Settings by name, as {"max_batch": 1, "deadline_ms": "null"}. Raises CannotRun.
    """
    port = free_port()
    given = {"data_dir": data_dir.absolute(), "port": port, "workers": workers, "drain_s": 0, **(settings or {})}
    environment = clean_environment(**{f"{PREFIX}{name.upper()}": value for name, value in given.items()})

    def ready() -> bool:
        return answers(f"http://127.0.0.1:{port}/readyz") and len(live_workers(data_dir / "run")) == workers

    command = [sys.executable, "-m", "cli.main", "serve"]
    with running(
        command, log=log, ready=ready, cores=cores, env=environment, start_timeout_s=start_timeout_s
    ) as process:
        yield Service(port, process)


@contextmanager
def noop(log: Path, *, cores: Cores = None) -> Iterator[Service]:
    """Raises CannotRun."""
    with _yardstick(["bench.noop"], log, cores) as service:
        yield service


@contextmanager
def naive(data_dir: Path, log: Path, *, cores: Cores = None) -> Iterator[Service]:
    """Makes its graphs and seeds its own Redis first, unless that was done for this bundle; takes seconds to minutes.

    Raises CannotRun, ValueError for models without a ranker, CheckpointError, BundleError, EmbeddedRedisError.
    """
    naive_folder(data_dir)
    manifest = verify_bundle(bundle_path(data_dir / "bundles", read_info(data_dir / FOLDER).bundle))
    with EmbeddedRedis(data_dir / FOLDER / "redis") as redis:
        seed(load_dataset(data_dir / "prepared"), redis.url, manifest.clock_shift_ms, time.time_ns() // 1_000_000)
        if cores is not None:
            os.sched_setaffinity(redis.pid, cores)  # beside its service, as Shortlist's own is
        command = ["bench.naive", "--data-dir", str(data_dir.absolute()), "--redis-url", redis.url]
        with _yardstick(command, log, cores, others=[redis.pid]) as service:
            yield service


@contextmanager
def implicit(data_dir: Path, log: Path, *, cores: Cores = None) -> Iterator[Service]:
    """Fits its model first, unless that was done for this data. Raises CannotRun."""
    with _yardstick(["bench.implicit_service", "--data-dir", str(data_dir.absolute())], log, cores) as service:
        yield service


@contextmanager
def _yardstick(command: Sequence[str], log: Path, cores: Cores, others: Sequence[int] = ()) -> Iterator[Service]:
    port = free_port()
    with running(
        [sys.executable, "-m", *command, "--port", str(port)],
        log=log,
        ready=lambda: answers(f"http://127.0.0.1:{port}/readyz"),
        cores=cores,
        env=clean_environment(),
        others=others,
        start_timeout_s=300.0,
    ) as process:
        yield Service(port, process)
