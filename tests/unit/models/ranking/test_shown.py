"""What impressions mean for candidate lists, by hand: which items stand there as refused, and what each row weighs."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_dataset import DAY_MS, dataset_of

from models.contract.features import ItemTables
from models.data.dataset import Dataset, Splits
from models.data.impressions import NO_IMPRESSION, Impressions, match_clicks
from models.exposure import PositionModel
from models.impressions import NO_LIST
from models.offline import Retrieval
from models.ranking.lists import list_ndcg
from models.ranking.samples import LabelWindow, RankerSamples, ranker_samples
from models.ranking.shown import ShownPairs, fit_positions, shown_pairs
from models.run_log import Silent

ITEMS = 4
INTERACTIONS = [(0, 10, 0), (0, 150, 1), (0, 165, 2), (0, 172, 1), (1, 20, 3), (1, 160, 3), (1, 190, 0)]
# user, time, item, position, list
SHOWN = [
    (0, 30, 2, 0, NO_LIST),  # long before the window
    (0, 140, 1, 2, 0),  # clicked at 150
    (0, 140, 3, 1, 0),  # refused: its list has a click
    (0, 140, 2, 0, 0),  # the user turned to it later, and not from here
    (0, 145, 3, 3, 1),  # refused again, shortly before 165, at a place where it weighs less
    (1, 150, 2, 1, NO_LIST),  # refused, shortly before 160
    (1, 185, 1, 0, NO_LIST),  # its time for clicks ends after the window
]
POSITIONS = PositionModel(np.array([1.0, 0.5, 0.25, 0.1]), np.array([0.5, 0.5, 0.5, 0.2]))


def logged(click_window_ms: int = 20) -> Dataset:
    dataset = dataset_of(INTERACTIONS, 2, ITEMS, Splits(100, 200, 300, 400))
    user, time, item, position, number = np.array(SHOWN, np.int64).T
    users, items = user.astype(np.int32), item.astype(np.int32)
    came_from = match_clicks(dataset.interactions, users, items, time, click_window_ms)
    shown = Impressions(users, items, time, position.astype(np.int32), number, came_from, click_window_ms)
    return replace(dataset, impressions=shown)


def test_refused_is_what_was_shown_beside_something_better_and_left() -> None:
    found = shown_pairs(logged(), 100, 200, None, 10)
    assert [found.refused_by(user).tolist() for user in (0, 1)] == [[3], [2]]
    assert found.weights_of(0, np.arange(ITEMS)).tolist() == [1, 1, 1, 1]


def test_a_click_weighs_by_its_place_and_a_refusal_by_its_best() -> None:
    """Item 1 was first taken from the third place: 1 / .25. Item 3 was refused at the second and at the fourth:
    (1 - .2) / (1 - .5 * .2) is the more. User 1 refused item 2 at the second: .5 / .75."""
    found = shown_pairs(logged(), 100, 200, POSITIONS, 10)
    np.testing.assert_allclose(found.weights_of(0, np.array([3, 2, 1, 0])), [8 / 9, 1, 4, 1])
    np.testing.assert_allclose(found.weights_of(1, np.arange(ITEMS)), [1, 1, 2 / 3, 1])
    assert shown_pairs(logged(), 100, 200, POSITIONS, 3).weights_of(0, np.array([1])).tolist() == [3]
    assert found.refused.tolist() == shown_pairs(logged(), 100, 200, None, 10).refused.tolist()


def test_a_window_without_impressions_or_interactions_weighs_nothing() -> None:
    for start, end in ((200, 300), (0, 1)):
        found = shown_pairs(logged(), start, end, POSITIONS, 10)
        assert (len(found.refused), len(found.weighed), found.refused_by(1).tolist()) == (0, 0, [])
        assert found.weights_of(1, np.arange(ITEMS)).tolist() == [1, 1, 1, 1]


def test_propensities_need_impressions_whose_time_for_clicks_is_over() -> None:
    """30 is over at 50. By 170 five more are, one of them clicked, but none at the first position."""
    with pytest.raises(ValueError, match=r'propensity = "position": no impression is older than the validation window'):
        fit_positions(logged(), 49)
    with pytest.raises(ValueError, match=r'\[train.ranker\] propensity = "position": clicks: none at the first'):
        fit_positions(logged(), 170)


def test_propensities_reach_to_positions_that_have_their_clicks_later() -> None:
    dataset = logged()
    assert dataset.impressions is not None
    came_from = np.full(len(INTERACTIONS), NO_IMPRESSION)
    came_from[2] = 3  # the first position is clicked after all
    shown = replace(dataset.impressions, came_from=came_from, click_window_ms=25)
    found = fit_positions(replace(dataset, impressions=shown), 165)
    assert (len(found.propensities), found.propensities[0], len(found.relevance)) == (4, 1, ITEMS)


def retrieval() -> Retrieval:
    """Brings items 0 and 1, whoever asks."""

    def nearest(vector: NDArray[np.float32], allowed: NDArray[np.bool_], limit: int) -> NDArray[np.int64]:
        return np.flatnonzero(allowed[:2])

    tables = ItemTables(np.full((6, 1), -1, np.int32), np.zeros((6, 1), np.float32), np.zeros((6, 0), np.int32))
    hashes, vectors = np.arange(6, dtype=np.uint64), np.eye(6, 2, dtype=np.float32)
    return Retrieval(
        lambda inputs: np.ones((1, 2), np.float32), 3, hashes, vectors, tables, np.empty(0, np.int64), nearest
    )


def samples(shown: ShownPairs | None, *, with_refused: bool) -> RankerSamples:
    """User 0 had item 0 and turned to item 1 and, which nothing brings, to item 5."""
    rows = [(0, 10 * DAY_MS, 0), (0, 150 * DAY_MS, 1), (0, 160 * DAY_MS, 5)]
    splits = Splits(*(day * DAY_MS for day in (100, 200, 300, 400)))
    window = LabelWindow(splits.ranker_start_ms, splits.valid_start_ms, retrieval(), shown, with_refused)
    dataset = dataset_of(rows, 1, 6, splits)
    return ranker_samples(dataset, [window], 0, 0, Silent(), "samples")


SHOWN_PAIRS = ShownPairs(6, np.array([0, 4]), np.array([0, 1, 4]), np.array([0.5, 4, 0.25], np.float32))


def lists(found: RankerSamples) -> list[list[tuple[int, float, float]]]:
    """(item, label, weight) of each list, by item."""
    weights = np.ones(len(found.items)) if found.weights is None else found.weights
    rows = list(zip(found.items.tolist(), found.labels.tolist(), weights.tolist(), strict=True))
    return [sorted(rows[first:last]) for first, last in zip(found.offsets[:-1], found.offsets[1:], strict=True)]


def test_refused_items_stand_beside_the_candidates_once_and_never_where_seen_ones_may_not() -> None:
    """Item 0 is a candidate already, and in the second list it is ruled out, since the user had it."""
    found = samples(SHOWN_PAIRS, with_refused=True)
    assert found.include_seen.tolist() == [True, False]
    assert lists(found) == [[(0, 0, 0.5), (1, 1, 4), (4, 0, 0.25)], [(1, 1, 4), (4, 0, 0.25)]]
    assert found.cross.shape[0] == 5
    assert found.num_targets.tolist() == [2, 2]
    assert found.list_weights is not None
    assert found.list_weights.tolist() == [2.5, 2.5]  # of items 1 and 5


def test_candidates_weigh_as_shown_where_refused_items_are_not_added() -> None:
    assert lists(samples(SHOWN_PAIRS, with_refused=False)) == [[(0, 0, 0.5), (1, 1, 4)], [(1, 1, 4)]]


def test_equal_weights_are_none_at_all() -> None:
    alike = replace(SHOWN_PAIRS, weighed=np.empty(0, np.int64), weights=np.empty(0, np.float32))
    for found in (samples(None, with_refused=False), samples(alike, with_refused=True)):
        assert (found.weights, found.list_weights) == (None, None)
    assert [len(rows) for rows in lists(samples(alike, with_refused=True))] == [3, 2]


def test_validation_is_the_mean_by_the_weights_of_lists() -> None:
    """Scores that put item 1 first in the one list and second in the other; two targets each, one of them found."""
    found = samples(SHOWN_PAIRS, with_refused=False)
    two_of_a_kind = replace(
        found,
        items=np.array([0, 1, 0, 1]),
        labels=np.array([0, 1, 0, 1], np.float32),
        offsets=np.array([0, 2, 4]),
        include_seen=np.array([True, True]),
        list_weights=np.array([3, 1], np.float32),
    )
    scores = np.array([0, 1, 1, 0], np.float32)
    ideal = 1 + 1 / np.log2(3)
    first, second = 1 / ideal, (1 / np.log2(3)) / ideal
    assert list_ndcg(two_of_a_kind, scores) == pytest.approx((3 * first + second) / 4)
    assert list_ndcg(replace(two_of_a_kind, list_weights=None), scores) == pytest.approx((first + second) / 2)
