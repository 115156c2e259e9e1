"""Drawing negative items, with the probability that each was drawn with, which the loss needs to know.

What the loss must subtract from a logit (logQ correction) depends on how the negatives were drawn:
- `Proposal.draw`, shared by the rows of a step and drawn whatever the rows' positives are: log q(i), of positive and
  negatives alike. See `models.losses.sampled_softmax`.
- other rows' positives (in-batch): the logarithm of an item's share among the rows, used in the same way.
- `negatives`, never a positive of the row's user: each has q(i) / (1 - Q_u), Q_u the mass of the user's positives.
  Within a row log (1 - Q_u) is a constant. Pairwise and binary losses are used as they are: they rank positives above
  the others, and q is only how the pairs are weighed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.positives import Positives, check_indices

CHUNK = 1 << 16  # draws at a time, so that the arrays between stay in the cache
MAX_ROUNDS = 32  # of rejection; what is left then is drawn from the user's not-positives themselves


@dataclass(frozen=True, slots=True)
class Proposal:
    """A fixed distribution over items, drawn from by an alias table (Walker 1977): constant time a draw.

    log_probability: float32 [N], finite.
    """

    log_probability: NDArray[np.float32]
    _threshold: NDArray[np.float64]
    _alias: NDArray[np.int64]

    @classmethod
    def of_popularity(cls, popularity: NDArray[np.float64], power: float) -> "Proposal":
        """Probabilities proportional to (popularity + 1/2) to this power; 0 is uniform.  popularity: [N], not negative.

        The half keeps an item without interactions from never being drawn. Raises ValueError for a popularity that is
        negative or not finite, and for no items.
        """
        if popularity.size == 0 or not (np.isfinite(popularity).all() and (popularity >= 0).all()):
            raise ValueError("popularity must be one or more finite numbers that are not negative")
        weights = (popularity + 0.5) ** power
        threshold, alias = _alias_table(weights * (weights.size / weights.sum()))
        # the probability that the table really gives, its rounding included
        share = threshold + np.bincount(alias, weights=1.0 - threshold, minlength=weights.size)
        return cls(np.log(share / weights.size).astype(np.float32), threshold, alias)

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Items int64 [count], independent draws."""
        place = rng.random(count) * len(self._alias)
        column = place.astype(np.int64)
        return np.where(place - column < self._threshold[column], column, self._alias[column])


def negatives(
    users: NDArray[np.int64], count: int, proposal: Proposal, positives: Positives, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Items int64 [b, count] for users int64 [b], independent draws, never a positive of the row's user.

    Each has the proposal's probability given that it is none of the user's positives: draws are rejected and repeated,
    and where a user's positives hold nearly all the mass the draw is from the other items directly, with the same
    probabilities. Raises ValueError for a user who has every item: no negative exists, so leave such users out
    (`positives.counts < positives.num_items`); and for a user out of range.
    """
    require_negatives(users, positives)
    if len(proposal.log_probability) != positives.num_items:
        raise ValueError(f"the proposal is over {len(proposal.log_probability)} items, positives {positives.num_items}")
    rows = max(1, CHUNK // max(1, count))
    drawn = np.empty((len(users), count), np.int64)
    for start in range(0, len(users), rows):
        part = drawn[start : start + rows]
        each = np.repeat(users[start : start + rows], count)
        part[:] = _not_positive(each, proposal, positives, rng).reshape(part.shape)
    return drawn


def require_negatives(users: NDArray[np.int64], positives: Positives) -> None:
    """Raises ValueError for a user out of range or one who has every item."""
    check_indices("users", users, positives.num_users)
    complete = users[positives.counts[users] == positives.num_items]
    if complete.size:
        raise ValueError(f"user {complete[0]} has every item and so no negatives; leave such users out")


def accidental_positives(users: NDArray[np.int64], items: NDArray[np.int64], positives: Positives) -> NDArray[np.bool_]:
    """Mask [b, n]: the item of the column is a positive of the user of the row.  users [b], items [n].

    For a batch with its own items as columns the diagonal is the rows' own positives, which the loss keeps.
    """
    return positives.contains(users[:, None], items[None, :])


def _alias_table(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Threshold and alias of each column, [N] each; the weights' mean is 1.

    One sweep (Huebschle-Schneider and Sanders 2022) as prefix sums: heavy columns, in order, fill what the light ones
    lack; a heavy one that gave too much has the next heavy one as its alias.
    """
    light, heavy = np.flatnonzero(weights < 1.0), np.flatnonzero(weights >= 1.0)
    threshold, alias = np.ones(weights.size), np.arange(weights.size)
    if not light.size or not heavy.size:  # uniform, up to rounding
        return threshold, alias
    filled = np.concatenate([[0.0], np.cumsum(1.0 - weights[light])])  # before each light column, and after all
    spare = np.cumsum(weights[heavy] - 1.0)
    threshold[light] = weights[light]
    alias[light] = heavy[np.minimum(np.searchsorted(spare, filled[:-1], side="right"), heavy.size - 1)]
    given = filled[np.searchsorted(filled[:-1], spare[:-1])]
    threshold[heavy[:-1]] = np.clip(1.0 - (given - spare[:-1]), 0.0, 1.0)
    alias[heavy[:-1]] = heavy[1:]
    return threshold, alias


def _not_positive(
    users: NDArray[np.int64], proposal: Proposal, positives: Positives, rng: np.random.Generator
) -> NDArray[np.int64]:
    items = proposal.draw(len(users), rng)
    rejected = np.flatnonzero(positives.contains(users, items))
    for _ in range(MAX_ROUNDS):
        if not rejected.size:
            return items
        again = proposal.draw(rejected.size, rng)
        items[rejected] = again
        rejected = rejected[positives.contains(users[rejected], again)]
    for user in np.unique(users[rejected]):
        slots = rejected[users[rejected] == user]
        free = np.flatnonzero(~positives.contains(np.array([user]), np.arange(positives.num_items)))
        cumulative = np.cumsum(np.exp(proposal.log_probability[free].astype(np.float64)))
        place = np.searchsorted(cumulative, rng.random(slots.size) * cumulative[-1], side="right")
        items[slots] = free[np.minimum(place, free.size - 1)]
    return items
