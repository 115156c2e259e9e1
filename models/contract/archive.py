"""The shape of archived events: files of interactions under fixed names, written by `events archive` and read by
`prepare`."""

from pathlib import Path
from typing import Final

FOLDER: Final = "archive"
PATTERN: Final = "events-*.parquet"
COLUMNS: Final = (
    "user_id",
    "item_id",
    "timestamp",  # UTC, in the time of the service
    "event_type",
    "value",
    "recommendation_id",
    "position",
    "event_id",
    "clock_shift_ms",  # the active bundle's when the event came: less this, it is the data's time
    "stream_id",
)


def archive_files(folder: Path) -> list[Path]:
    """The files, oldest first."""
    return sorted(folder.glob(PATTERN))


def context_column(name: str) -> str:
    """The context's own name, unless a column of every event has it (DuckDB tells no upper from lower case)."""
    return f"context.{name}" if name.lower() in COLUMNS else name
