"""What preparation read, refused, left out and kept: part of every prepared dataset."""

from collections.abc import Iterator
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict


class SourceReport(BaseModel):
    """One source.  rows: rows read.  bad: rows refused, by reason.  missing: absent or unreadable values, by column.
    left_out: good rows or values that are not used, by reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    bad: dict[str, int] = {}
    missing: dict[str, int] = {}
    left_out: dict[str, int] = {}

    @property
    def num_bad(self) -> int:
        return sum(self.bad.values())


class Report(BaseModel):
    """Counts of a whole run. The same input in any order of lines gives the same report."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: dict[str, SourceReport]
    num_interactions: int
    num_users: int
    num_items: int
    items_sold: int  # distinct items of the valid interactions
    users_active: int  # distinct users of the valid interactions
    min_users: int
    items_left_out: int  # of those sold, with fewer users before the test split
    items_listed_left_out: int  # in the items table only
    interactions_left_out: int  # their interactions
    items_without_row: int  # kept items that the items table does not have
    users_without_row: int
    parts: dict[str, int]  # interactions in train, validation, test
    first_time_ms: int
    last_time_ms: int
    clock_shift_ms: int | None = None  # how far the newest archived event's time was moved back, None without events
    rare_values: dict[str, int] = {}  # distinct values that share code 0, by feature
    cut_values: dict[str, int] = {}  # values of items that had more than max_values, by feature
    num_impressions: int | None = None  # kept; None where none are logged
    impressions_clicked: int = 0  # of these

    def lines(self) -> Iterator[tuple[str, str]]:
        """The report for a person: (what, how many)."""
        for name, source in self.sources.items():
            yield f"{name}: rows read", f"{source.rows:,}"
            for reason, count in source.bad.items():
                yield f"{name}: refused, {reason}", f"{count:,}"
            for column, count in source.missing.items():
                yield f"{name}: {column} missing", f"{count:,}"
            for reason, count in source.left_out.items():
                yield f"{name}: left out, {reason}", f"{count:,}"
        if self.items_left_out:
            yield f"items left out (under {self.min_users} users before the test split)", f"{self.items_left_out:,}"
            yield "interactions left out with them", f"{self.interactions_left_out:,}"
        if self.items_listed_left_out:
            yield "items left out that nobody met", f"{self.items_listed_left_out:,}"
        yield "items kept", f"{self.num_items:,}"
        yield "of these without a row in the items table", f"{self.items_without_row:,}"
        yield "users", f"{self.num_users:,}"
        yield "of these without a row in the users table", f"{self.users_without_row:,}"
        for feature, count in self.rare_values.items():
            yield f"rare values of {feature} that share one code", f"{count:,}"
        for feature, count in self.cut_values.items():
            yield f"values of {feature} left out, beyond max_values of an item", f"{count:,}"
        yield "interactions kept", f"{self.num_interactions:,}"
        for part, count in self.parts.items():
            yield f"of these in {part}", f"{count:,}"
        if self.num_impressions is not None:
            yield "impressions kept", f"{self.num_impressions:,}"
            yield "of these clicked", f"{self.impressions_clicked:,}"
        yield "first time", _utc(self.first_time_ms)
        yield "last time", _utc(self.last_time_ms)


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
