"""Candidate sources and their merger, worked by hand."""

import numpy as np
import pytest

from models.contract.candidates import (
    NEIGHBOURS,
    OWN_FREQUENT,
    POPULAR,
    REASON_ITEMS,
    SOURCES,
    USER_VECTOR,
    Candidates,
    from_history,
    merge,
    neighbours_of_recent,
    own_frequent,
    reasons,
)
from models.contract.features import DAY_MS, RECENT_ITEMS, ItemTables
from models.contract.history import EMPTY, History

NOW_MS = 19_000 * DAY_MS


def history(items: list[int], days_ago: list[float]) -> History:
    return History(np.array(items, np.int64), np.array([NOW_MS - round(days * DAY_MS) for days in days_ago], np.int64))


def tables(num_items: int, rows: dict[int, list[tuple[int, float]]]) -> ItemTables:
    """rows: of some items (neighbour, similarity), best first."""
    neighbours, similarity = np.full((num_items, 3), -1, np.int32), np.zeros((num_items, 3), np.float32)
    for item, near in rows.items():
        neighbours[item, : len(near)] = [other for other, _ in near]
        similarity[item, : len(near)] = [value for _, value in near]
    return ItemTables(neighbours, similarity, np.zeros((num_items, 0), np.int32))


def test_own_items_by_decayed_frequency() -> None:
    """Item 3 once, now: 1. Item 5: 1/2 + 1/4, from 60 and 120 days ago. Items 8 and 7: 1/2 each, by index."""
    told = history([5, 5, 8, 7, 3], [120, 60, 60, 60, 0])
    assert own_frequent(told, NOW_MS, 10).tolist() == [3, 5, 7, 8]
    assert own_frequent(told, NOW_MS, 2).tolist() == [3, 5]
    assert own_frequent(EMPTY, NOW_MS, 10).tolist() == []


def test_neighbours_by_summed_similarity() -> None:
    """Item 4 is near both items of the history; one that is its own history's neighbour stays; -1 is no item."""
    table = tables(8, {0: [(6, 0.5), (4, 0.25)], 1: [(4, 0.5), (0, 0.125)]})
    assert neighbours_of_recent(history([0, 1, 0], [3, 2, 1]), table, 10).tolist() == [4, 6, 0]
    assert neighbours_of_recent(history([0, 1], [2, 1]), table, 2).tolist() == [4, 6]
    assert neighbours_of_recent(history([3], [1]), table, 10).tolist() == []
    assert neighbours_of_recent(EMPTY, table, 10).tolist() == []


def test_only_the_newest_distinct_items_have_neighbours() -> None:
    """The 31st newest item brings nothing."""
    num = RECENT_ITEMS + 1
    table = tables(num + 2, {0: [(num, 0.9)], 1: [(num + 1, 0.1)]})
    told = history(list(range(num)), list(range(num, 0, -1)))
    assert neighbours_of_recent(told, table, 10).tolist() == [num + 1]


def test_each_source_has_its_share_of_what_is_allowed() -> None:
    """Of 20: 10 own items, 2 neighbours and 1 popular one where seen items are wanted; 0, 4 and 2 where not."""
    num = 60
    told = history(list(range(15)), list(range(15, 0, -1)))
    table = tables(num, {n: [(20 + 3 * (n % 3), 0.9), (21 + 3 * (n % 3), 0.8), (22, 0.1)] for n in range(15)})
    popular = np.array([1, 40, 41, 42], np.int64)
    allowed = np.ones(num, np.bool_)
    allowed[[14, 40]] = False
    found = from_history(told, table, popular, allowed, True, 20, NOW_MS)
    assert [(source, items.tolist()) for source, items in found] == [
        (OWN_FREQUENT, [13, 12, 11, 10, 9, 8, 7, 6, 5, 4]),
        (NEIGHBOURS, [20, 23]),
        (POPULAR, [1]),
    ]
    allowed[:15] = False
    found = from_history(told, table, popular, allowed, False, 20, NOW_MS)
    assert [(source, items.tolist()) for source, items in found] == [
        (NEIGHBOURS, [20, 23, 26, 21]),
        (POPULAR, [41, 42]),
    ]


def test_an_item_stands_once_under_the_first_source_that_names_it() -> None:
    vectors = np.array([[n, 1.0] for n in range(10)], np.float32)
    sources = [(NEIGHBOURS, np.array([7, 3])), (POPULAR, np.array([3, 9])), (USER_VECTOR, np.array([9, 8, 7, 1]))]
    found = merge(sources, np.array([2.0, 1.0], np.float32), vectors, 5)
    assert found.items.tolist() == [7, 3, 9, 8, 1]
    assert [SOURCES[code] for code in found.sources] == [
        "neighbours", "neighbours", "popular", "user_vector", "user_vector",
    ]  # fmt: skip
    assert found.scores.tolist() == [15, 7, 19, 17, 3], "2 i + 1: the score of an item does not depend on its source"
    assert merge(sources, np.array([2.0, 1.0], np.float32), vectors, 3).items.tolist() == [7, 3, 9]


@pytest.mark.parametrize("sources", [[], [(POPULAR, np.empty(0, np.int64))]])
def test_no_source_brings_no_candidates(sources: list[tuple[int, np.ndarray]]) -> None:
    found = merge(sources, None, np.ones((3, 2), np.float32), 5)
    assert (len(found), found.scores.dtype, found.sources.dtype) == (0, np.float32, np.uint8)


def test_without_a_user_vector_every_score_is_zero() -> None:
    found = merge([(POPULAR, np.array([2, 0]))], None, np.ones((3, 2), np.float32), 5)
    assert (found.items.tolist(), found.scores.tolist()) == ([2, 0], [0, 0])


def test_candidates_are_ordered_together() -> None:
    found = Candidates(np.array([4, 5, 6]), np.array([1, 2, 3], np.float32), np.array([0, 1, 2], np.uint8))
    turned = found.take(np.array([2, 0]))
    assert (turned.items.tolist(), turned.scores.tolist(), turned.sources.tolist()) == ([6, 4], [3, 1], [2, 0])


def test_the_reason_is_the_most_similar_item_of_the_history() -> None:
    """Item 5: 2 is more similar than 1. Item 6: 1 and 2 alike, the newer is 1. Item 7: below the threshold. Item 2:
    its neighbour is not in the history, and it is no reason for itself. Item 0: at the threshold."""
    table = tables(
        8,
        {
            5: [(2, 0.5), (1, 0.25)],
            6: [(2, 0.25), (1, 0.25), (3, 0.25)],
            7: [(1, 0.04)],
            2: [(3, 0.9)],
            0: [(4, 0.9), (1, 0.05)],
        },
    )
    told = history([1, 2, 1], [9, 5, 1])
    wanted = np.array([5, 6, 7, 2, 0])
    assert reasons(wanted, told, table, threshold=0.05).tolist() == [2, 1, -1, -1, 1]
    assert reasons(wanted, EMPTY, table).tolist() == [-1] * 5
    assert reasons(wanted[:0], told, table).tolist() == []


def test_a_reason_may_stand_in_the_history_items_row_alone() -> None:
    """Item 5's own row is full of others; it stands in 1's row at 0.5 and in 2's at 0.25. Item 6 has 2 at 0.125 in its
    own row and stands in 1's at 0.0625. Item 7 stands in 1's row below the threshold."""
    table = tables(8, {5: [(0, 0.9), (3, 0.8), (4, 0.7)], 1: [(5, 0.5), (6, 0.0625), (7, 0.04)], 2: [(5, 0.25)]})
    table.neighbours[6, 0], table.similarity[6, 0] = 2, 0.125
    assert reasons(np.array([5, 6, 7]), history([1, 2], [2, 1]), table, threshold=0.05).tolist() == [1, 2, -1]


def test_the_rows_of_the_newest_history_items_alone_are_looked_through() -> None:
    num = REASON_ITEMS + 1
    table = tables(num + 2, {0: [(num, 0.9)], 1: [(num + 1, 0.9)]})
    told = history(list(range(num)), list(range(num, 0, -1)))
    assert reasons(np.array([num, num + 1]), told, table).tolist() == [-1, 1]


@pytest.mark.parametrize("seed", range(20))
def test_reasons_agree_with_a_look_at_every_pair(seed: int) -> None:
    """Similarities of a grid of four, so that many are equal."""
    rng = np.random.default_rng(seed)
    table = tables(30, {n: [] for n in range(30)})
    for item in range(30):
        table.neighbours[item] = rng.choice(np.delete(np.arange(30), item), 3, replace=False)
        table.similarity[item] = np.sort(rng.integers(0, 4, 3) / 4)[::-1]
    told = history(rng.integers(0, 30, 12).tolist(), sorted(rng.integers(1, 99, 12).tolist(), reverse=True))
    newest_first = list(dict.fromkeys(told.items[::-1].tolist()))
    items = rng.permutation(30)

    def similarity(one: int, other: int) -> float:
        return max(table.similarity[a][table.neighbours[a] == b].sum() for a, b in ((one, other), (other, one)))

    expected = []
    for item in items.tolist():
        best = max(newest_first, key=lambda other: similarity(item, other))  # the first of equals, so the newest
        expected.append(best if similarity(item, best) >= 0.5 else -1)
    assert reasons(items, told, table, threshold=0.5).tolist() == expected
