"""What the contract calculates on a request's small arrays, in NumPy: the definition, and what runs uncompiled.

`compiled.pyx` has each of these functions again and gives the same bits. It leaves exp2, log1p and the sums whose order
NumPy chooses to NumPy, so a change of NumPy changes both.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DAY_MS = 86_400_000
UNKNOWN_DAYS = 365.0  # since the last time of an item that the user never had

_MIX_TIME = np.uint64(0x9E3779B97F4A7C15)
_MIX_HASH = np.uint64(0xBF58476D1CE4E5B9)


def find(hashes: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where each of the wanted stands in `hashes`, int64 [n], -1 where it does not.  hashes: uint64 [N], ascending."""
    if not len(hashes):
        return np.full(len(wanted), -1, np.int64)
    positions = np.minimum(np.searchsorted(hashes, wanted), len(hashes) - 1)
    return np.where(hashes[positions] == wanted, positions, -1)


def read(
    history_hashes: NDArray[np.uint64], times_ms: NDArray[np.int64], hashes: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions in `hashes` and times of what is known, both int64 [n], by time; equal times in pseudo-random order."""
    indices = find(hashes, history_hashes)
    known = indices >= 0
    times = times_ms[known]
    with np.errstate(over="ignore"):
        mixed = (history_hashes[known] ^ ((times % DAY_MS).astype(np.uint64) * _MIX_TIME)) * _MIX_HASH
    order = np.lexsort((mixed, times))
    return indices[known][order], times[order]


def tower_row(
    items: NDArray[np.int64], times_ms: NDArray[np.int64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The newest `length` items plus one, and the ordinals of their sets of equal time, right-aligned, [length]."""
    row, ordinals = np.zeros(length, np.int64), np.zeros(length, np.int64)
    recent = min(length, len(items))
    if recent:
        row[-recent:] = items[-recent:] + 1
        times = times_ms[-recent:]
        newer_sets = np.cumsum(np.diff(times[::-1], prepend=times[-1]) != 0)
        ordinals[-recent:] = newer_sets[::-1] + 1
    return row, ordinals


def distinct(items: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct items from the newest, which stands last, int64 [r]; the position of each one's newest interaction,
    int64 [r]; and for each interaction where its item stands among the distinct, int64 [n]."""
    _, first, inverse = np.unique(items[::-1], return_index=True, return_inverse=True)
    order = np.argsort(first)
    places = np.empty(len(first), np.int64)
    places[order] = np.arange(len(first))
    positions = len(items) - 1 - first[order]
    return items[positions], positions, places[inverse][::-1]


def recency(
    times_ms: NDArray[np.int64], now_ms: int, half_lives_days: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ages in days, float64 [n], of a time ahead of the clock zero; what is left of 1 after each half-life, [h, n]."""
    ages = np.maximum(now_ms - times_ms, 0) / DAY_MS
    return ages, np.exp2(np.stack([-ages / half_life for half_life in half_lives_days]))


def own_sums(inverse: NDArray[np.int64], weights: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Summed weights of each distinct item, float64 [size], added from the oldest interaction on."""
    return np.bincount(inverse, weights, size).astype(np.float64, copy=False)  # of nothing it makes integers


def removed_items(arrays: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The distinct numbers of all arrays that are not negative, ascending, int64 [r]."""
    items = np.unique(np.concatenate([np.empty(0, np.int64), *arrays]))
    return items[np.searchsorted(items, 0) :]


def activity(days: NDArray[np.int32], counts: NDArray[np.uint32], since: int) -> tuple[float, float]:
    """The counts of day 0, summed, and those of the days after `since`."""
    return float(counts[days == 0].sum(dtype=np.int64)), float(counts[days > since].sum(dtype=np.int64))


def among(
    items: NDArray[Any], mask: NDArray[np.bool_] | None, removed: NDArray[np.int64], marks: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which of the items, -1 for none, are inside the mask and not removed, bool [n].  Raises IndexError.

    mask: bool [N], None for all.  removed: items.  marks: bool [N], all False before and after.
    """
    if items.min(initial=0) < -1 or removed.min(initial=0) < 0 or items.max(initial=-1) >= len(marks):
        raise IndexError(f"an item is out of bounds for {len(marks)} items")
    marks[removed] = True
    found: NDArray[np.bool_] = ~marks[items] & (items >= 0)
    marks[removed] = False
    return found if mask is None else found & mask[items]


def take_rows(table: NDArray[Any], items: NDArray[np.int64]) -> NDArray[Any]:
    """The rows of these items, [n, d].  table: [N, d], contiguous.  Raises IndexError outside of it, TypeError."""
    if items.dtype.kind not in "iu":
        raise TypeError(f"rows are named by integers, not by {items.dtype}")
    if items.min(initial=0) < 0:
        raise IndexError(f"row {items.min()} is out of bounds for a table of {len(table)} rows")
    return table.take(items, axis=0)


def texts(data: NDArray[np.uint8], offsets: NDArray[Any], places: NDArray[np.int64]) -> list[str]:
    """The strings at these places, decoded from UTF-8.

    data: uint8 [total].  offsets: integers [n + 1]; string i is data[offsets[i]:offsets[i + 1]].  Raises IndexError.
    """
    if places.min(initial=0) < 0:
        raise IndexError(f"place {places.min()} is out of bounds")
    bounds = zip(offsets[places].tolist(), offsets[places + 1].tolist(), strict=True)
    return [data[start:end].tobytes().decode() for start, end in bounds]


def listed(
    items: NDArray[np.int64],
    scores: NDArray[np.float32],
    sources: NDArray[np.uint8],
    because: NDArray[np.int64],
    strings: Callable[[NDArray[np.int64]], list[str]],
    names: tuple[str, ...],
) -> list[Any]:
    """The rows of an answer, best first: dicts with item_id, rank from 1, score, source, reason.

    items, scores, sources, because: [k]; scores are rounded to six places, which is what float32 has of a score around
    1; sources are positions in `names`; because is the item that is the reason, or negative.  strings: ids of items.
    """
    if not len(items) == len(scores) == len(sources) == len(because):
        told = f"{len(items)} items, but {len(scores)} scores, {len(sources)} sources, {len(because)} reasons"
        raise ValueError(told)
    places = np.concatenate([items, because[because >= 0]])
    named = strings(places)
    if len(named) != len(places):
        raise ValueError(f"{len(places)} items, but {len(named)} ids")
    ids = iter(named)
    rounded = np.round(scores.astype(np.float64), 6).tolist()
    rows: list[Any] = [
        {"item_id": next(ids), "rank": rank, "score": score, "source": names[source], "reason": None}
        for rank, (score, source) in enumerate(zip(rounded, sources.tolist(), strict=True), 1)
    ]
    for row, cause in zip(rows, because.tolist(), strict=True):
        if cause >= 0:
            row["reason"] = {"kind": "because_of", "item_id": next(ids)}
    return rows


def neighbour_sums(
    recent: NDArray[np.int64], neighbours: NDArray[Any], similarity: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The distinct neighbours of these items, int64 [p], in no particular order, and their summed similarities [p]."""
    near = neighbours[recent].ravel()
    items, inverse = np.unique(near, return_inverse=True)
    sums = own_sums(inverse, similarity[recent].ravel(), len(items))
    return items[items >= 0].astype(np.int64), sums[items >= 0]


def best_first(
    items: NDArray[np.int64], weights: NDArray[np.float64], keep: NDArray[np.bool_], limit: int
) -> NDArray[np.int64]:
    """At most `limit` of the items to keep, int64, by descending weight, NaN last; ties by item.  items: distinct."""
    items, weights = items[keep], weights[keep]
    return items[np.lexsort((items, -weights))][:limit]


def first_named(
    sources: Sequence[tuple[int, NDArray[np.int64]]], limit: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Each item once, under the code of the first source that names it, int64 [n] and uint8 [n], at most `limit`."""
    items = np.concatenate([found for _, found in sources]) if sources else np.empty(0, np.int64)
    codes = np.concatenate([np.full(len(found), code, np.uint8) for code, found in sources] or [np.empty(0, np.uint8)])
    _, first = np.unique(items, return_index=True)
    first = np.sort(first)[:limit]
    return items[first], codes[first]


def reasons(
    items: NDArray[np.int64],
    recent: NDArray[np.int64],
    num_read: int,
    neighbours: NDArray[Any],
    similarity: NDArray[Any],
    threshold: float,
) -> NDArray[np.int64]:
    """For each item that of `recent` which is most similar, the first of equals, int64 [n]; -1 below the threshold.

    Read are the rows of the items and of the first `num_read` of `recent`. Both are distinct.
    """
    best = np.full(len(items), -1, np.int64)
    position, rank, value = _neighbours_among(items, recent, neighbours, similarity)
    their_rank, their_position, their_value = _neighbours_among(recent[:num_read], items, neighbours, similarity)
    position, rank = np.concatenate([position, their_position]), np.concatenate([rank, their_rank])
    value = np.concatenate([value, their_value])
    order = np.lexsort((rank, -value, position))
    order = order[(value[order] >= threshold) & (value[order] > 0)]
    reasoned, first = np.unique(position[order], return_index=True)
    best[reasoned] = recent[rank[order[first]]]
    return best


def _neighbours_among(
    items: NDArray[np.int64], wanted: NDArray[np.int64], neighbours: NDArray[Any], similarity: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Each of the items' neighbours that is wanted: position in `items`, position in `wanted`, similarity, all [p]."""
    if not len(wanted):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, similarity.dtype)
    near = neighbours[items].ravel()  # [n * m]
    order = np.argsort(wanted)
    ascending = wanted[order].astype(near.dtype)  # of one type, or each search would convert all of `near`
    slots = np.minimum(np.searchsorted(ascending, near), len(wanted) - 1)
    cells = np.flatnonzero(ascending[slots] == near)
    return cells // neighbours.shape[1], order[slots[cells]], similarity[items].ravel()[cells]


def cross(
    items: NDArray[np.int64],
    scores: NDArray[np.float32],
    own: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    aged: tuple[NDArray[np.float64], NDArray[np.float64]],
    num_recent: int,
    neighbours: NDArray[Any],
    similarity: NDArray[Any],
    affinity: NDArray[Any],
) -> NDArray[np.float32]:
    """The cross features of distinct items, float32 [n, 10 + a].

    own: of `distinct`.  aged: of `recency` with the two half-lives.  num_recent: of the newest distinct items, those
    whose neighbours count.  neighbours, similarity: [N, m].  affinity: codes [N, a].
    """
    finder = _Finder(items)
    columns = [
        *_retrieval_forms(scores),
        *_own_history(finder, own[0][own[2]], *aged),
        *_neighbours(finder, own[0][:num_recent], aged[1][1][own[1][:num_recent]], neighbours, similarity),
        *_affinities(items, own[0][own[2]], aged[1][1], affinity),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


class _Finder:
    """Finds where item indices stand among the candidates."""

    def __init__(self, items: NDArray[np.int64]) -> None:
        self.size = len(items)
        self._order = np.argsort(items)
        self._sorted = items[self._order]

    def positions(self, wanted: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """For each wanted item its candidate position (valid only where the mask says so), and the mask."""
        if not self.size:
            return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
        slots = np.minimum(np.searchsorted(self._sorted, wanted), self.size - 1)
        return self._order[slots], self._sorted[slots] == wanted


def _retrieval_forms(scores: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    n = len(scores)
    ranks = np.empty(n, np.float64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(n)
    values = scores.astype(np.float64)
    z = (values - values.mean()) / (values.std() + 1e-6) if n else values
    return [z, np.log1p(ranks) / np.log(200.0)]


def _own_history(
    finder: _Finder, history: NDArray[np.int64], ages: NDArray[np.float64], decayed: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Count, decayed counts, days since the last time, and how due the item is by the user's own rhythm."""
    n = finder.size
    slots, found = finder.positions(history)
    slots, own_ages = slots[found], ages[found]
    count = np.bincount(slots, minlength=n).astype(np.float64)
    sums = [np.log1p(np.bincount(slots, weights=left[found], minlength=n)) for left in decayed]
    newest, oldest = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(newest, slots, own_ages)
    np.maximum.at(oldest, slots, own_ages)
    bought = count > 0
    since = np.where(bought, newest, UNKNOWN_DAYS)
    rhythmic = (count > 1) & (oldest > newest)
    interval = np.where(rhythmic, oldest - newest, 1.0) / np.maximum(count - 1, 1)
    due = np.where(rhythmic, np.minimum(since / np.maximum(interval, 0.5), 4.0), 0.0)
    return [np.log1p(count), *sums, np.log1p(since) / 3.0, due, rhythmic.astype(np.float64)]


def _neighbours(
    finder: _Finder,
    recent: NDArray[np.int64],
    weights: NDArray[np.float64],
    neighbours: NDArray[Any],
    similarity: NDArray[Any],
) -> list[NDArray[np.float64]]:
    """Sum and maximum of the item-to-item similarities from the user's newest distinct items."""
    total, largest = np.zeros(finder.size), np.zeros(finder.size)
    slots, found = finder.positions(neighbours[recent].ravel())
    values = similarity[recent].astype(np.float64)
    np.add.at(total, slots[found], (values * weights[:, None]).ravel()[found])
    np.maximum.at(largest, slots[found], values.ravel()[found])
    return [np.log1p(total), largest]


def _affinities(
    items: NDArray[np.int64], history: NDArray[np.int64], weights: NDArray[np.float64], affinity: NDArray[Any]
) -> list[NDArray[np.float64]]:
    """For each affinity column the decayed share of the user's history that has the candidate's value; 0 is unknown."""
    total = weights.sum()
    columns = []
    for codes in affinity.T:
        own, wanted = codes[history], codes[items]
        mass = np.bincount(own, weights=weights, minlength=int(wanted.max(initial=0)) + 1)
        share = mass[wanted] / total if total > 0 else np.zeros(len(items))
        columns.append(np.where(wanted > 0, np.sqrt(share), 0.0))
    return columns
