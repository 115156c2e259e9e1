"""The parent of the workers: binds the port, runs the embedded Redis, starts a dead worker again, stops in order."""

import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from app.feature_store.embedded import EmbeddedRedis
from app.feature_store.errors import EmbeddedRedisError
from app.listen import bind, listen
from app.logs import log
from app.settings import Settings
from app.workers import REFUSED, CannotStart, live_workers
from models.contract.bundle import BundleError
from models.contract.versions import bundle_path, read_active

POLL_S = 0.05
MAX_BACKOFF_S = 5.0


# One thread per worker, and no report of onnxruntime's use to Microsoft; both are read when a library is imported.
WORKER_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


@dataclass(slots=True)
class Slot:
    """One worker's place: its socket, its process, and when it may be started again."""

    settings: Settings
    socket: socket.socket
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    restarts: int = 0
    ready_once: bool = False


class Supervisor:
    """`run` blocks until SIGTERM or SIGINT.  on_ready: called once with the URL, when every worker serves."""

    def __init__(self, settings: Settings, on_ready: Callable[[str], None]) -> None:
        self._settings = settings
        self._on_ready = on_ready
        self._redis: EmbeddedRedis | None = None
        self._redis_retry_s = 0.0
        self._stopping = False

    def run(self) -> None:
        """Raises CannotStart with a sentence for the operator."""
        _check_bundle(self._settings)
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)
        with ExitStack() as stack:
            stack.callback(os.close, _own_run_dir(self._settings.run_dir))
            sockets = listen(self._settings)
            for listener in sockets:
                stack.enter_context(listener)
            host, port = sockets[0].getsockname()[:2]
            settings = self._settings.model_copy(update={"port": port, "redis_url": self._redis_url(stack)})
            slots = [
                Slot(settings.model_copy(update={"worker_index": index}), listener)
                for index, listener in enumerate(sockets)
            ]
            stack.callback(_stop_all, slots)  # before Redis, which entered the stack first
            self._watch(slots, f"http://{f'[{host}]' if ':' in host else host}:{port}")

    def _redis_url(self, stack: ExitStack) -> str:
        if self._settings.redis_url is not None:
            return self._settings.redis_url
        self._redis = stack.enter_context(EmbeddedRedis(self._settings.data_dir / "redis"))
        return self._redis.url

    def _keep_redis(self) -> None:
        """Start the embedded Redis again if it died; until it is back, lists are made without it."""
        if self._redis is not None and not self._redis.running and time.monotonic() >= self._redis_retry_s:
            log("embedded Redis died", logging.ERROR)
            self._redis.stop()
            try:
                self._redis.start()
            except EmbeddedRedisError as error:
                log("embedded Redis does not start", logging.ERROR, error=str(error))
                self._redis_retry_s = time.monotonic() + MAX_BACKOFF_S

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _watch(self, slots: Sequence[Slot], url: str) -> None:
        announced = False
        while not self._stopping:
            self._keep_redis()
            for slot in slots:
                _keep_running(slot)
            if not announced:
                serving = {status.pid for status in live_workers(self._settings.run_dir)}
                for slot in slots:
                    slot.ready_once = slot.process is not None and slot.process.pid in serving
                if all(slot.ready_once for slot in slots):
                    announced = True
                    self._on_ready(url)
            time.sleep(POLL_S)


def _keep_running(slot: Slot) -> None:
    """Start the worker if it is not running, at growing intervals if it dies again and again."""
    now = time.monotonic()
    if slot.process is not None:
        code = slot.process.poll()
        if code is None:
            return
        if code == REFUSED and not slot.ready_once:
            raise CannotStart(f"worker {slot.settings.worker_index} could not start; its last lines above say why")
        log("worker died", logging.ERROR, worker=slot.settings.worker_index, code=code)
        slot.process = None
        if slot.settings.workers > 1:  # new connections go to the others at once, instead of waiting for the successor
            slot.socket.close()
            slot.socket = bind(slot.settings)
        slot.restarts = slot.restarts + 1 if now - slot.started_s < 10 else 0
    if now - slot.started_s >= min(0.1 * 2**slot.restarts, MAX_BACKOFF_S):
        slot.started_s = now
        slot.process = subprocess.Popen(
            [sys.executable, "-m", "app.worker", str(slot.socket.fileno())],
            pass_fds=[slot.socket.fileno()],
            # One thread each for FAISS and BLAS: set before anything is imported, since FAISS's own setting counts
            # only for the thread that calls it.
            env=slot.settings.environment() | WORKER_ENVIRONMENT,
            cwd=Path(__file__).parent.parent,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which stops the workers in order
        )


def _stop_all(slots: Sequence[Slot]) -> None:
    """Ask every worker to stop, and kill what is still there after its time.

    The sockets are closed here first: each listens until its worker closes it too, and then connections are refused
    at once, rather than taken by the kernel for nobody.
    """
    for slot in slots:
        slot.socket.close()
    running = [slot.process for slot in slots if slot.process is not None and slot.process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGTERM)
    settings = slots[0].settings
    deadline = time.monotonic() + settings.drain_s + settings.stop_timeout_s + 5
    for process in running:
        try:
            process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            log("worker killed", logging.ERROR, pid=process.pid)
            process.kill()
            process.wait()


def _own_run_dir(run_dir: Path) -> int:
    """A file descriptor that holds the run folder's lock; what an earlier run left there is removed."""
    run_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run_dir / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise CannotStart(
            f"another service runs on {run_dir.parent}: stop it, or choose another folder with --data-dir"
        ) from None
    for left in (*run_dir.glob("worker-*.json"), *run_dir.glob("metrics-*.prom")):
        left.unlink()
    return descriptor


def _check_bundle(settings: Settings) -> None:
    try:
        version = read_active(settings.bundles_dir)
        if version is None:
            raise CannotStart(f"there is no active bundle in {settings.bundles_dir}: run `shortlist export` first")
        if not bundle_path(settings.bundles_dir, version).is_dir():
            raise CannotStart(
                f"the active bundle {version} is not in {settings.bundles_dir}: export or activate another"
            )
    except BundleError as error:
        raise CannotStart(str(error)) from error
