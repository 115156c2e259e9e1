"""Which bundles there are and which one is active: a folder a version, and one pointer file replaced by rename.

One process at a time may write here; any number may read.
"""

import os
import re
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from models.contract.manifest import BundleError

ACTIVE = "ACTIVE"
HISTORY = "HISTORY"
MAX_HISTORY = 50
_VERSION = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")


def bundle_version(now: datetime, content_sha256: str) -> str:
    """Name of a bundle made at `now` (any zone) whose manifest, before it is given this name, hashes to that hex."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{content_sha256[:6]}"


def is_version(text: str) -> bool:
    return _VERSION.fullmatch(text) is not None


def bundle_path(bundles_dir: Path, version: str) -> Path:
    """Folder of a version. Raises BundleError unless it is a well-formed name, so no caller can leave the folder."""
    if not is_version(version):
        raise BundleError(version[:64], "is not a bundle version such as 20261121T204107Z-3f9a12")
    return bundles_dir / version


def list_bundles(bundles_dir: Path) -> list[str]:
    """Versions present, oldest first; not verified."""
    if not bundles_dir.is_dir():
        return []
    with os.scandir(bundles_dir) as entries:
        return sorted(e.name for e in entries if is_version(e.name) and e.is_dir(follow_symlinks=False))


def read_active(bundles_dir: Path) -> str | None:
    """The active version, None before the first activation. Raises BundleError when the pointer is not a version."""
    lines = _read_lines(bundles_dir / ACTIVE)
    if not lines:
        return None
    if len(lines) != 1 or not is_version(lines[0]):
        raise BundleError(ACTIVE, "does not hold one bundle version; activate a bundle to write it anew")
    return lines[0]


def known_active(bundles_dir: Path) -> str | None:
    """The active version; None as well where the pointer is damaged, for those who show it or are to replace it."""
    with suppress(BundleError):
        return read_active(bundles_dir)
    return None


def write_active(bundles_dir: Path, version: str) -> None:
    """Make `version` the active one and remember the one it replaces. Raises BundleError if it is not there.

    The bundle itself is not verified: the caller has opened it before.
    """
    if not bundle_path(bundles_dir, version).is_dir():
        raise BundleError(version, f"is not in {bundles_dir}")
    active = known_active(bundles_dir)
    if active == version:
        return
    if active is not None:  # a damaged pointer is replaced, there is nothing to remember
        _write_lines(bundles_dir / HISTORY, [*_history(bundles_dir, active), active][-MAX_HISTORY:])
    _write_lines(bundles_dir / ACTIVE, [version])


def previous_active(bundles_dir: Path) -> str | None:
    """The version a rollback would go to: the last one active before the present one that is still there."""
    present = set(list_bundles(bundles_dir))
    return next((v for v in reversed(_history(bundles_dir, known_active(bundles_dir))) if v in present), None)


def roll_back(bundles_dir: Path) -> str:
    """Make the previous version active again and forget the one left; the next rollback goes one further back.

    Returns the version. Raises BundleError when there is none.
    """
    version = previous_active(bundles_dir)
    if version is None:
        raise BundleError(HISTORY, "names no earlier bundle that is still there; activate a version by name")
    remaining = _history(bundles_dir, known_active(bundles_dir))
    while remaining.pop() != version:
        pass
    _write_lines(bundles_dir / ACTIVE, [version])
    _write_lines(bundles_dir / HISTORY, remaining)
    return version


def _history(bundles_dir: Path, active: str | None) -> list[str]:
    """Versions that were active before, oldest first.

    Both writers, stopped between their two files, leave the active version as the last line: it is dropped here.
    """
    versions = [line for line in _read_lines(bundles_dir / HISTORY) if is_version(line)]
    while versions and versions[-1] == active:
        versions.pop()
    return versions


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").split()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BundleError(path.name, f"cannot be read: {error.strerror}") from error


def _write_lines(path: Path, lines: list[str]) -> None:
    """Replace a small text file so that a reader, or a crash, sees the old content or the new one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename or a new file in this folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
