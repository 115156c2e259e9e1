"""Metrics of recommended lists, one value a user, so that intervals over users can be formed from them.

Everywhere: recommended int64 [U, K], item indices best first, -1 where a list is shorter than K. Targets are the rows
of a CSR: user u's distinct relevant items are target_items[target_offsets[u]:target_offsets[u + 1]], at least one.
Relevance is binary. Values are float64 [U].
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Hits = NDArray[np.bool_]


def find_hits(
    recommended: NDArray[np.int64], target_offsets: NDArray[np.int64], target_items: NDArray[np.int64]
) -> Hits:
    """Which recommended items are targets, bool [U, K].

    Raises ValueError for a list that names an item twice (its second hit would count again), for a row count that
    differs from the targets', and for a user without targets (recall is undefined there).
    """
    num_targets = count_targets(target_offsets)
    if recommended.ndim != 2 or len(recommended) != len(num_targets):
        raise ValueError(f"recommended has shape {recommended.shape}; expected [{len(num_targets)}, k], a row a user")
    _refuse_duplicates(recommended)
    if recommended.size == 0:
        return np.zeros(recommended.shape, np.bool_)
    stride = 1 + max(int(recommended.max(initial=0)), int(target_items.max(initial=0)))
    rows = np.arange(len(recommended), dtype=np.int64)
    wanted = np.repeat(rows, num_targets) * stride + target_items
    offered = rows[:, None] * stride + recommended
    # kind="sort": the default may allocate a table over the whole range of keys
    return np.isin(offered, wanted, kind="sort") & (recommended >= 0)


def count_targets(target_offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of targets of each user, int64 [U]; ValueError if a user has none."""
    num_targets = np.diff(target_offsets)
    if (num_targets < 1).any():
        raise ValueError(f"user row {int(np.argmin(num_targets))} has no target; leave users without targets out")
    return num_targets


def recall(hits: Hits, num_targets: NDArray[np.int64], k: int) -> Values:
    """Share of the user's targets that are among the first k."""
    return np.asarray(hits[:, :k].sum(axis=1) / num_targets, np.float64)


def precision(hits: Hits, k: int) -> Values:
    """Share of the k places that hold a target; a list shorter than k is not excused."""
    return np.asarray(hits[:, :k].sum(axis=1) / k, np.float64)


def ndcg(hits: Hits, num_targets: NDArray[np.int64], k: int) -> Values:
    """DCG with discount 1 / log2(rank + 1), over that of a perfect list of min(k, |targets|) hits."""
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.minimum(num_targets, k) - 1]
    width = min(k, hits.shape[1])
    # a sum along the row, not a matrix product: the same for a user alone and among others
    return np.asarray((hits[:, :width] * discounts[:width]).sum(axis=1) / ideal, np.float64)


def mrr(hits: Hits, k: int) -> Values:
    """1 / rank of the first target among the first k, 0 if there is none."""
    top = hits[:, :k]
    ranks = np.argmax(top, axis=1) + 1.0 if top.shape[1] else np.ones(len(top))
    return np.asarray(top.any(axis=1) / ranks, np.float64)


def hit_rate(hits: Hits, k: int) -> Values:
    """1 if a target is among the first k, else 0."""
    return np.asarray(hits[:, :k].any(axis=1), np.float64)


def coverage(recommended: NDArray[np.int64], num_items: int, k: int) -> float:
    """Share of the catalogue that stands among the first k of at least one user."""
    top = recommended[:, :k]
    return len(np.unique(top[top >= 0])) / num_items


def recall_ceiling(num_targets: NDArray[np.int64], k: int) -> float:
    """Recall@k of a perfect list: the mean of min(k, |targets|) / |targets|."""
    return float(np.mean(np.minimum(num_targets, k) / num_targets))


def list_metrics(hits: Hits, num_targets: NDArray[np.int64], ks: Sequence[int]) -> dict[str, Values]:
    """Every per-user metric at every k, under the name `metric@k`."""
    values: dict[str, Values] = {}
    for k in ks:
        values[f"ndcg@{k}"] = ndcg(hits, num_targets, k)
        values[f"recall@{k}"] = recall(hits, num_targets, k)
        values[f"precision@{k}"] = precision(hits, k)
        values[f"mrr@{k}"] = mrr(hits, k)
        values[f"hit_rate@{k}"] = hit_rate(hits, k)
    return values


def _refuse_duplicates(recommended: NDArray[np.int64]) -> None:
    ordered = np.sort(recommended, axis=1)
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    if twice.any():
        raise ValueError(f"the list of user row {int(np.argmax(twice))} names an item twice; a list holds an item once")
