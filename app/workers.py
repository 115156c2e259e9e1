"""What the workers of this machine tell each other, through small files in the run folder.

Each worker keeps `worker-<index>.json`: its process, the bundle it serves, and the pointer it last followed.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import orjson

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
    run_dir.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=run_dir, prefix=".worker-", delete=False) as file:
        file.write(orjson.dumps(status))
    os.replace(file.name, _path(run_dir, status.worker))


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
