"""Negative items are drawn with exactly the probabilities that the loss is told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.positives import Positives
from models.sampling import (
    CHUNK,
    Proposal,
    accidental_positives,
    negatives,
)


class Grid(np.random.Generator):
    """Draws the left ends of `size` equal parts of [0, 1): every probability shows as a count, without chance."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def random(self, size: int) -> np.ndarray:  # type: ignore[override]
        return np.arange(size) / size


def test_probabilities_are_of_popularity_to_the_power() -> None:
    """(p + 1/2): 1/2, 1, 2, 1/2 of 4 in all; the item without interactions is drawn too."""
    proposal = Proposal.of_popularity(np.array([0.0, 0.5, 1.5, 0.0]), 1.0)
    np.testing.assert_allclose(np.exp(proposal.log_probability), [1 / 8, 1 / 4, 1 / 2, 1 / 8], rtol=1e-6)
    assert np.bincount(proposal.draw(800, Grid()), minlength=4).tolist() == [100, 200, 400, 100]


@pytest.mark.parametrize(("power", "expected"), [(0.0, [1 / 3] * 3), (0.5, [1 / 6, 2 / 6, 3 / 6])])
def test_a_smaller_power_is_nearer_to_uniform(power: float, expected: list[float]) -> None:
    """Roots of 1, 4 and 9 halves."""
    proposal = Proposal.of_popularity(np.array([0.0, 1.5, 4.0]), power)
    np.testing.assert_allclose(np.exp(proposal.log_probability), expected, rtol=1e-6)


@pytest.mark.parametrize("power", [0.3, 0.75, 1.0])
def test_the_stated_probability_is_the_one_drawn_with(power: float) -> None:
    """300 items over six orders of magnitude, a million draws on a grid: each count is the stated share, but for one
    part of the grid at each of the columns of the alias table that lead to the item."""
    popularity = 10.0 ** np.random.default_rng(0).uniform(-2, 4, 300)
    proposal = Proposal.of_popularity(popularity, power)
    weights = (popularity + 0.5) ** power
    np.testing.assert_allclose(np.exp(proposal.log_probability.astype(np.float64)), weights / weights.sum(), rtol=1e-5)
    counts = np.bincount(proposal.draw(1_000_000, Grid()), minlength=300)
    columns = 1 + np.bincount(proposal._alias, minlength=300)
    assert (np.abs(counts - 1e6 * weights / weights.sum()) <= columns).all()
    assert np.exp(proposal.log_probability.astype(np.float64)).sum() == pytest.approx(1)


@given(weights=st.lists(st.floats(0, 1e12), min_size=1, max_size=40), power=st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_the_alias_table_gives_every_item_its_weight(weights: list[float], power: float) -> None:
    """A column gives its item the part below the threshold and its alias the rest: summed here column by column."""
    popularity = np.array(weights)
    proposal = Proposal.of_popularity(popularity, power)
    share = np.zeros(len(weights))
    for column, (threshold, alias) in enumerate(zip(proposal._threshold, proposal._alias, strict=True)):
        assert 0 <= threshold <= 1
        share[column] += threshold / len(weights)
        share[alias] += (1 - threshold) / len(weights)
    expected = (popularity + 0.5) ** power / ((popularity + 0.5) ** power).sum()
    np.testing.assert_allclose(share, expected, atol=1e-13)
    np.testing.assert_allclose(np.exp(proposal.log_probability.astype(np.float64)), share, rtol=1e-5)


def test_the_ends_of_the_interval_are_items() -> None:
    """0 is in the first column, the largest number below 1 in the last, however the sum was rounded."""

    class Ends(Grid):
        def random(self, size: int) -> np.ndarray:  # type: ignore[override]
            return np.array([0.0, np.nextafter(1.0, 0.0)])

    proposal = Proposal.of_popularity(np.full(7, 0.1), 0.75)
    assert proposal.draw(2, Ends()).tolist() == [0, 6]


@pytest.mark.parametrize("popularity", [[], [1.0, -0.1], [np.nan], [np.inf]])
def test_popularity_that_is_no_count_is_refused(popularity: list[float]) -> None:
    with pytest.raises(ValueError, match="popularity"):
        Proposal.of_popularity(np.array(popularity), 0.75)


def test_the_same_seed_draws_the_same_items() -> None:
    proposal = Proposal.of_popularity(np.arange(50.0), 0.75)
    drawn = [proposal.draw(20, np.random.default_rng(seed)).tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


FIVE = Proposal.of_popularity(np.array([0.5, 1.5, 2.5, 3.5, 4.5]), 1.0)  # 1/15, 2/15, ... 5/15
# of user 0 items 3 and 4, of user 1 none, of user 2 all but item 0
SOME = Positives.of(np.array([0, 0, 2, 2, 2, 2]), np.array([3, 4, 1, 2, 3, 4]), 3, 5)


@pytest.mark.parametrize(
    ("user", "expected"), [(0, [1 / 6, 2 / 6, 3 / 6, 0, 0]), (1, [k / 15 for k in range(1, 6)]), (2, [1, 0, 0, 0, 0])]
)
def test_negatives_have_the_probability_given_that_they_are_not_positive(user: int, expected: list[float]) -> None:
    """60,000 draws on a grid, the rejected ones on a new grid, and so on: shares as stated, without chance.

    A round rounds each of the at most five columns once; of user 2, 14 of 15 draws are rejected each time, so that
    a tenth of them is still open after all rounds and drawn from the only item left.
    """
    drawn = negatives(np.full(6000, user), 10, FIVE, SOME, Grid())
    assert drawn.shape == (6000, 10)
    share = np.bincount(drawn.ravel(), minlength=5) / 60_000
    np.testing.assert_allclose(share, expected, atol=32 * 5 / 60_000 if 0 < max(expected) < 1 else 0)


def test_a_user_whose_positives_hold_nearly_all_the_mass_gets_the_others_in_proportion() -> None:
    """One draw in 250,000 is not of item 0: rejection gives up, and the rest is drawn as 1 : 3 directly."""
    proposal = Proposal.of_popularity(np.array([1e6, 0.5, 2.5]), 1.0)
    drawn = negatives(np.zeros(400, np.int64), 10, proposal, Positives.of(np.array([0]), np.array([0]), 1, 3), Grid())
    assert np.bincount(drawn.ravel()).tolist() == pytest.approx([0, 1000, 3000], abs=2)


@pytest.mark.parametrize("max_bitmap_bytes", [0, 1 << 20])
def test_no_negative_is_a_positive_of_its_row_in_any_chunk(max_bitmap_bytes: int) -> None:
    """More draws than a chunk holds, the rows' users in no order, half of all pairs positive."""
    rng = np.random.default_rng(0)
    has = rng.random((50, 30)) < 0.5
    positives = Positives.of(*np.nonzero(has), 50, 30, max_bitmap_bytes)
    proposal = Proposal.of_popularity(has.sum(0).astype(float), 0.75)
    users = rng.integers(50, size=CHUNK // 8 + 3)
    drawn = negatives(users, 20, proposal, positives, rng)
    assert not has[users[:, None], drawn].any()
    assert all(set(drawn[users == user].ravel()) == set(np.flatnonzero(~has[user])) for user in range(50))


def test_a_user_with_every_item_is_refused() -> None:
    positives = Positives.of(np.array([0, 1, 1]), np.array([1, 0, 1]), 2, 2)
    proposal = Proposal.of_popularity(np.ones(2), 0.0)
    assert negatives(np.array([0, 0]), 2, proposal, positives, Grid()).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="user 1 has every item"):
        negatives(np.array([0, 1]), 2, proposal, positives, Grid())


@pytest.mark.parametrize("user", [-1, 3])
def test_a_user_out_of_range_is_refused(user: int) -> None:
    with pytest.raises(ValueError, match="users has indices"):
        negatives(np.array([user]), 1, FIVE, SOME, Grid())


def test_a_proposal_over_another_catalogue_is_refused() -> None:
    with pytest.raises(ValueError, match="over 5 items, positives 2"):
        negatives(np.array([0]), 1, FIVE, Positives.of(np.array([0]), np.array([1]), 1, 2), Grid())


def test_no_rows_give_no_negatives() -> None:
    assert negatives(np.zeros(0, np.int64), 3, FIVE, SOME, Grid()).shape == (0, 3)
    assert negatives(np.array([1]), 0, FIVE, SOME, Grid()).shape == (1, 0)


def test_accidental_positives_are_those_of_the_rows_user() -> None:
    """Rows are users 0, 1 and 2, columns the items 4, 1 and 0; see SOME."""
    found = accidental_positives(np.array([0, 1, 2]), np.array([4, 1, 0]), SOME)
    assert found.tolist() == [[True, False, False], [False, False, False], [True, True, False]]
