"""A state's history as the models read it, and the user tower's input, worked by hand."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.contract.columns import BytesColumn
from models.contract.history import EMPTY, History, find_items, read_history, tower_input
from models.contract.ids import hash_ids, hash_name
from models.contract.state import DAY_MS, Limits, UserState
from models.contract.state_build import build
from models.contract.state_parts import empty

NAMES = [f"item {n}" for n in range(12)]
HASHES = np.sort(hash_ids(NAMES))
START_MS = 19_000 * DAY_MS


def state_of(items: list[int], times_ms: list[int], limits: Limits | None = None) -> UserState:
    """items: positions in HASHES."""
    return build(
        np.array(times_ms, np.int64),
        HASHES[items],
        np.full(len(items), hash_name("purchase"), np.uint32),
        BytesColumn.of(f"{n}".encode() for n in range(len(HASHES))),
        np.array(items, np.int64),
        np.ones(len(items), np.bool_),
        {},
        limits or Limits(100, 100),
    )


def history(items: list[int], times_ms: list[int]) -> History:
    return History(np.array(items, np.int64), np.array(times_ms, np.int64))


def lists(arrays: tuple[NDArray[np.int64], NDArray[np.int64]]) -> tuple[list[int], list[int]]:
    return arrays[0].tolist(), arrays[1].tolist()


def test_item_hashes_are_found_at_their_positions() -> None:
    unknown = np.array([0, 2**64 - 1, HASHES[3] + np.uint64(1)], np.uint64)
    wanted = np.concatenate([HASHES[[11, 0, 5]], unknown])
    assert find_items(HASHES, wanted).tolist() == [11, 0, 5, -1, -1, -1]
    assert find_items(HASHES[:0], wanted).tolist() == [-1] * 6
    assert find_items(HASHES, wanted[:0]).tolist() == []


def test_a_bundle_that_lacks_an_item_skips_it() -> None:
    """The indices are the bundle's own: the state knows only hashes."""
    state = state_of([2, 7, 9], [START_MS, START_MS + 1, START_MS + 2])
    assert read_history(state, HASHES).items.tolist() == [2, 7, 9]
    without_7 = np.delete(HASHES, 7)
    known = read_history(state, without_7)
    assert (known.items.tolist(), known.times_ms.tolist()) == ([2, 8], [START_MS, START_MS + 2])


def test_a_user_without_a_history_has_an_empty_one() -> None:
    assert len(read_history(empty(), HASHES)) == 0


@given(
    lines=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 4)), min_size=1, max_size=40),
    rng=st.randoms(use_true_random=False),
)
def test_permuted_input_lines_give_the_identical_history_and_tower_input(
    lines: list[tuple[int, int]], rng: Random
) -> None:
    """Five moments for up to forty lines: most times are shared."""
    shuffled = list(lines)
    rng.shuffle(shuffled)
    one, other = (
        read_history(state_of([i for i, _ in order], [START_MS + t for _, t in order], Limits(25, 9)), HASHES)
        for order in (lines, shuffled)
    )
    assert np.array_equal(one.items, other.items)
    assert np.array_equal(one.times_ms, other.times_ms)
    assert lists(tower_input(one, 8)) == lists(tower_input(other, 8))


def test_the_order_inside_a_set_is_no_order_of_ids() -> None:
    """Over 50 sets of the same twelve items every item comes first now and then; no two sets need agree."""
    orders = [
        read_history(state_of(list(range(12)), [START_MS + n * 60_000] * 12), HASHES).items.tolist() for n in range(50)
    ]
    assert {order[0] for order in orders} == set(range(12))
    assert all(sorted(order) == list(range(12)) for order in orders)


def test_a_clock_shift_of_whole_days_changes_no_order() -> None:
    """Training reads the data's own times, serving shifted ones: what falls out of a full window must be the same."""
    times = [START_MS + t for t in (5, 5, 5, 5, 5, 900_000, 900_000, 900_000)]
    plain = read_history(state_of(list(range(8)), times), HASHES)
    moved = read_history(state_of(list(range(8)), [t + 321 * DAY_MS for t in times]), HASHES)
    assert moved.items.tolist() == plain.items.tolist()
    assert (moved.times_ms - plain.times_ms).tolist() == [321 * DAY_MS] * 8


def test_the_tower_reads_the_newest_sets_from_the_right() -> None:
    """Indices are raised by one since 0 is padding; sets are counted from the newest, and lines of one time share."""
    told = history([5, 3, 8, 3, 7], [1, 2, 2, 2, 3])
    assert lists(tower_input(told, 7)) == ([0, 0, 6, 4, 9, 4, 8], [0, 0, 3, 2, 2, 2, 1])
    assert lists(tower_input(told, 5)) == ([6, 4, 9, 4, 8], [3, 2, 2, 2, 1])
    assert lists(tower_input(told, 3)) == ([9, 4, 8], [2, 2, 1]), "a set may be cut"
    assert lists(tower_input(told, 1)) == ([8], [1])
    assert lists(tower_input(EMPTY, 2)) == ([0, 0], [0, 0])


def test_items_of_the_request_follow_the_history_each_at_a_time_of_its_own() -> None:
    told = history([1, 2], [10, 20]).extended([7, 8, 9], 100)
    assert (told.items.tolist(), told.times_ms.tolist()) == ([1, 2, 7, 8, 9], [10, 20, 98, 99, 100])


def test_what_came_after_the_requests_first_item_moves_before_it() -> None:
    """A clock may run ahead, or an event arrive while the request is on its way."""
    told = history([1, 2, 3], [10, 99, 250]).extended([7, 8], 100)
    assert (told.items.tolist(), told.times_ms.tolist()) == ([1, 2, 3, 7, 8], [10, 98, 98, 99, 100])
    assert lists(tower_input(told, 5)) == ([2, 3, 4, 8, 9], [4, 3, 3, 2, 1])


@pytest.mark.parametrize("told", [EMPTY, history([4], [7])])
def test_a_request_without_items_changes_nothing(told: History) -> None:
    assert told.extended([], 100) is told
