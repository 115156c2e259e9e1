"""Clicks made by the position-based model give its propensities and relevances back; the raw rates do not."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from models.exposure import (
    UNKNOWN,
    click_weights,
    fit_item_positions,
    fit_position_model,
    randomised_propensities,
    refusal_weights,
)

EXAMINED = np.array([1.0, 0.7, 0.45, 0.3, 0.2])
RELEVANCE = np.array([0.5, 0.42, 0.34, 0.26, 0.18, 0.1])


class Log(NamedTuple):
    items: NDArray[np.int64]
    positions: NDArray[np.int64]
    clicks: NDArray[np.bool_]


def simulated(lists: int, favour: float, seed: int) -> Log:
    """Lists of five of the six items. favour > 0 puts the *less* relevant first, more often than not; 0 is random."""
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.gumbel(size=(lists, 6)) + favour * RELEVANCE, axis=1)[:, ::-1][:, :5]
    positions = np.tile(np.arange(5), (lists, 1))
    clicks = rng.random((lists, 5)) < EXAMINED[positions] * RELEVANCE[order]
    return Log(order.ravel(), positions.ravel(), clicks.ravel())


def rates(items: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.bincount(items, weights=values) / np.bincount(items)


UNFAIR = simulated(100_000, -16.0, 1)


def test_lists_in_random_order_give_the_propensities() -> None:
    log = simulated(200_000, 0.0, 0)
    found = randomised_propensities(log.positions, log.clicks, 5)
    np.testing.assert_allclose(found, EXAMINED, atol=0.01)


def test_propensities_by_hand() -> None:
    """Two of four clicks at the first position, one of three at the second."""
    positions = np.array([0, 0, 1, 1, 0, 0, 1])
    clicks = np.array([1, 0, 1, 0, 1, 0, 0], np.bool_)
    assert randomised_propensities(positions, clicks, 2).tolist() == pytest.approx([1, (1 / 3) / (2 / 4)])


def test_lists_in_an_unfair_order_give_them_by_the_position_model() -> None:
    """The rates by position mix the two up there: the weakest items stand first."""
    naive = randomised_propensities(UNFAIR.positions, UNFAIR.clicks, 5)
    assert np.abs(naive - EXAMINED).max() > 0.1
    found = fit_position_model(UNFAIR.items, UNFAIR.positions, UNFAIR.clicks, 5)
    np.testing.assert_allclose(found.propensities, EXAMINED, atol=0.02)
    np.testing.assert_allclose(found.relevance, RELEVANCE, atol=0.02)


def test_expected_clicks_give_the_model_back_exactly() -> None:
    """Two items at two positions, 1,000 impressions a cell, clicks of exactly e r: no chance in it."""
    items, positions = np.repeat([0, 0, 1, 1], 1000), np.repeat([0, 1, 0, 1], 1000)
    counts = [800, 400, 400, 200]  # relevances .8 and .4, the second position looked at half as often
    clicks = np.concatenate([np.arange(1000) < count for count in counts])
    found = fit_position_model(items, positions, clicks, 2, tolerance=1e-12)
    np.testing.assert_allclose(found.propensities, [1, 0.5], atol=1e-6)
    np.testing.assert_allclose(found.relevance, [0.8, 0.4], atol=1e-6)


def test_propensities_by_items_cover_every_position_and_every_item() -> None:
    """Places 1 and 3 of 0 to 4 have impressions, and people look at place 3 first: it is 1, place 1 is half of it, and
    the others follow by a straight line. Relevances are of a click at place 3; item 1 was never shown, nor item 3."""
    items, positions = np.repeat([0, 0, 2, 2], 1000), np.repeat([1, 3, 1, 3], 1000)
    clicks = np.concatenate([np.arange(1000) < count for count in (400, 800, 200, 400)])
    found = fit_item_positions(items, positions, clicks, 4, 5)
    np.testing.assert_allclose(found.propensities, [0.5, 0.5, 0.75, 1, 1], atol=1e-4)
    np.testing.assert_allclose(found.relevance, [0.8, 0, 0.4, 0], atol=1e-4)
    click_weights(positions, found.propensities, 10)  # takes none above 1


def test_weighted_clicks_have_the_relevances_as_their_mean_and_raw_clicks_the_wrong_order() -> None:
    raw = rates(UNFAIR.items, UNFAIR.clicks.astype(float))
    assert raw.argmax() != RELEVANCE.argmax()
    assert np.abs(raw - RELEVANCE).max() > 0.2
    propensities = fit_position_model(UNFAIR.items, UNFAIR.positions, UNFAIR.clicks, 5).propensities
    weighted = rates(UNFAIR.items, UNFAIR.clicks * click_weights(UNFAIR.positions, propensities, 20.0))
    np.testing.assert_allclose(weighted, RELEVANCE, atol=0.02)
    assert np.argsort(-weighted).tolist() == [0, 1, 2, 3, 4, 5]


def trained(labels: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of a model with one logit an item, trained by log-loss on one row a label, by Newton's method."""
    items = torch.from_numpy(UNFAIR.items)
    logits = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    total = torch.zeros(6, dtype=torch.float64).index_add(0, items, torch.from_numpy(weights))
    for _ in range(6):
        rows = F.binary_cross_entropy_with_logits(logits[items], torch.from_numpy(labels), reduction="none")
        loss = (rows * torch.from_numpy(weights)).sum()
        (gradient,) = torch.autograd.grad(loss, logits)
        share = torch.sigmoid(logits.detach())
        logits = (logits.detach() - gradient / (total * share * (1 - share))).requires_grad_()
    return torch.sigmoid(logits.detach()).numpy()


def test_a_model_trained_on_weighted_clicks_learns_the_relevances() -> None:
    """As labels, and as weights of clicks beside weights of impressions without a click; raw clicks teach otherwise."""
    clicks = UNFAIR.clicks.astype(np.float64)
    weights = click_weights(UNFAIR.positions, EXAMINED, 20.0)
    assert np.abs(trained(clicks, np.ones_like(clicks)) - RELEVANCE).max() > 0.2
    np.testing.assert_allclose(trained(clicks * weights, np.ones_like(clicks)), RELEVANCE, atol=0.02)
    refused = refusal_weights(UNFAIR.positions, EXAMINED, RELEVANCE[UNFAIR.items])
    np.testing.assert_allclose(trained(clicks, np.where(UNFAIR.clicks, weights, refused)), RELEVANCE, atol=0.02)


def test_weights_are_clipped_and_one_without_a_list() -> None:
    positions = np.array([0, 1, 2, UNKNOWN])
    assert click_weights(positions, np.array([1, 0.5, 0.01]), 10.0).tolist() == [1, 2, 10, 1]
    assert click_weights(positions, np.array([1, 0.5, 0.0]), 1.0).tolist() == [1, 1, 1, 1]


def test_weights_of_impressions_without_a_click_by_hand() -> None:
    """Always examined: 1. Examined half the time with r = 1/2: (1/2) / (3/4). Never examined: 1 - r."""
    found = refusal_weights(np.array([0, 1, 2]), np.array([1, 0.5, 0]), np.array([0.5, 0.5, 0.3]))
    assert found.tolist() == pytest.approx([1, 2 / 3, 0.7])


def test_what_no_propensity_follows_from_is_refused() -> None:
    positions, clicks = np.array([0, 1, 1]), np.array([False, True, True])
    with pytest.raises(ValueError, match="none at the first position"):
        randomised_propensities(positions, clicks, 2)
    with pytest.raises(ValueError, match="no impression at 2"):
        fit_position_model(np.zeros(3, np.int64), positions, ~clicks, 3)
    with pytest.raises(ValueError, match="positions has indices from 0 to 1"):
        randomised_propensities(positions, clicks, 1)
    for propensities, bound, named in [
        ([1.0, 1.1], 2.0, "propensities"),
        ([1.0, np.nan], 2.0, "propensities"),
        ([1.0, 0.5], 0.5, "max_weight"),
        ([1.0], 2.0, "positions"),
    ]:
        with pytest.raises(ValueError, match=named):
            click_weights(positions, np.array(propensities), bound)
