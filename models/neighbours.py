"""Item-to-item similarity from who interacted with what, in NumPy alone."""

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import Interactions

NUM_NEIGHBOURS = 50
SHRINKAGE = 5.0
PER_USER = 300
_BLOCK_CELLS = 2**22  # cells of the similarity matrix held at once, about 100 MB with the pairs counted into them


def item_neighbours(
    past: Interactions,
    num_users: int,
    num_items: int,
    limit: int = NUM_NEIGHBOURS,
    shrinkage: float = SHRINKAGE,
    per_user: int = PER_USER,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Cosine similarity of the items' columns in the binary user-item matrix (Sarwar et al. 2001), times n / (n +
    shrinkage) for n users in common: two rare items that one user took are no evidence (Bell and Koren 2007).

    Returns neighbours int32 [N, limit], most similar first, ties by item index, -1 where there are no more, and their
    similarities float32 [N, limit], 0 there. An item is not its own neighbour. A user counts with the `per_user`
    newest distinct items, which bounds the work: it grows with the sum over users of their squared number of items,
    and with N * N.
    """
    users, items = _newest_pairs(past, num_items, per_user)
    by_user = np.searchsorted(users, np.arange(num_users + 1))
    order = np.argsort(items, kind="stable")
    by_item = np.searchsorted(items[order], np.arange(num_items + 1))
    norms = np.sqrt(np.maximum(np.diff(by_item), 1).astype(np.float32))
    neighbours = np.full((num_items, limit), -1, np.int32)
    similarity = np.zeros((num_items, limit), np.float32)
    block = max(1, _BLOCK_CELLS // max(num_items, 1))
    for first in range(0, num_items, block):
        last = min(first + block, num_items)
        rows = np.arange(last - first)
        owners = users[order[by_item[first] : by_item[last]]]
        cells = np.repeat(rows, np.diff(by_item[first : last + 1])) * num_items
        together = np.bincount(
            _add_ranges(cells, items, by_user[owners], by_user[owners + 1]), minlength=len(rows) * num_items
        ).astype(np.float32)
        together = together.reshape(len(rows), num_items)
        cosine = together / (norms[first:last, None] * norms)
        if shrinkage:
            cosine *= together / (together + np.float32(shrinkage))
        cosine[rows, np.arange(first, last)] = 0.0
        _keep_best(cosine, neighbours[first:last], similarity[first:last])
    return neighbours, similarity


def _newest_pairs(past: Interactions, num_items: int, per_user: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each user's newest distinct items: users and items, int64 [p], sorted by (user, item)."""
    pairs, place = np.unique(past.user_index.astype(np.int64) * num_items + past.item_index, return_inverse=True)
    newest = np.zeros(len(pairs), np.int64)
    np.maximum.at(newest, place, past.time_ms)
    users = pairs // num_items
    order = np.lexsort((pairs, -newest, users))
    rank = np.arange(len(order)) - np.searchsorted(users, users)  # users are sorted, and `order` keeps them so
    kept = np.sort(order[rank < per_user])
    return users[kept], pairs[kept] % num_items


def _add_ranges(
    bases: NDArray[np.int64], values: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.int64]:
    """bases[i] + values[starts[i]:ends[i]] of every i, one after another."""
    lengths = ends - starts
    positions = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    positions += np.arange(len(positions))
    sums = np.repeat(bases, lengths)
    sums += values[positions]
    return sums


def _keep_best(cosine: NDArray[np.float32], neighbours: NDArray[np.int32], similarity: NDArray[np.float32]) -> None:
    """Write each row's best positive cells into the two tables; np.argpartition would leave ties to the CPU."""
    limit = min(neighbours.shape[1], cosine.shape[1])
    border = -np.partition(-cosine, limit - 1, axis=1)[:, limit - 1 : limit]
    rows, items = np.nonzero((cosine >= border) & (cosine > 0.0))
    values = cosine[rows, items]
    order = np.lexsort((items, -values, rows))
    rows, items, values = rows[order], items[order], values[order]
    ranks = np.arange(len(rows)) - np.searchsorted(rows, rows)
    kept = ranks < limit
    neighbours[rows[kept], ranks[kept]] = items[kept]
    similarity[rows[kept], ranks[kept]] = values[kept]
