"""Which constant `shortlist export` brings the data's times to the service's clock with."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from cli.export import _clock_shift_ms
from models.data.dataset import Dataset, Splits

END_MS = 1_500_000_000_000


def dataset(archived_shift_ms: int | None) -> Dataset:
    splits = Splits(END_MS - 3, END_MS - 2, END_MS - 1, END_MS)
    return cast(Any, SimpleNamespace(splits=splits, report=SimpleNamespace(clock_shift_ms=archived_shift_ms)))


def test_without_archived_events_it_is_zero_or_the_whole_days_since_the_data_ended() -> None:
    assert _clock_shift_ms(dataset(None), None) == 0
    assert _clock_shift_ms(dataset(None), END_MS + 3 * 86_400_000 + 60_000) == 3 * 86_400_000
    assert _clock_shift_ms(dataset(None), END_MS + 60_000) == 0


@pytest.mark.parametrize("now_ms", [None, END_MS + 60_000])
@pytest.mark.parametrize("archived", [0, 77_000])
def test_archived_events_keep_the_shift_they_came_at(archived: int, now_ms: int | None) -> None:
    """Else an event in the data and the same one in a user's state would have different times."""
    assert _clock_shift_ms(dataset(archived), now_ms) == archived
