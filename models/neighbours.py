"""Item-to-item similarity from who interacted with what, in NumPy alone."""

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import Interactions

NUM_NEIGHBOURS = 50
SHRINKAGE = 5.0
PER_USER = 300
_BLOCK_PAIRS = 2**22  # pairs of items counted at once, about 200 MB
_DENSE = 4  # cells a pair up to which counting in a matrix beats sorting


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
    newest distinct items, which bounds the work: it grows with the sum over users of their squared number of items.
    """
    users, items = _newest_pairs(past, num_items, per_user)
    by_user = np.searchsorted(users, np.arange(num_users + 1))
    order = np.argsort(items, kind="stable")
    by_item = np.searchsorted(items[order], np.arange(num_items + 1))
    norms = np.sqrt(np.maximum(np.diff(by_item), 1).astype(np.float32))
    neighbours = np.full((num_items, limit), -1, np.int32)
    similarity = np.zeros((num_items, limit), np.float32)
    owners = users[order]
    pairs = np.concatenate([[0], np.cumsum(np.diff(by_user)[owners])])[by_item]  # [N + 1], counted up to each item
    first = 0
    while first < num_items:
        last = max(first + 1, int(np.searchsorted(pairs, pairs[first] + _BLOCK_PAIRS, side="right")) - 1)
        own = owners[by_item[first] : by_item[last]]
        starts = np.repeat(np.arange(last - first), np.diff(by_item[first : last + 1])) * num_items
        met = _add_ranges(starts, items, by_user[own], by_user[own + 1])
        cells, counts = _counted(met, (last - first) * num_items)
        rows, others = np.divmod(cells, num_items)
        together = counts.astype(np.float32)
        cosine = together / (norms[first + rows] * norms[others])
        if shrinkage:
            cosine *= together / (together + np.float32(shrinkage))
        _keep_best(first + rows, others, cosine, neighbours, similarity)
        first = last
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


def _counted(values: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct values, ascending, and how often each occurs; all are in [0, size)."""
    if size <= _DENSE * len(values):
        counts = np.bincount(values, minlength=size)
        found = np.flatnonzero(counts)
        return found, counts[found]
    values.sort()
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    return values[starts], np.diff(starts, append=len(values))


def _keep_best(
    rows: NDArray[np.int64],
    others: NDArray[np.int64],
    cosine: NDArray[np.float32],
    neighbours: NDArray[np.int32],
    similarity: NDArray[np.float32],
) -> None:
    """Write the best of each row into the two tables, but an item itself.  rows: ascending."""
    limit = neighbours.shape[1]
    wanted = rows != others
    ends = np.flatnonzero(np.diff(rows, append=-1)) + 1
    for begin, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        if end - begin > limit + 1:  # of equal ones at the border all stay until they are ordered below
            part = np.where(wanted[begin:end], cosine[begin:end], -np.inf)
            wanted[begin:end] &= part >= np.partition(part, -limit)[-limit]
    rows, others, cosine = rows[wanted], others[wanted], cosine[wanted]
    order = np.lexsort((others, -cosine, rows))
    rows, others, cosine = rows[order], others[order], cosine[order]
    ranks = np.arange(len(rows)) - np.searchsorted(rows, rows)
    kept = ranks < limit
    neighbours[rows[kept], ranks[kept]] = others[kept]
    similarity[rows[kept], ranks[kept]] = cosine[kept]
