"""What the workers of this machine tell each other, through small files in the run folder.

Each worker keeps `worker-<index>.json`: its process, the bundle it serves, and the pointer it last followed.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import orjson

from app.errors import ActivationBusy
from models.contract.versions import ACTIVE

REFUSED = 2  # exit code of a worker for which starting again would not help


class CannotStart(Exception):
    """Starting is of no use before someone changes something; the message says what."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """pointer: the stamp of the pointer file that this worker last acted on.  serving: the bundle it answers with.

    error: why it could not follow that pointer, in which case it goes on serving what it had.
    """

    worker: int
    pid: int
    pointer: str
    serving: str
    error: str | None = None


def pointer_stamp(bundles_dir: Path) -> str:
    """Differs whenever the pointer was replaced, even by the same version."""
    try:
        stat = (bundles_dir / ACTIVE).stat()
    except FileNotFoundError:
        return ""
    return f"{stat.st_ino}:{stat.st_mtime_ns}"


def write_status(run_dir: Path, status: WorkerStatus) -> None:
    """Replace the worker's file. Raises OSError, and leaves nothing behind, when the disk is full."""
    run_dir.mkdir(parents=True, exist_ok=True)
    file = NamedTemporaryFile(dir=run_dir, prefix=".worker-", delete=False)  # noqa: SIM115  closed below
    try:
        with file:
            file.write(orjson.dumps(status))
        os.replace(file.name, _path(run_dir, status.worker))
    except BaseException:
        os.unlink(file.name)
        raise


def remove_status(run_dir: Path, worker: int) -> None:
    _path(run_dir, worker).unlink(missing_ok=True)


def live_workers(run_dir: Path) -> list[WorkerStatus]:
    """Workers whose process is there, by index; one that is being started again is not among them."""
    statuses = []
    for path in sorted(run_dir.glob("worker-*.json")):
        try:
            status = WorkerStatus(**orjson.loads(path.read_bytes()))
        except FileNotFoundError:
            continue
        if _is_alive(status.pid):
            statuses.append(status)
    return statuses


@contextmanager
def only_one_activation(run_dir: Path) -> Iterator[None]:
    """Hold the machine's one right to move the pointer. Raises ActivationBusy when another process has it."""
    run_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run_dir / "activation.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ActivationBusy("another activation is under way; try again when it is done") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _path(run_dir: Path, worker: int) -> Path:
    return run_dir / f"worker-{worker}.json"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
