"""The packed state: its bytes, worked out by hand, and two ways to the same state."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.columns import BytesColumn
from models.contract.ids import hash_id, hash_ids, hash_name
from models.contract.state import DAY_MS, MAX_TIME_MS, Limits, UserState, pack, unpack
from models.contract.state_build import build
from models.contract.state_merge import merge
from models.contract.state_parts import apply, empty

LIMITS = Limits(4, 3)
Log = list[tuple[int, str, str, bool]]  # time_ms, item, type, seen

events = st.tuples(
    st.one_of(st.integers(DAY_MS + 1, MAX_TIME_MS - 1), st.integers(100 * DAY_MS, 140 * DAY_MS)),
    st.sampled_from(["a", "b", "c", "d", "ü" * 128]),
    st.sampled_from(["view", "buy"]),
    st.booleans(),
)


def fold(log: Log, limits: Limits = LIMITS) -> UserState:
    state = empty()
    for time_ms, item, kind, seen in log:
        state = apply(state, time_ms=time_ms, item_id=item, event_type=kind, seen=seen, limits=limits)
    return state


def build_log(log: Log, limits: Limits = LIMITS, **more: object) -> UserState:
    names = sorted({item for _, item, _, _ in log})
    return build(
        np.array([time_ms for time_ms, *_ in log], np.int64),
        hash_ids(item for _, item, _, _ in log),
        np.array([hash_name(kind) for _, _, kind, _ in log], np.uint32),
        BytesColumn.of(name.encode() for name in names),
        np.array([names.index(item) for _, item, _, _ in log], np.int64),
        np.array([seen for *_, seen in log], np.bool_),
        more.get("features", {}),  # type: ignore[arg-type]
        limits,
        more.get("load_tag", 0),  # type: ignore[arg-type]
    )


def test_the_bytes_of_one_event_by_hand() -> None:
    """Header of 32 bytes, then each section; two counters, since ever and of the day."""
    time_ms = 3 * DAY_MS + 5_678
    raw = pack(fold([(time_ms, "ab", "buy", True)]))
    item, kind = hash_id("ab").to_bytes(8, "little"), hash_name("buy").to_bytes(4, "little")

    def u32(value: int) -> bytes:
        return value.to_bytes(4, "little")

    header = b"\x01\x00\x00\x00" + u32(1) + u32(1) + u32(2) + u32(2) + u32(0) + bytes(8)
    sections = [
        time_ms.to_bytes(8, "little"),
        item,
        item,
        u32(time_ms // 1000),
        kind,
        kind + u32(0) + u32(1),
        kind + u32(3) + u32(1),
        b"\x02\x00",
        b"ab",
    ]
    assert raw == header + b"".join(sections)


def test_an_empty_state_is_its_header() -> None:
    assert pack(empty()) == b"\x01" + bytes(31)
    assert pack(fold([])) == pack(build_log([]))


@given(log=st.lists(events, max_size=30), order=st.randoms())
def test_building_at_once_equals_applying_one_by_one_in_any_order(log: Log, order: object) -> None:
    """Also where limits cut: history 4, seen 3, counters of 32 days."""
    shuffled = list(log)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    expected = pack(build_log(log))
    assert pack(fold(shuffled)) == expected
    unpacked = unpack(expected)
    assert unpacked is not None
    assert pack(unpacked) == expected


def test_unpacked_arrays_are_views_and_ids_come_in_order() -> None:
    raw = pack(build_log([(2 * DAY_MS, "ü", "buy", True), (DAY_MS + 1, "a", "view", False)], features={"f": (1.5, 9)}))
    state = unpack(raw)
    assert state is not None
    assert not state.history_hashes.flags.owndata
    assert state.history_ids == ["a", "ü"]
    assert state.history_types.tolist() == [hash_name("view"), hash_name("buy")]
    assert state.features == {"f": (1.5, 9)}


@pytest.mark.parametrize("time_ms", [DAY_MS, 0, MAX_TIME_MS, 1_700_000_000])
def test_times_outside_the_format_are_refused_or_kept_exactly(time_ms: int) -> None:
    """Day 0 is the count since ever, and seconds are 32 bits."""
    if DAY_MS < time_ms < MAX_TIME_MS:
        assert fold([(time_ms, "a", "view", True)]).history_times_ms.tolist() == [time_ms]
        return
    with pytest.raises(ValueError, match=f"time {time_ms} ms is outside"):
        fold([(time_ms, "a", "view", True)])
    with pytest.raises(ValueError, match=f"time {time_ms} ms is outside"):
        build_log([(time_ms, "a", "view", True), (2 * DAY_MS, "a", "view", True)])


def test_equal_events_are_two_entries() -> None:
    state = fold([(2 * DAY_MS, "a", "view", False)] * 2)
    assert state.history_ids == ["a", "a"]
    assert state.counters["count"].tolist() == [2, 2]


def test_counters_keep_32_days_and_the_total() -> None:
    """Of 40 days with one event each: the newest 32 and the sum."""
    log: Log = [(day * DAY_MS, "a", "view", False) for day in range(41, 1, -1)]
    for state in (fold(log), build_log(log)):
        assert state.counters["day"].tolist() == [0, *range(10, 42)]
        assert state.counters["count"].tolist() == [40] + [1] * 32


@given(old=st.lists(events, max_size=12), new=st.lists(events, max_size=12))
def test_joining_live_events_to_a_first_load_gives_all_events(old: Log, new: Log) -> None:
    """Nothing was loaded before, so whatever is in the store is live; limits are wide enough to keep all."""
    wide = Limits(100, 100)
    known = {event[:3] for event in new}
    old = [event for event in old if event[:3] not in known]
    joined = merge(fold(old, wide), build_log(new, wide, load_tag=7), DAY_MS, wide)
    expected = build_log(old + new, wide, load_tag=7)
    assert pack(joined) == pack(expected)


@given(
    loaded=st.lists(st.integers(100 * DAY_MS, 110 * DAY_MS - 1), max_size=10),
    live=st.lists(st.integers(110 * DAY_MS, 115 * DAY_MS), max_size=10),
)
def test_a_second_load_replaces_the_first_and_keeps_what_came_after(loaded: list[int], live: list[int]) -> None:
    """The first load had other items; none of them is left, all live events are."""
    wide, end_ms = Limits(100, 100), 110 * DAY_MS
    first = build_log([(end_ms - 5000, "of the first load", "view", True)] * 3, wide, load_tag=1)
    for time_ms in live:
        first = apply(first, time_ms=time_ms, item_id="live", event_type="buy", seen=True, limits=wide)
    second: Log = [(time_ms, "b", "view", True) for time_ms in loaded]
    joined = merge(first, build_log(second, wide, load_tag=2), end_ms, wide)
    expected = build_log(second + [(time_ms, "live", "buy", True) for time_ms in live], wide, load_tag=2)
    assert pack(joined) == pack(expected)


def test_of_a_feature_the_newest_value_stays() -> None:
    live = build_log([], features={"a": ("live", 20), "b": ("live", 20), "c": ("live", 6)}, load_tag=1)
    loaded = build_log([], features={"a": ("new", 10), "b": ("new", 30)}, load_tag=2)
    assert merge(live, loaded, 5, LIMITS).features == {"a": ("live", 20), "b": ("new", 30), "c": ("live", 6)}
