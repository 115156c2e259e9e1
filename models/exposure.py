"""What a list's order does to its clicks: an item further down is looked at less, so that it is clicked less.

The position-based model (Richardson et al. 2007): P(click) = P(examined | position) * P(relevant | user and item). The
first is the propensity, known only up to a factor: here that of the first position is 1, and a relevance is the
probability of a click at the first position. Positions are counted from 0 here; events count from 1.

A click weighed by 1 / propensity gives losses whose expectation is that of the relevances (Joachims et al. 2017).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.positives import check_indices

UNKNOWN = -1  # the position of an interaction that came from no list


def randomised_propensities(
    positions: NDArray[np.int64], clicks: NDArray[np.bool_], num_positions: int
) -> NDArray[np.float64]:
    """Propensities [num_positions] of lists in random order: clicks by position over those of the first.

    positions int64 [n], clicks bool [n]: of all impressions (Joachims et al. 2017, section 5). Raises ValueError for a
    position without impressions and where the first has no clicks.
    """
    check_indices("positions", positions, num_positions)
    shown = np.bincount(positions, minlength=num_positions)
    if not shown.all():
        raise ValueError(f"positions: no impression at {int(np.argmin(shown))}; reduce num_positions or log more lists")
    rates = np.bincount(positions, weights=clicks, minlength=num_positions) / shown
    if rates[0] == 0:
        raise ValueError("clicks: none at the first position, which all others are compared with; log more lists")
    propensities: NDArray[np.float64] = rates / rates[0]
    return propensities


class PositionModel(NamedTuple):
    """propensities float64 [P], 1 at the first position.  relevance float64 [D], of a click at the first position."""

    propensities: NDArray[np.float64]
    relevance: NDArray[np.float64]


def fit_position_model(
    pairs: NDArray[np.int64],
    positions: NDArray[np.int64],
    clicks: NDArray[np.bool_],
    num_positions: int,
    max_rounds: int = 2000,
    tolerance: float = 1e-7,
) -> PositionModel:
    """The position-based model by expectation-maximisation, from lists in any order (Wang et al. 2018, section 3.1).

    pairs int64 [n]: what the relevance is of, a number for each (user, item), (query, item) or item; positions [n],
    clicks bool [n]: of all impressions. Pairs seen at several positions are what tells relevance from position: the
    positions they link are compared with each other, and one that nothing links is not identified. Ends when no
    propensity moves by more than the tolerance. Raises ValueError for a position without impressions and where the
    first has no clicks.
    """
    check_indices("positions", positions, num_positions)
    check_indices("pairs", pairs, int(pairs.max(initial=-1)) + 1)
    randomised_propensities(positions, clicks, num_positions)  # the same things are asked of the log
    cells, cell = np.unique(pairs * num_positions + positions, return_inverse=True)
    pair, place = cells // num_positions, cells % num_positions
    shown = np.bincount(cell).astype(np.float64)
    clicked = np.bincount(cell, weights=clicks)
    of_pair, of_place = np.bincount(pair, weights=shown), np.bincount(place, weights=shown)
    examined = np.full(num_positions, 0.5)
    relevance = np.full(len(of_pair), 0.5)
    for _ in range(max_rounds):
        before = examined / examined[0]
        no_click = (shown - clicked) / np.maximum(1.0 - examined[place] * relevance[pair], 1e-12)
        examined_cell = clicked + no_click * examined[place] * (1.0 - relevance[pair])
        relevant_cell = clicked + no_click * relevance[pair] * (1.0 - examined[place])
        examined = np.bincount(place, weights=examined_cell) / of_place
        relevance = np.bincount(pair, weights=relevant_cell) / np.maximum(of_pair, 1.0)
        if np.abs(examined / examined[0] - before).max() < tolerance:
            break
    return PositionModel(examined / examined[0], relevance * examined[0])


def fit_item_positions(
    items: NDArray[np.int64],
    positions: NDArray[np.int64],
    clicks: NDArray[np.bool_],
    num_items: int,
    num_positions: int,
) -> PositionModel:
    """`fit_position_model` with a relevance for each item, whoever sees it: propensities [P], relevance [num_items].

    A user meets an item too seldom for a relevance of every pair. This assumes that what stands at a place is no more
    relevant to those who see it there than to those who see it elsewhere. Where each user gets their own order it is:
    the lower places then come out as looked at less than they are, and their clicks weigh too much. Bound the weights,
    and show a share of the lists in random order. The largest propensity is 1; of a position without impressions it is
    that of its neighbours, by a straight line; an item that was never shown has relevance 0.
    Raises ValueError where the first position has no clicks.
    """
    seen, place = np.unique(positions, return_inverse=True)
    fitted = fit_position_model(items, place, clicks, len(seen))
    top = float(fitted.propensities.max())
    propensities = np.interp(np.arange(num_positions), seen, fitted.propensities / top)
    relevance = np.zeros(num_items)
    relevance[: len(fitted.relevance)] = np.minimum(fitted.relevance * top, 1.0)
    return PositionModel(propensities, relevance)


def click_weights(
    positions: NDArray[np.int64], propensities: NDArray[np.float64], max_weight: float
) -> NDArray[np.float64]:
    """Weights [n] of clicks at these positions: 1 / propensity, at most `max_weight`, and 1 for an UNKNOWN position.

    The bound trades bias for variance: without it a few clicks far down would weigh more than all others (Joachims et
    al. 2017 clip in the same way). The cross-entropy is linear in its labels, so that clicks * weights
    as labels give the loss of the relevances, without bias (Saito et al. 2020).
    Raises ValueError for a position beyond the propensities, a propensity that is negative or above 1, and a bound
    below 1.
    """
    if not (np.isfinite(propensities).all() and (propensities >= 0).all() and (propensities <= 1).all()):
        raise ValueError("propensities must lie from 0 to 1; divide them by the largest")
    if not max_weight >= 1:
        raise ValueError(f"max_weight = {max_weight} is below 1, the weight of a click at the first position")
    known = positions != UNKNOWN
    check_indices("positions", positions[known], len(propensities))
    weights = np.ones(len(positions))
    weights[known] = 1.0 / np.maximum(propensities[positions[known]], 1.0 / max_weight)
    return weights


def refusal_weights(
    positions: NDArray[np.int64], propensities: NDArray[np.float64], relevance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights [n] of impressions without a click, as negatives beside clicks with their `click_weights`.

    The probability that the item was not relevant, (1 - r) / (1 - e r) by the position-based model: 1 where everybody
    looks, 1 - r where nobody does. In expectation an impression then counts r as positive and 1 - r as negative,
    wherever it stood.  relevance [n]: r, which may be as rough as the rate of clicks at the first position.
    """
    check_indices("positions", positions, len(propensities))
    looked = propensities[positions]
    weights: NDArray[np.float64] = (1.0 - relevance) / np.maximum(1.0 - looked * relevance, 1e-12)
    return weights
