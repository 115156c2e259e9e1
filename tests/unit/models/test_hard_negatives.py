"""Hard negatives come from the items that the model scores highest, and weigh what uniform ones would."""

import numpy as np
import pytest

from models.hard_negatives import Pool, hardest, partly_hard
from models.positives import Positives
from models.sampling import Proposal


class Grid(np.random.Generator):
    """Draws the left ends of equal parts of [0, 1) in each row: every probability shows as a count, without chance."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def random(self, size: tuple[int, int]) -> np.ndarray:  # type: ignore[override]
        return np.tile(np.arange(size[1]) / size[1], (size[0], 1))


ITEMS = np.array([[1.0, 0], [2, 0], [3, 1], [4, 0], [5, 9]], np.float32)
USERS = np.array([[1.0, 0], [0, 1]], np.float32)  # scores 1 2 3 4 5 and 0 0 1 0 9
# user 0 has item 3; user 1 has all but items 0 and 2
POSITIVES = Positives.of(np.array([0, 1, 1, 1]), np.array([3, 1, 3, 4]), 2, 5)
UNIFORM = Proposal.of_popularity(np.zeros(5), 0.0)


def test_the_top_are_those_a_user_does_not_have_each_as_often() -> None:
    """Of user 0 the best three but item 3 are 4, 2 and 1; user 1 has two items left."""
    pool = hardest(np.array([0, 1]), USERS, ITEMS, POSITIVES, 3)
    assert pool.items[0].tolist() == [4, 2, 1]
    assert pool.items[1, :2].tolist() == [2, 0]
    assert pool.sizes.tolist() == [3, 2]
    counts = [np.bincount(row, minlength=5).tolist() for row in pool.draw(600, Grid())]
    assert counts == [[0, 200, 200, 0, 200], [300, 0, 300, 0, 0]]


@pytest.mark.parametrize("top", [1, 2, 7, 40, 1000])
def test_the_top_by_brute_force(top: int) -> None:
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(40, 4)).astype(np.float32)
    has = rng.random((6, 40)) < np.linspace(0, 0.95, 6)[:, None]
    rows = np.array([5, 0, 3, 3])
    pool = hardest(rows, users[rows], items, Positives.of(*np.nonzero(has), 6, 40), top)
    for user, found, size in zip(rows, pool.items, pool.sizes, strict=True):
        free = np.flatnonzero(~has[user])
        assert found[:size].tolist() == free[np.argsort(-(items[free] @ users[user]))][:top].tolist()


def test_a_user_with_every_item_is_refused() -> None:
    full = Positives.of(np.zeros(5, np.int64), np.arange(5), 1, 5)
    with pytest.raises(ValueError, match="user 0 has every item"):
        hardest(np.array([0]), USERS[:1], ITEMS, full, 2)


def test_a_negative_weighs_its_uniform_probability_over_its_own() -> None:
    """User 0 has 4 items left, 2 of them in the pool. Of 4 negatives 2 are hard: one of the pool is drawn 2/2 + 2/4
    times, another 2/4 times, where 4 uniform ones would have each once."""
    users = np.zeros(100, np.int64)
    pool = Pool(np.tile([4, 2], (100, 1)), np.full(100, 2))
    drawn = partly_hard(users, 4, 2, pool, UNIFORM, POSITIVES, np.random.default_rng(0))
    assert set(drawn.items[:, :2].ravel()) == {2, 4}
    assert set(drawn.items[:, 2:].ravel()) == {0, 1, 2, 4}
    np.testing.assert_allclose(drawn.weights, np.where(np.isin(drawn.items, [2, 4]), 1 / 1.5, 1 / 0.5))


def test_the_weighted_sum_over_the_negatives_is_that_of_uniform_ones() -> None:
    """In the mean over many draws: four times the mean of what the user does not have, 0, 1, 2 and 4."""
    values, users = np.array([1.0, 10, 100, 1e6, 1000]), np.zeros(100_000, np.int64)
    pool = Pool(np.tile([4, 2], (100_000, 1)), np.full(100_000, 2))
    drawn = partly_hard(users, 4, 3, pool, UNIFORM, POSITIVES, np.random.default_rng(0))
    found = (drawn.weights * values[drawn.items]).sum(1).mean()
    assert found == pytest.approx(1 + 10 + 100 + 1000, rel=0.01)


def test_a_full_share_is_the_pool_alone() -> None:
    """2 of 4 items, each twice as likely as among all."""
    pool = hardest(np.array([0, 1]), USERS, ITEMS, POSITIVES, 2)
    drawn = partly_hard(np.array([0, 1]), 50, 50, pool, UNIFORM, POSITIVES, np.random.default_rng(0))
    assert [set(row) for row in drawn.items.tolist()] == [{4, 2}, {0, 2}]
    np.testing.assert_allclose(drawn.weights, np.repeat([[1 / 2], [1.0]], 50, 1))
