"""Whether a user has an item, against a set of pairs; with a bit for every pair and with the filter of hashes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.positives import Positives

BITMAP, HASHED = 1 << 20, 0


def of(pairs: list[tuple[int, int]], num_users: int, num_items: int, max_bitmap_bytes: int) -> Positives:
    users, items = np.array(pairs, np.int64).reshape(-1, 2).T
    return Positives.of(users, items, num_users, num_items, max_bitmap_bytes)


@given(pairs=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 10))), size=st.sampled_from([BITMAP, HASHED]))
def test_it_holds_exactly_the_pairs(pairs: list[tuple[int, int]], size: int) -> None:
    """11 items: rows of bits that do not end with a byte. Repeats, any order and no pairs at all."""
    positives = of(pairs, 7, 11, size)
    found = positives.contains(np.arange(7)[:, None], np.arange(11)[None, :])
    assert {(int(user), int(item)) for user, item in np.argwhere(found)} == set(pairs)
    assert positives.counts.tolist() == found.sum(1).tolist()
    assert list(zip(*(side.tolist() for side in positives.pairs()), strict=True)) == sorted(set(pairs))


def test_pairs_whose_hashes_meet_are_told_apart() -> None:
    """300 pairs among 10^12: the filter has 2^14 bits, so thousands of the 200,000 asked for share one with a pair."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(1_000_000, size=(2, 300))
    positives = Positives.of(users, items, 1_000_000, 1_000_000)
    asked = rng.integers(1_000_000, size=(2, 200_000))
    assert positives._shift == 50
    assert not positives.contains(*asked).any()
    assert positives.contains(users, items).all()


@pytest.mark.parametrize(
    ("pair", "name"), [((3, 0), "users"), ((-1, 0), "users"), ((0, 4), "items"), ((0, -1), "items")]
)
def test_an_index_out_of_range_is_refused(pair: tuple[int, int], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        of([(0, 0), pair], 3, 4, BITMAP)


def test_sides_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one of each"):
        Positives.of(np.zeros(2, np.int64), np.zeros(3, np.int64), 3, 4)
