"""Parquet files of archived events, in the shape of the interactions input; each is whole or absent.

The file itself carries, as key-value metadata, up to where each stream is archived: the rows and the marks become
visible by one rename, so that no crash can part them.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.feature_store.event_log import Entry, Position, Tombstone
from models.contract.archive import COLUMNS, archive_files, context_column

FORMAT_VERSION = 1
METADATA = b"shortlist.archive"
TYPES: dict[str, pa.DataType] = {
    "user_id": pa.string(),
    "item_id": pa.string(),
    "timestamp": pa.timestamp("ms"),  # UTC; without a zone, which DuckDB would show in the machine's own
    "event_type": pa.string(),
    "value": pa.float64(),
    "recommendation_id": pa.string(),
    "position": pa.int32(),
    "event_id": pa.string(),
    "clock_shift_ms": pa.int64(),
    "stream_id": pa.string(),
}
SOURCES = {"user_id": "user", "item_id": "item", "timestamp": "time_ms", "event_type": "type"}


class ArchiveError(Exception):
    """The archive cannot be read or written; nothing was trimmed. The message names the file."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a file's metadata says.  marks: the last archived position of each partition, in this and earlier files."""

    store_id: str
    marks: dict[int, Position]

    def dump(self) -> bytes:
        marks = {str(p): str(mark) for p, mark in sorted(self.marks.items())}
        return orjson.dumps({"format_version": FORMAT_VERSION, "store_id": self.store_id, "marks": marks})


def next_path(folder: Path) -> Path:
    files = archive_files(folder)
    number = int(files[-1].stem.removeprefix("events-")) + 1 if files else 1
    return folder / f"events-{number:08d}.parquet"


def read_head(path: Path) -> Head:
    """Raises ArchiveError for a file that is not of this archive."""
    try:
        raw = orjson.loads(pq.read_metadata(path).metadata[METADATA])
        if raw["format_version"] != FORMAT_VERSION:
            raise ArchiveError(
                f"{path} has format version {raw['format_version']}; this program reads {FORMAT_VERSION}"
            )
        return Head(raw["store_id"], {int(p): Position.parse(mark) for p, mark in raw["marks"].items()})
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ArchiveError(f"{path} is damaged or no archive of events ({error}): move it elsewhere") from error


def to_table(entries: Sequence[Entry], context: Iterable[str]) -> pa.Table:
    """One row an event.  context: columns to have even if no event has them; others are added as they come up."""
    names = dict.fromkeys([*context, *sorted({name for entry in entries for name in entry.event["context"]})])
    columns: dict[str, pa.Array] = {}
    for name in COLUMNS:
        if name == "stream_id":
            values: list[Any] = [str(entry.position) for entry in entries]
        else:
            values = [entry.event[SOURCES.get(name, name)] for entry in entries]
        columns[name] = pa.array(values, TYPES[name])
        if name == "value":
            for key in names:
                values = [entry.event["context"].get(key) for entry in entries]
                columns[context_column(key)] = pa.array(values, pa.string())
    return pa.table(columns)


def write_file(path: Path, table: pa.Table, head: Head) -> None:
    """Put a file in place, whole and on the disk. Raises ArchiveError and leaves nothing behind if that fails."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            pq.write_table(table.replace_schema_metadata({METADATA: head.dump()}), file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except (OSError, pa.ArrowException) as error:
        raise ArchiveError(f"cannot write {path}: {error}. Events stay in Redis; run the command again") from error
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_users(path: Path, tombstones: Sequence[Tombstone], store_id: str) -> int:
    """Rewrite a file without the rows that the tombstones cover; the number of rows removed.

    A file of another store is older than the tombstones: there all of a user's rows go.
    """
    head = read_head(path)
    boundaries = {tombstone.user: tombstone.boundary for tombstone in tombstones}
    try:
        users = pq.read_table(path, columns=["user_id"])["user_id"]
        if not pc.any(pc.is_in(users, value_set=pa.array(list(boundaries), pa.string()))).as_py():
            return 0
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ArchiveError(f"cannot read {path}: {error}") from error
    rows = zip(table["user_id"].to_pylist(), table["stream_id"].to_pylist(), strict=True)
    kept = [
        user not in boundaries or (head.store_id == store_id and Position.parse(position) > boundaries[user])
        for user, position in rows
    ]
    removed = kept.count(False)
    if removed:
        write_file(path, table.filter(pa.array(kept)), head)
    return removed
