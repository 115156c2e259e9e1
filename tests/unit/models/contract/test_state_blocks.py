"""States of many users at once against those built one by one, byte for byte."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.columns import BytesColumn
from models.contract.ids import hash_ids, hash_name
from models.contract.state import DAY_MS, Features, Limits, build, pack
from models.contract.state_blocks import Interactions, pack_block

IDS = ["a", "Käse", "", "item-3", "a longer id"]
HASHES, COLUMN = hash_ids(IDS), BytesColumn.of([item.encode() for item in IDS])
TYPES = np.array([hash_name("view"), hash_name("purchase")], np.uint32)
FEATURES: list[Features] = [{}, {"age": (3.5, 7), "home": ("x", 9)}]

events = st.tuples(
    st.integers(2 * DAY_MS, 2 * DAY_MS + 5) | st.integers(2 * DAY_MS, 60 * DAY_MS), st.integers(0, 4), st.integers(0, 1)
)


@given(st.lists(st.lists(events, max_size=9), max_size=5), st.integers(1, 6), st.integers(1, 4), st.booleans())
def test_each_state_is_what_building_it_alone_gives(
    users: list[list[tuple[int, int, int]]], history: int, seen: int, compact: bool
) -> None:
    """Equal times, items seen again, users without any, more than the limits, counters older than they are kept."""
    limits, column = Limits(history, seen), COLUMN.compact() if compact else COLUMN
    columns = np.array([event for user in users for event in user], np.int64).reshape(-1, 3).T
    sizes = np.array([len(user) for user in users], np.int64)
    times, items, types = columns
    found = Interactions(sizes, times, HASHES[items], TYPES[types], items, types == 1)
    known = [FEATURES[len(user) % 2] for user in users]
    ends = np.cumsum(sizes)
    expected = [
        pack(
            build(
                times[at], HASHES[items[at]], TYPES[types[at]], COLUMN, items[at], types[at] == 1, features, limits, 77
            )
        )
        for at, features in zip(map(slice, ends - sizes, ends), known, strict=True)
    ]
    assert pack_block(found, column, known, limits, 77) == expected


def test_a_time_that_no_state_can_hold_is_refused() -> None:
    one = np.array([1])
    wrong = Interactions(one, np.array([5]), HASHES[one], TYPES[one], one, one == 1)
    with pytest.raises(ValueError, match="time 5 ms is outside"):
        pack_block(wrong, COLUMN, [{}], Limits(2, 2))
