"""User and cross features: worked by hand, and against a plain oracle that follows the definitions one by one."""

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from models.contract.columns import BytesColumn
from models.contract.features import (
    CROSS,
    DAY_MS,
    USER_NUMERIC,
    ItemTables,
    cross_features,
    cross_names,
    recent_distinct,
    user_features,
    user_numeric_names,
)
from models.contract.history import EMPTY, History, read_history
from models.contract.ids import hash_ids, hash_name
from models.contract.schema import CategoricalFeature, NumericFeature, Schema
from models.contract.state import Features, Limits, UserState
from models.contract.state_build import build

NOW_MS = 19_000 * DAY_MS + 5 * 3_600_000  # 05:00 UTC
SCHEMA = Schema(
    event_types=["purchase", "view"],
    seen_types=["purchase"],
    user_features=[
        CategoricalFeature(name="city", vocabulary=["Bern", "Zürich"]),
        NumericFeature(name="age", mean=40.0, std=10.0),
        CategoricalFeature(name="plan", vocabulary=["free"]),
    ],
    context_features=[CategoricalFeature(name="device", vocabulary=["desktop", "mobile"])],
    item_features=[CategoricalFeature(name="kind", vocabulary=["a", "b", "c"])],
    affinity=["kind"],
    feature_ttl_s=3600,
)
NUM_ITEMS = 8
HASHES = np.sort(hash_ids([f"item {n}" for n in range(NUM_ITEMS)]))
NONE = ItemTables(
    np.full((NUM_ITEMS, 1), -1, np.int32), np.zeros((NUM_ITEMS, 1), np.float32), np.zeros((NUM_ITEMS, 1), np.int32)
)


def state_of(items: list[int], days_ago: list[float], features: Features, types: list[str] | None = None) -> UserState:
    return build(
        np.array([NOW_MS - round(days * DAY_MS) for days in days_ago], np.int64),
        HASHES[items],
        np.array([hash_name(name) for name in types or ["purchase"] * len(items)], np.uint32),
        BytesColumn.of(f"{n}".encode() for n in range(NUM_ITEMS)),
        np.array(items, np.int64),
        np.ones(len(items), np.bool_),
        features,
        Limits(100, 100),
    )


def history_of(items: list[int], days_ago: list[float]) -> History:
    """Oldest first."""
    return History(np.array(items, np.int64), np.array([NOW_MS - round(days * DAY_MS) for days in days_ago], np.int64))


def cross(items: list[int], scores: list[float], history: History, tables: ItemTables = NONE) -> dict[str, list[float]]:
    found = cross_features(np.array(items, np.int64), np.array(scores, np.float32), history, tables, NOW_MS)
    assert found.dtype == np.float32
    assert found.shape == (len(items), len(CROSS) + 1)
    return {name: found[:, n].tolist() for n, name in enumerate(cross_names(SCHEMA))}


def test_names_follow_the_schema() -> None:
    assert cross_names(SCHEMA) == [*CROSS, "affinity_kind"]
    assert user_numeric_names(SCHEMA) == [*USER_NUMERIC, "age"]


def test_categories_are_those_of_the_state_then_those_of_the_request() -> None:
    state = state_of([], [], {"city": ("Zürich", NOW_MS), "plan": ("paid", NOW_MS)})
    assert user_features(SCHEMA, state, EMPTY, {"device": "mobile"}, NOW_MS).categorical.tolist() == [2, 0, 2], (
        "paid is no known plan"
    )
    assert user_features(SCHEMA, None, EMPTY, {"device": "watch", "city": "Bern"}, NOW_MS).categorical.tolist() == [
        0,
        0,
        0,
    ]


@pytest.mark.parametrize(("age_ms", "code", "number"), [(3_600_000, 1, 0.5), (3_600_001, 0, 0.0)])
def test_a_feature_past_its_time_to_live_is_missing(age_ms: int, code: int, number: float) -> None:
    state = state_of([], [], {"city": ("Bern", NOW_MS - age_ms), "age": (45.0, NOW_MS - age_ms)})
    assert user_features(SCHEMA, state, EMPTY, {}, NOW_MS).categorical.tolist() == [code, 0, 0]
    assert user_features(SCHEMA, state, EMPTY, {}, NOW_MS).numeric[-1] == number


def test_numbers_of_a_user_with_a_history() -> None:
    """Five interactions with three items, three of them in the 28 UTC days that end today: the first of those days
    began 27 days and 5 hours ago, and 28 days ago, at 05:00, is the day before it."""
    days = [40.0, 28.0, 27 + 5 / 24, 3.0, 0.5]
    state = state_of([1, 2, 1, 4, 1], days, {"age": (25.0, NOW_MS)}, ["view", *["purchase"] * 4])
    found = user_features(SCHEMA, state, read_history(state, HASHES), {}, NOW_MS).numeric
    expected = [np.log(6) / 6, np.log(4) / 4, np.log(4) / 6, 1 - 3 / 5, np.log(1.5) / 3, -1.5]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_numbers_of_a_user_nothing_is_known_of() -> None:
    """A year away, and the average age."""
    expected = [0.0, 0.0, 0.0, 0.0, np.log(366) / 3, 0.0]
    np.testing.assert_allclose(user_features(SCHEMA, None, EMPTY, {}, NOW_MS).numeric, expected, rtol=1e-6)


def test_numbers_of_an_anonymous_history() -> None:
    """Without a state the history itself is counted; a time ahead of the clock counts as now."""
    found = user_features(SCHEMA, None, history_of([1, 1, 2], [30.0, 2.0, -0.1]), {}, NOW_MS).numeric
    np.testing.assert_allclose(found, [np.log(4) / 6, np.log(3) / 4, np.log(3) / 6, 1 / 3, 0, 0], rtol=1e-6)


def test_the_retrieval_score_enters_as_rank_and_standardised_score() -> None:
    """Mean 2, deviation sqrt(2); equal scores keep their order."""
    found = cross([5, 3, 0, 6], [2.0, 4.0, 0.0, 2.0], EMPTY)
    np.testing.assert_allclose(found["retrieval_z"], [0, 2**0.5, -(2**0.5), 0], rtol=1e-5)
    ranks = np.array([1, 0, 3, 2])
    np.testing.assert_allclose(found["retrieval_log_rank"], np.log(1 + ranks) / np.log(200), rtol=1e-6)
    moved = cross([5, 3, 0, 6], [12.0, 22.0, 2.0, 12.0], EMPTY)
    np.testing.assert_allclose(moved["retrieval_z"], found["retrieval_z"], rtol=1e-5)
    assert moved["retrieval_log_rank"] == found["retrieval_log_rank"]


def test_equal_scores_have_no_spread() -> None:
    assert cross([1, 2], [3.0, 3.0], EMPTY)["retrieval_z"] == [0.0, 0.0]


def test_own_history_of_a_candidate() -> None:
    """Item 2 was taken 60, 30 and 15 days ago: every 22.5 days on average, so it is due to two thirds."""
    found = cross([2, 7], [0.0, 0.0], history_of([2, 2, 4, 2], [60.0, 30.0, 20.0, 15.0]))
    decayed_14d = 2 ** (-60 / 14) + 2 ** (-30 / 14) + 2 ** (-15 / 14)
    decayed_60d = 2**-1 + 2**-0.5 + 2**-0.25
    assert found["own_log_count"] == pytest.approx([np.log(4), 0])
    assert found["own_decayed_14d"] == pytest.approx([np.log1p(decayed_14d), 0])
    assert found["own_decayed_60d"] == pytest.approx([np.log1p(decayed_60d), 0])
    assert found["own_log_days_since"] == pytest.approx([np.log(16) / 3, np.log(366) / 3])
    assert found["own_due"] == pytest.approx([15 / 22.5, 0])
    assert found["own_due_known"] == [1, 0]


def test_a_rhythm_needs_two_different_times_and_is_bounded() -> None:
    """Twice in one basket is no rhythm; a rhythm of minutes counts as one of half a day; nothing is over 4 due."""
    found = cross([1, 2, 3], [0.0] * 3, history_of([1, 1, 2, 2, 3, 3], [9.0, 9.0, 1.01, 1.0, 102.0, 100.0]))
    assert found["own_due_known"] == [0, 1, 1]
    assert found["own_due"] == pytest.approx([0, 2, 4])


def test_neighbours_of_recent_items() -> None:
    """Item 6 is a neighbour of items 1 (taken now) and 2 (60 days ago, half the weight); only the sum decays."""
    neighbours, similarity = np.full((NUM_ITEMS, 2), -1, np.int32), np.zeros((NUM_ITEMS, 2), np.float32)
    neighbours[1], similarity[1] = [6, 3], [0.5, 0.25]
    neighbours[2], similarity[2] = [6, -1], [0.75, 0]
    tables = ItemTables(neighbours, similarity, NONE.affinity)
    found = cross([6, 3, 5], [0.0] * 3, history_of([2, 1, 1], [60.0, 3.0, 0.0]), tables)
    assert found["neighbour_sum"] == pytest.approx([np.log1p(0.5 + 0.75 / 2), np.log1p(0.25), 0])
    assert found["neighbour_max"] == [0.75, 0.25, 0]


def test_affinity_is_the_decayed_share_of_the_candidates_value() -> None:
    """Two of kind 1 (now and 60 days ago), one of kind 2 (now), one unknown (now): shares of 3.5."""
    tables = ItemTables(NONE.neighbours, NONE.similarity, np.array([[1], [1], [2], [0], [3], [2], [1], [0]], np.int32))
    history = history_of([0, 1, 2, 3], [60.0, 0.0, 0.0, 0.0])
    found = cross([6, 5, 4, 7], [0.0] * 4, history, tables)["affinity_kind"]
    assert found == pytest.approx([(1.5 / 3.5) ** 0.5, (1 / 3.5) ** 0.5, 0, 0])


def test_no_candidates_have_no_features() -> None:
    assert cross([], [], history_of([1], [1.0]))["own_log_count"] == []


def test_newest_distinct_items() -> None:
    """Newest first, each with the position of its newest interaction."""
    items, positions = recent_distinct(history_of([4, 2, 4, 7, 2], [5, 4, 3, 2, 1]), 2)
    assert (items.tolist(), positions.tolist()) == ([2, 7], [4, 3])
    items, positions = recent_distinct(EMPTY, 5)
    assert (items.tolist(), positions.tolist()) == ([], [])


def test_permuted_lines_of_equal_times_give_identical_features() -> None:
    """Twenty random logs of 60 lines at 12 moments, each read in two orders: equal to the last bit."""
    rng = np.random.default_rng(0)
    tables = random_tables(rng)
    for _ in range(20):
        items, moments = rng.integers(0, NUM_ITEMS, 60), rng.integers(0, 12, 60) / 3.0
        order = rng.permutation(60)
        one, other = (state_of(items[rows].tolist(), moments[rows].tolist(), {}) for rows in (np.arange(60), order))
        candidates, scores = rng.permutation(NUM_ITEMS), rng.normal(size=NUM_ITEMS).astype(np.float32)
        first, second = (
            cross_features(candidates, scores, read_history(state, HASHES), tables, NOW_MS) for state in (one, other)
        )
        assert np.array_equal(first, second)
        numbers = [
            user_features(SCHEMA, state, read_history(state, HASHES), {}, NOW_MS).numeric for state in (one, other)
        ]
        assert np.array_equal(*numbers)


def test_cross_features_equal_a_plain_oracle() -> None:
    """Item by item with dictionaries, as the names say, on 30 random users."""
    rng = np.random.default_rng(1)
    tables = random_tables(rng)
    for size in range(30):
        days = np.sort(rng.integers(0, 400, size) / 4.0)[::-1]
        history = history_of(rng.integers(0, NUM_ITEMS, size).tolist(), days.tolist())
        items, scores = rng.permutation(NUM_ITEMS)[:5], rng.normal(size=5).astype(np.float32)
        found = cross_features(items, scores, history, tables, NOW_MS)
        np.testing.assert_allclose(found, oracle(items, scores, history, tables), rtol=1e-5, atol=1e-6)


def random_tables(rng: np.random.Generator) -> ItemTables:
    neighbours = np.stack([rng.permutation(np.delete(np.arange(NUM_ITEMS), n))[:3] for n in range(NUM_ITEMS)])
    neighbours = neighbours.astype(np.int32)
    similarity = -np.sort(-rng.random((NUM_ITEMS, 3)), axis=1).astype(np.float32)
    neighbours[2, 1:], similarity[2, 1:] = -1, 0
    return ItemTables(neighbours, similarity, rng.integers(0, 4, (NUM_ITEMS, 1)).astype(np.int32))


def oracle(
    items: NDArray[np.int64], scores: NDArray[np.float32], history: History, tables: ItemTables
) -> NDArray[np.float64]:
    lines = [(int(i), (NOW_MS - int(t)) / DAY_MS) for i, t in zip(history.items, history.times_ms, strict=True)]
    newest = dict(lines)
    kinds: Counter[int] = Counter()
    for item, age in lines:
        kinds[int(tables.affinity[item, 0])] += 2 ** (-age / 60)
    rows = []
    for item, score in zip(items.tolist(), scores.tolist(), strict=True):
        own = [age for taken, age in lines if taken == item]
        links = [
            (float(similarity), 2 ** (-age / 60))
            for taken, age in newest.items()
            for near, similarity in zip(tables.neighbours[taken], tables.similarity[taken], strict=True)
            if near == item
        ]
        since = min(own, default=365.0)
        rhythm = len(own) > 1 and max(own) > min(own)
        interval = (max(own) - min(own)) / (len(own) - 1) if rhythm else 1.0
        kind = int(tables.affinity[item, 0])
        rows.append(
            [
                (score - scores.astype(np.float64).mean()) / (scores.astype(np.float64).std() + 1e-6),
                np.log1p(int((scores > score).sum())) / np.log(200),
                np.log1p(len(own)),
                np.log1p(sum(2 ** (-age / 14) for age in own)),
                np.log1p(sum(2 ** (-age / 60) for age in own)),
                np.log1p(since) / 3,
                min(since / max(interval, 0.5), 4.0) if rhythm else 0.0,
                float(rhythm),
                np.log1p(sum(similarity * weight for similarity, weight in links)),
                max((similarity for similarity, _ in links), default=0.0),
                (kinds[kind] / kinds.total()) ** 0.5 if kind and lines else 0.0,
            ]
        )
    return np.array(rows)
