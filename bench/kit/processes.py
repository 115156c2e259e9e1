"""A process of the benchmark: pinned to cores, waited for, and always stopped with all that it started.

with running([sys.executable, "-m", "bench.noop", "--port", "9000"], log=folder / "noop.log", cores=[0],
             ready=lambda: answers("http://127.0.0.1:9000/readyz")) as noop:
    before = noop.cpu()
"""

import ctypes
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.kit.cpu import Cpu, Life, Memory, cpu, descendants, is_alive, lives, memory

POLL_S = 0.02
GRACE_S = 1.0  # for descendants to follow a process that has ended
TAIL_LINES = 5
_LIBC, _PR_SET_PDEATHSIG = ctypes.CDLL(None), 1
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class CannotRun(Exception):
    """A process that ended or did not become ready in time; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Running:
    """A process and its descendants.  others: processes outside its tree that belong to it, as a Redis."""

    process: subprocess.Popen[bytes]
    log: Path
    others: tuple[int, ...] = ()

    @property
    def pids(self) -> list[int]:
        return descendants([self.process.pid, *self.others])

    def cpu(self) -> Cpu:
        return cpu(self.pids)

    def memory(self) -> list[Memory]:
        return memory(self.pids)


@contextmanager
def running(
    command: Sequence[str],
    *,
    log: Path,
    ready: Callable[[], bool],
    cores: Sequence[int] | None = None,
    env: Mapping[str, str] | None = None,
    others: Sequence[int] = (),
    start_timeout_s: float = 60.0,
    stop_timeout_s: float = 20.0,
) -> Iterator[Running]:
    """Run a command for the block, which begins when `ready` says so. Raises CannotRun.

    log: where what it prints goes.  cores: which it may use, all if not given.  env: in place of this process's own.
    At the end it gets SIGTERM, and what is left of it after stop_timeout_s SIGKILL.
    """
    process = start_pinned(command, log=log, cores=cores, env=env)
    family: set[Life] = set()
    try:
        _wait_until(ready, process, log, start_timeout_s)
        family = lives([process.pid])
        yield Running(process, log, tuple(others))
    finally:
        stop(process, stop_timeout_s, family)


def start_pinned(
    command: Sequence[str], *, log: Path, cores: Sequence[int] | None = None, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start it in a session of its own: Ctrl-C in the terminal reaches it through `stop` alone. Should the thread that
    called this end without a `stop`, as when the benchmark is killed, it gets SIGTERM."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out, _pinned(cores):
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
            preexec_fn=lambda: _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM),  # one call into libc, no lock taken
        )


def run_to_end(
    command: Sequence[str],
    *,
    log: Path,
    timeout_s: float,
    cores: Sequence[int] | None = None,
    env: Mapping[str, str] | None = None,
) -> int:
    """Its exit code. Raises subprocess.TimeoutExpired; what is left of it is stopped in any case."""
    process = start_pinned(command, log=log, cores=cores, env=env)
    try:
        return process.wait(timeout_s)
    finally:
        stop(process, 1.0)


def stop(process: subprocess.Popen[bytes], timeout_s: float, family: Collection[Life] = ()) -> None:
    """SIGTERM, and after its time SIGKILL to all that is left.

    family: processes known to be of it, which could not be found any more if it has ended before them. Those in
    sessions of their own are among them, which a signal to the process group would miss.
    """
    family = {*family, *lives([process.pid])}
    try:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
            _wait_for_end(family, GRACE_S)
        family |= lives([process.pid])
    finally:
        for life in family:
            if is_alive(life):
                os.kill(life.pid, signal.SIGKILL)
        process.wait()


def answers(url: str, timeout_s: float = 1.0) -> bool:
    """Whether a GET brings status 200."""
    try:
        with _NO_PROXY.open(url, timeout=timeout_s) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def free_port() -> int:
    """A TCP port of loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment(**more: object) -> dict[str, str]:
    """This process's environment without settings of the service, with one thread for each numeric library."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("SHORTLIST_")}
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    return {**inherited, **one_thread, **{name: str(value) for name, value in more.items()}}


@contextmanager
def _pinned(cores: Sequence[int] | None) -> Iterator[None]:
    """What this thread starts inherits the cores from its first instruction on: a runtime that makes its threads at
    once (Go) would be too quick for a setting afterwards."""
    own = os.sched_getaffinity(0)
    if cores is not None:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        if process.poll() is not None:
            raise CannotRun(f"`{_shown(process)}` ended with code {process.returncode}: {_tail(log)}")
        if time.monotonic() > deadline:
            raise CannotRun(f"`{_shown(process)}` was not ready after {timeout_s:g} s: {_tail(log)}")
        time.sleep(POLL_S)


def _wait_for_end(family: Collection[Life], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while any(is_alive(life) for life in family) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _shown(process: subprocess.Popen[bytes]) -> str:
    assert not isinstance(process.args, str | bytes | os.PathLike)
    return " ".join(str(part) for part in process.args)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    return " | ".join(lines) or "it printed nothing"
