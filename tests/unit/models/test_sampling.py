"""Negative items are drawn with exactly the probabilities that the loss is told."""

import numpy as np
import pytest

from models.sampling import Proposal


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
    """300 items over six orders of magnitude, a million draws on a grid: each count within one of the stated share."""
    popularity = 10.0 ** np.random.default_rng(0).uniform(-2, 4, 300)
    proposal = Proposal.of_popularity(popularity, power)
    weights = (popularity + 0.5) ** power
    np.testing.assert_allclose(np.exp(proposal.log_probability.astype(np.float64)), weights / weights.sum(), rtol=1e-5)
    counts = np.bincount(proposal.draw(1_000_000, Grid()), minlength=300)
    assert np.abs(counts - 1e6 * weights / weights.sum()).max() <= 1
    assert np.exp(proposal.log_probability.astype(np.float64)).sum() == pytest.approx(1)


def test_the_ends_of_the_interval_are_items() -> None:
    """0 is the first item, the largest number below 1 the last, however the sum was rounded."""

    class Ends(Grid):
        def random(self, size: int) -> np.ndarray:  # type: ignore[override]
            return np.array([0.0, np.nextafter(1.0, 0.0)])

    proposal = Proposal.of_popularity(np.full(7, 0.1), 0.75)
    assert proposal.draw(2, Ends()).tolist() == [0, 6]


def test_the_same_seed_draws_the_same_items() -> None:
    proposal = Proposal.of_popularity(np.arange(50.0), 0.75)
    drawn = [proposal.draw(20, np.random.default_rng(seed)).tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
