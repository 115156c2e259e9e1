"""Hard negatives come from the items that the model scores highest, with the probability that is stated."""

import numpy as np
import pytest

from models.hard_negatives import from_pool, hardest
from models.positives import Positives
from models.sampling import Proposal, negatives


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


def test_the_top_are_those_a_user_does_not_have_each_as_often() -> None:
    """Of user 0 the best three but item 3 are 4, 2 and 1; user 1 has two items left."""
    drawn = hardest(np.array([0, 1]), USERS, ITEMS, POSITIVES, 600, 3, Grid())
    counts = [np.bincount(row, minlength=5).tolist() for row in drawn.items]
    assert counts == [[0, 200, 200, 0, 200], [300, 0, 300, 0, 0]]
    np.testing.assert_allclose(np.exp(drawn.log_probability[:, 0]), [1 / 3, 1 / 2])
    assert drawn.log_probability.shape == (2, 600)


@pytest.mark.parametrize("top", [1, 2, 7, 40, 1000])
def test_the_top_by_brute_force(top: int) -> None:
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(40, 4)).astype(np.float32)
    has = rng.random((6, 40)) < np.linspace(0, 0.95, 6)[:, None]
    rows = np.array([5, 0, 3, 3])
    drawn = hardest(rows, users[rows], items, Positives.of(*np.nonzero(has), 6, 40), 2000, top, rng)
    for user, found in zip(rows, drawn.items, strict=True):
        free = np.flatnonzero(~has[user])
        assert set(found) == set(free[np.argsort(-(items[free] @ users[user]))][:top])


def test_a_user_with_every_item_is_refused() -> None:
    full = Positives.of(np.zeros(5, np.int64), np.arange(5), 1, 5)
    with pytest.raises(ValueError, match="user 0 has every item"):
        hardest(np.array([0]), USERS[:1], ITEMS, full, 1, 2, Grid())


def test_a_pool_is_drawn_from_by_its_softmax() -> None:
    """Scores log 1, log 2, log 5 over a temperature of 1/2 are squares: 1, 4 and 25 of 30; item 0 is in two places."""
    items = np.log(np.array([[1.0], [2.0], [5.0]]))
    drawn = from_pool(np.array([[0, 1, 2], [0, 0, 1]]), np.ones((2, 1)), items, 3000, 0.5, Grid())
    shares = [np.bincount(row, minlength=3) / 3000 for row in drawn.items]
    np.testing.assert_allclose(shares, [[1 / 30, 4 / 30, 25 / 30], [2 / 6, 4 / 6, 0]], atol=2 / 3000)
    for row, probability in enumerate(([1 / 30, 4 / 30, 25 / 30], [1 / 6, 4 / 6])):
        stated = np.exp(drawn.log_probability[row])
        np.testing.assert_allclose(stated, np.array(probability)[drawn.items[row]], rtol=1e-6)


def test_with_the_proposal_taken_out_a_large_pool_draws_the_softmax_of_the_model() -> None:
    """Six items by popularity into a pool of 2,000; item 5 is the user's. Without taking it out q is a factor."""
    rng = np.random.default_rng(0)
    proposal = Proposal.of_popularity(np.array([20.0, 10, 5, 3, 2, 9]), 1.0)
    scores = np.array([0.0, 0.5, 1.0, 0.2, 1.5, 3.0])
    pool = negatives(np.zeros(200, np.int64), 2000, proposal, Positives.of(np.array([0]), np.array([5]), 1, 6), rng)
    q = np.exp(proposal.log_probability)
    for log_proposal, weights in [(proposal.log_probability, np.exp(scores)), (None, q * np.exp(scores))]:
        drawn = from_pool(pool, np.ones((200, 1)), scores[:, None], 1000, 1.0, Grid(), log_proposal)
        expected = np.append(weights[:5], 0) / weights[:5].sum()
        np.testing.assert_allclose(np.bincount(drawn.items.ravel(), minlength=6) / 200_000, expected, atol=0.005)
