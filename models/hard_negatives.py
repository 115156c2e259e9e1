"""Negatives that a retrieval model takes for positives, from which a ranker or a next model learns the most.

They are not draws of a fixed proposal: use them in pairwise and binary losses as they are, and in a softmax with the
probability that each was drawn with.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.positives import Positives
from models.sampling import require_negatives


class Hard(NamedTuple):
    """items int64 [b, count].  log_probability: float64 [b, count], with which each was drawn."""

    items: NDArray[np.int64]
    log_probability: NDArray[np.float64]


def hardest(
    users: NDArray[np.int64],
    user_vectors: NDArray[np.float32],
    item_vectors: NDArray[np.float32],
    positives: Positives,
    count: int,
    top: int,
    rng: np.random.Generator,
) -> Hard:
    """Uniform, independent draws from the `top` not-positives with the highest score for the row's user.

    users int64 [b], user_vectors [b, d], item_vectors [N, d]. A user with fewer not-positives draws from them all.
    Raises ValueError for a user who has every item. Scores are b x N floats: give the rows in batches.
    """
    require_negatives(users, positives)
    scores = user_vectors @ item_vectors.T
    scores[positives.contains(users[:, None], np.arange(positives.num_items)[None, :])] = -np.inf
    top = min(top, positives.num_items)
    best = np.argpartition(-scores, top - 1, axis=1)[:, :top]
    best = np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1), 1)
    kept = np.minimum(top, positives.num_items - positives.counts[users])[:, None]  # positives stand last
    drawn = (rng.random((len(users), count)) * kept).astype(np.int64)
    return Hard(np.take_along_axis(best, drawn, 1), np.broadcast_to(-np.log(kept), drawn.shape))


def from_pool(
    pool: NDArray[np.int64],
    user_vectors: NDArray[np.float32],
    item_vectors: NDArray[np.float32],
    count: int,
    temperature: float,
    rng: np.random.Generator,
    log_proposal: NDArray[np.float32] | None = None,
) -> Hard:
    """Independent draws from each row's pool by the softmax of score / temperature.

    pool int64 [b, m]: of `models.sampling.negatives`, so never a positive.  user_vectors [b, d], item_vectors [N, d].
    log_proposal: float32 [N], of the proposal the pool was drawn from; subtracted, so that with a growing pool the
    draws come to be of the model's softmax over the user's not-positives (importance resampling, Chen et al. 2022);
    None leaves the proposal in, as a factor. The probability is that of the drawn place, given the pool.
    """
    logits = np.einsum("bd,bmd->bm", user_vectors, item_vectors[pool]).astype(np.float64) / temperature
    if log_proposal is not None:
        logits -= log_proposal[pool]
    logits -= logits.max(1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    cumulative = np.cumsum(np.exp(logits), axis=1)
    row = np.arange(len(pool))[:, None]  # one ascending line of all rows, so that one search finds all places
    ends, wanted = cumulative / cumulative[:, -1:] + row, rng.random((len(pool), count)) + row
    place = np.searchsorted(ends.ravel(), wanted, side="right") - row * pool.shape[1]
    place = np.minimum(place, pool.shape[1] - 1)
    return Hard(np.take_along_axis(pool, place, 1), np.take_along_axis(logits, place, 1))
