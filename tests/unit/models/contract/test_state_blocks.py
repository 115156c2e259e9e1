"""States of many users at once against those built one by one, byte for byte."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.contract.columns import BytesColumn
from models.contract.ids import hash_id, hash_ids, hash_name
from models.contract.state import DAY_MS, Features, Limits, pack
from models.contract.state_blocks import Interactions, Names, pack_block
from models.contract.state_build import build

IDS = sorted(["a", "Käse", "", "item-3", "a longer id"], key=hash_id)
NAMES = Names(
    BytesColumn.of([item.encode() for item in IDS]),
    hash_ids(IDS),
    np.array([hash_name("view"), hash_name("purchase")], np.uint32),
    np.array([False, True]),
)
FEATURES: list[Features] = [{}, {"age": (3.5, 7), "home": ("x", 9)}]

times_ms = st.integers(2 * DAY_MS, 2 * DAY_MS + 5) | st.integers(2 * DAY_MS, 60 * DAY_MS)
events = st.tuples(times_ms, st.integers(0, 4), st.integers(0, 1))


def block(users: list[list[tuple[int, int, int]]]) -> Interactions:
    """Of each user's (time, item, event type)."""
    rows = np.array([event for user in users for event in user], np.int64).reshape(-1, 3)
    return Interactions(np.array([len(user) for user in users], np.int64), *rows.T)


def alone(
    user: list[tuple[int, int, int]], names: Names, features: Features, limits: Limits, load_tag: int = 0
) -> bytes:
    times, items, types = np.array(user, np.int64).reshape(-1, 3).T
    hashes, seen = names.item_hashes[items], names.type_seen[types]
    return pack(build(times, hashes, names.type_hashes[types], names.item_ids, items, seen, features, limits, load_tag))


@example([[(2 * DAY_MS, 0, 0), (2 * DAY_MS, 0, 1)], [(2 * DAY_MS, 0, 1), (2 * DAY_MS, 0, 0)]], 3, 2, False)
@given(st.lists(st.lists(events, max_size=9), max_size=5), st.integers(1, 6), st.integers(1, 4), st.booleans())
def test_each_state_is_what_building_it_alone_gives(
    users: list[list[tuple[int, int, int]]], history: int, seen: int, compact: bool
) -> None:
    """Equal times, items seen again, one met in two ways at once, users without any, more than the limits, counters
    older than they are kept."""
    limits = Limits(history, seen)
    names = NAMES._replace(item_ids=NAMES.item_ids.compact()) if compact else NAMES
    known = [FEATURES[len(user) % 2] for user in users]
    in_order = [sorted(user, key=lambda event: event[:2]) for user in users]
    expected = [alone(user, names, features, limits, 77) for user, features in zip(users, known, strict=True)]
    assert pack_block(block(in_order), names, known, limits, 77) == expected


def test_items_past_16_bits_keep_their_order() -> None:
    """70,000 items: the order goes by more than the last 16 bits of an index."""
    ids = sorted((str(item) for item in range(70_000)), key=hash_id)
    names = NAMES._replace(item_ids=BytesColumn.of([item.encode() for item in ids]), item_hashes=hash_ids(ids))
    users = [[(2 * DAY_MS + n, item, 1) for n, item in enumerate((69_999, 1, 65_537, 65_536, 0, 1))]] * 2
    expected = [alone(user, names, {}, Limits(9, 4)) for user in users]
    assert pack_block(block(users), names, [{}, {}], Limits(9, 4)) == expected


def test_a_time_that_no_state_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="time 5 ms is outside"):
        pack_block(block([[(5, 0, 0)]]), NAMES, [{}], Limits(2, 2))
