"""From the event streams to Parquet: each event exactly once, wherever the process is killed."""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from app.feature_store.event_log import EventLog, Position
from app.feature_store.sync_client import sync_client
from cli.archive_files import (
    ArchiveError,
    Head,
    next_path,
    read_head,
    remove_users,
    to_table,
    write_file,
)
from models.contract.archive import archive_files

ROWS_PER_FILE = 100_000


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """events: archived now.  files: written for them.  erased_users, erased_rows: removed from the archive."""

    events: int
    files: int
    erased_users: int
    erased_rows: int


def archive_events(
    redis_url: str,
    folder: Path,
    *,
    context: Sequence[str] = (),
    prefix: str = "shortlist",
    cluster: bool = False,
    rows_per_file: int = ROWS_PER_FILE,
    on_step: Callable[[str, int], None] = lambda step, events: None,
) -> ArchiveReport:
    """Write all events of the streams to `folder`, trim the streams, and remove erased users from the archive.

    For each file: rows and marks go to a temporary file, to the disk, then in place by rename; only then the streams
    are trimmed. A run that died in between left either no file, or one whose marks make the next run skip its events.
    context: columns that every file has.  on_step: told what was just done, and how many events are archived.
    Raises ArchiveError for the folder, FeatureStoreUnavailable for Redis.
    """
    with _locked(folder), sync_client(redis_url, cluster=cluster) as client:
        log = EventLog(client, prefix)
        store_id = log.store_id()
        marks = _marks(folder, store_id)
        log.trim(marks)  # of a run that died before it could
        on_step("started", 0)
        events = files = 0
        more = True
        while more and (batch := list(islice(log.entries(marks), rows_per_file))):
            more = len(batch) == rows_per_file  # what arrives meanwhile is for the next run: events never stop
            marks = marks | {entry.partition: entry.position for entry in batch}
            write_file(next_path(folder), to_table(batch, context), Head(store_id, marks))
            files, events = files + 1, events + len(batch)
            on_step("written", events)
            log.trim(marks)
            on_step("trimmed", events)
        users, rows = _erase(log, folder, store_id, lambda: on_step("rewritten", events))
        return ArchiveReport(events, files, users, rows)


def archive_with_progress(
    redis_url: str, folder: Path, *, context: Sequence[str], prefix: str, cluster: bool
) -> ArchiveReport:
    """`archive_events` with a bar that shows the time left. Raises as it does."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with sync_client(redis_url, cluster=cluster) as client:
        total = EventLog(client, prefix).size()
    columns = (TextColumn("archiving events"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("archive", total=total)
        return archive_events(
            redis_url,
            folder,
            context=context,
            prefix=prefix,
            cluster=cluster,
            on_step=lambda _, done: progress.update(task, completed=done),
        )


def _marks(folder: Path, store_id: str) -> dict[int, Position]:
    """Up to where this store's streams are archived: by the newest file of this store."""
    for path in reversed(archive_files(folder)):
        head = read_head(path)
        if head.store_id == store_id:
            return head.marks
    return {}


def _erase(log: EventLog, folder: Path, store_id: str, on_rewritten: Callable[[], None]) -> tuple[int, int]:
    """Remove erased users from streams and files; a tombstone goes only when nothing it covers is left.

    Files come last: they may hold entries that an interrupted erasure left in a stream and this run archived.
    """
    tombstones = log.tombstones()
    if not tombstones:
        return 0, 0
    for tombstone in tombstones:
        log.purge(tombstone)
    rows = 0
    for path in archive_files(folder):
        rows += remove_users(path, tombstones, store_id)
        on_rewritten()
    for tombstone in tombstones:
        log.clear(tombstone)
    return len(tombstones), rows


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One archive run at a time, in a folder that can be written to; leftovers of a killed run are removed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ArchiveError(f"cannot write to {folder}: {error.strerror}. No event was moved or trimmed") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArchiveError(f"another `shortlist events archive` is at work in {folder}") from None
        for leftover in folder.glob(".events-*.tmp"):
            leftover.unlink()
        yield
    finally:
        os.close(descriptor)
