"""What an index is asked for, by hand and against what it is for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.fetching import FEW, STEPS, fetches


@pytest.mark.parametrize(
    ("num_items", "num_allowed", "limit", "expected"),
    [
        (60_000, 60_000, 200, [256]),  # nothing is removed: the least step
        (60_000, 59_800, 200, [320, 416]),  # 200 + 100, then 200 + 200
        (60_000, 59_000, 200, [416, 2_048]),  # 2 * 200 * 60 / 59 = 406, then 1,200
        (60_000, 30_000, 200, [1_024]),  # twice the share; all 30,000 of the others are too many
        (60_000, 4_096, 200, []),  # few enough to be scored
        (60_000, 4_097, 200, []),  # 2 * 200 * 60,000 / 4,097 = 5,857 are too many
        (300, 300, 200, [256]),
        (300, 280, 250, [300]),  # no more than there are, and once
        (300, 75, 10, []),
    ],
)
def test_worked_cases(num_items: int, num_allowed: int, limit: int, expected: list[int]) -> None:
    assert list(fetches(num_items, num_allowed, limit)) == expected


@given(st.data())
def test_few_numbers_each_larger_than_the_last_and_enough_in_the_end(data: st.DataObject) -> None:
    num_items = data.draw(st.integers(1, 100_000))
    num_allowed, limit = data.draw(st.integers(0, num_items)), data.draw(st.integers(1, 2_000))
    found = list(fetches(num_items, num_allowed, limit))
    assert found == sorted(set(found))
    assert all(fetch in {*STEPS, num_items} and fetch <= num_items for fetch in found)
    certain = min(limit + num_items - num_allowed, num_items)
    if found and certain <= FEW:
        assert found[-1] >= certain
