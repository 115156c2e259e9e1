"""Targets of a window and of its baskets, written out for three users and five items; the window starts on day 10."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from models.data.dataset import Dataset
from models.targets import Targets, Window, basket_targets, window_targets

DAY_MS = 86_400_000
TRIPLES = [
    (0, 1, 2.0),
    (0, 2, 3.0),
    (0, 1, 10.0),  # the window's first moment
    (0, 3, 10.0),
    (0, 1, 11.0),  # a basket of nothing new
    (0, 3, 12.0),  # bought again
    (0, 4, 12.0),
    (1, 0, 1.0),
    (1, 0, 11.0),  # nothing new
    (2, 2, 15.0),  # unknown before the window
]


@pytest.fixture
def dataset(make_dataset: Callable[..., Dataset]) -> Dataset:
    return make_dataset(TRIPLES, num_users=3, num_items=5)


def rows(targets: Targets) -> list[tuple[int, float, list[int]]]:
    bounds: NDArray[np.int64] = targets.offsets
    return [
        (int(user), time / DAY_MS, targets.items[bounds[row] : bounds[row + 1]].tolist())
        for row, (user, time) in enumerate(zip(targets.users, targets.state_times_ms, strict=True))
    ]


def test_all_items_of_the_window_count_once_for_users_known_before(dataset: Dataset) -> None:
    assert rows(window_targets(dataset, Window.test(dataset), "all")) == [(0, 10.0, [1, 3, 4]), (1, 10.0, [0])]


def test_new_items_are_those_the_user_never_had_before_the_window(dataset: Dataset) -> None:
    """A user with nothing new has no row."""
    assert rows(window_targets(dataset, Window.test(dataset), "new")) == [(0, 10.0, [3, 4])]


def test_baskets_are_sets_of_equal_time(dataset: Dataset) -> None:
    assert rows(basket_targets(dataset, Window.test(dataset), "all")) == [
        (0, 10.0, [1, 3]),
        (0, 11.0, [1]),
        (0, 12.0, [3, 4]),
        (1, 11.0, [0]),
    ]


def test_an_item_is_new_in_the_first_basket_that_holds_it(dataset: Dataset) -> None:
    assert rows(basket_targets(dataset, Window.test(dataset), "new")) == [(0, 10.0, [3]), (0, 12.0, [4])]


def test_the_window_ends_before_its_end(dataset: Dataset) -> None:
    targets = window_targets(dataset, Window("short", 10 * DAY_MS, 12 * DAY_MS), "all")
    assert rows(targets) == [(0, 10.0, [1, 3]), (1, 10.0, [0])]


def test_validation_ends_where_test_starts(dataset: Dataset) -> None:
    test, validation = Window.test(dataset), Window.validation(dataset)
    assert (validation.start_ms, validation.end_ms) == (5 * DAY_MS, 10 * DAY_MS)
    assert (test.start_ms, test.end_ms) == (10 * DAY_MS, 20 * DAY_MS)


def test_nobody_known_leaves_no_rows(dataset: Dataset) -> None:
    assert rows(window_targets(dataset, Window("first", 0, 2 * DAY_MS), "all")) == []
