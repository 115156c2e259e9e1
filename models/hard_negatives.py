"""Negatives that a retrieval model takes for positives, from which a ranker learns the most, among uniform ones.

Pairwise and binary losses take them as they are; a softmax takes each with the probability that it was drawn with.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.positives import Positives
from models.sampling import Proposal, negatives, require_negatives


class Pool(NamedTuple):
    """The hardest items of each row's user.

    items: int64 [b, t], best first.  sizes: int64 [b], how many of them are in the pool: positives stand last.
    """

    items: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Items int64 [b, count], uniform and independent draws."""
        places = (rng.random((len(self.items), count)) * self.sizes[:, None]).astype(np.int64)
        return np.take_along_axis(self.items, places, 1)

    def contains(self, items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each row's pool has its items.  items int64 [b, n], no positives."""
        found: NDArray[np.bool_] = (items[:, :, None] == self.items[:, None, :]).any(2)
        return found


class Drawn(NamedTuple):
    """items: int64 [b, count].  weights: float64 [b, count], the item's probability if all were drawn uniformly over
    the one it was drawn with; a softmax that has an item so many times in its sum is that of uniform negatives."""

    items: NDArray[np.int64]
    weights: NDArray[np.float64]


def hardest(
    users: NDArray[np.int64],
    user_vectors: NDArray[np.float32],
    item_vectors: NDArray[np.float32],
    positives: Positives,
    top: int,
) -> Pool:
    """The `top` not-positives with the highest score for the row's user, or all where there are fewer.

    users int64 [b], user_vectors [b, d], item_vectors [N, d]. Raises ValueError for a user who has every item. Scores
    are b x N floats: give the rows in batches.
    """
    require_negatives(users, positives)
    scores = user_vectors @ item_vectors.T
    scores[positives.contains(users[:, None], np.arange(positives.num_items)[None, :])] = -np.inf
    top = min(top, positives.num_items)
    best = np.argpartition(-scores, top - 1, axis=1)[:, :top]
    best = np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1), 1)
    return Pool(best, np.minimum(top, positives.num_items - positives.counts[users]))


def partly_hard(
    users: NDArray[np.int64],
    count: int,
    num_hard: int,
    pool: Pool,
    uniform: Proposal,
    positives: Positives,
    rng: np.random.Generator,
) -> Drawn:
    """num_hard of each row's `count` negatives from its pool, the others by a uniform proposal; never a positive."""
    others = negatives(users, count - num_hard, uniform, positives, rng)
    items = np.concatenate([pool.draw(num_hard, rng), others], 1)
    free = (positives.num_items - positives.counts[users])[:, None]
    # how often the row is to have each of its items: an item of the pool is drawn in both ways
    expected = (count - num_hard) / free + pool.contains(items) * (num_hard / pool.sizes[:, None])
    return Drawn(items, count / free / expected)
