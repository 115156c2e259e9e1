"""`Interactions` checks itself and cuts by time."""

import numpy as np
import pytest

from models.data.errors import DatasetError
from models.data.interactions import Interactions


def make(users: list[int], times: list[int], items: list[int], types: list[int]) -> Interactions:
    return Interactions(
        user_index=np.array(users, np.int32),
        item_index=np.array(items, np.int32),
        time_ms=np.array(times, np.int64),
        event_type=np.array(types, np.uint8),
        value=np.arange(len(users), dtype=np.float32),
        context={"store": np.arange(len(users), dtype=np.int32)},
        numeric={"discount": np.arange(len(users), dtype=np.float32)},
    )


SMALL = make([0, 0, 0, 2, 2], [5, 7, 7, 1, 7], [3, 0, 1, 9, 9], [0, 0, 0, 1, 0])


def test_before_is_strict_and_between_is_half_open() -> None:
    assert SMALL.before(7).value.tolist() == [0, 3]
    assert SMALL.between(5, 7).value.tolist() == [0]
    assert SMALL.between(7, 8).value.tolist() == [1, 2, 4]


def test_context_and_numeric_columns_are_cut_too() -> None:
    cut = SMALL.before(7)
    assert cut.context["store"].tolist() == [0, 3]
    assert cut.numeric["discount"].tolist() == [0, 3]


def test_offsets_of_users_without_interactions_are_empty_ranges() -> None:
    assert SMALL.user_offsets(4).tolist() == [0, 3, 3, 5, 5]
    assert make([], [], [], []).user_offsets(2).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("users", "times", "items", "types"),
    [
        ([1, 0], [1, 2], [0, 0], [0, 0]),
        ([0, 0], [2, 1], [0, 1], [0, 0]),
        ([0, 0], [1, 1], [1, 0], [0, 1]),
        ([0, 0], [1, 1], [1, 1], [1, 0]),
    ],
)
def test_each_key_of_the_order_is_checked(
    users: list[int], times: list[int], items: list[int], types: list[int]
) -> None:
    with pytest.raises(DatasetError, match="not sorted"):
        make(users, times, items, types)


def test_a_later_key_may_fall_where_an_earlier_one_rises() -> None:
    assert len(make([0, 1], [9, 1], [9, 1], [1, 0])) == 2


def test_equal_interactions_are_allowed() -> None:
    assert len(make([0, 0], [1, 1], [1, 1], [0, 0])) == 2
