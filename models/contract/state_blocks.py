"""Many users' packed states at once, for bulk loading: in a fraction of the time that `pack(build(...))` takes each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.contract.columns import BytesColumn
from models.contract.state import (
    COUNTER,
    COUNTER_DAYS,
    DAY_MS,
    EVICTED,
    HEADER,
    STATE_VERSION,
    Features,
    Limits,
    check_times,
    pack_features,
)

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class Names(NamedTuple):
    """What the indices in interactions stand for.

    item_ids, item_hashes: uint64 [N], ascending.  type_hashes: uint32 [T] of the event types.  type_seen: bool [T],
    the type counts as seeing the item.
    """

    item_ids: BytesColumn
    item_hashes: NDArray[np.uint64]
    type_hashes: NDArray[np.uint32]
    type_seen: Bools


@dataclass(frozen=True, slots=True)
class Interactions:
    """M interactions of B users, each user's next to each other, sorted by time and then by item.

    sizes: int64 [B], how many each user has.  times_ms: int64 [M].  items, event_types: integers [M], indices.
    """

    sizes: Ints
    times_ms: Ints
    items: NDArray[Any]
    event_types: NDArray[Any]


def pack_block(
    found: Interactions, names: Names, features: Sequence[Features], limits: Limits, load_tag: int = 0
) -> list[bytes]:
    """The packed state of each user.  features: of each.  Raises ValueError for times outside what a state holds."""
    if len(found.times_ms):
        check_times(int(found.times_ms.min()), int(found.times_ms.max()))
    users = np.repeat(np.arange(len(found.sizes)), found.sizes)
    types = names.type_hashes[found.event_types]
    newest = _newest(found.sizes, limits.history)
    kept = np.minimum(found.sizes, limits.history)
    items = found.items[newest]
    id_lengths, id_data = _ids(names.item_ids, items)
    id_ends = np.concatenate([[0], np.cumsum(id_lengths, dtype=np.int64)])[np.cumsum(kept)]
    id_sizes = np.diff(id_ends, prepend=0)
    seen_sizes, seen_items, seen_times, evicted = _seen(users, found, names.type_seen, limits.seen)
    counter_sizes, counters = _counters(users, found, types)
    columns = [
        _cut(found.times_ms[newest], kept),
        _cut(names.item_hashes[items], kept),
        _cut(names.item_hashes[seen_items], seen_sizes),
        _cut(seen_times, seen_sizes),
        _cut(_history_types(users, found, types)[newest], kept),
        _cut(counters, counter_sizes),
        _cut(id_lengths, kept),
        _cut(id_data, id_sizes),
    ]
    features_json = [pack_features(known) for known in features]
    sizes = zip(*(each.tolist() for each in (evicted, kept, seen_sizes, counter_sizes, id_sizes)), strict=True)
    headers = [
        HEADER.pack(STATE_VERSION, EVICTED if more else 0, 0, n, m, c, id_bytes, len(known), load_tag)
        for (more, n, m, c, id_bytes), known in zip(sizes, features_json, strict=True)
    ]
    return [b"".join(parts) for parts in zip(headers, *columns, features_json, strict=True)]


def _cut(rows: NDArray[Any], sizes: Ints) -> Iterator[bytes]:
    """The bytes of one array of all users, those of each in turn.  sizes: how many of its rows each user has."""
    data = rows.tobytes()
    bounds = np.concatenate([[0], np.cumsum(sizes)]) * rows.itemsize
    return (data[start:end] for start, end in pairwise(bounds.tolist()))


def _order(*keys: NDArray[Any]) -> Ints:
    """A stable order by these keys, each below 2**32, the first decides first.

    In words of 16 bits: NumPy sorts those by their digits, ten times as fast as it compares larger ones.
    """
    words = [word.astype(np.uint16) for key in reversed(keys) for word in (key, key >> 16)]
    return np.lexsort(words)


def _newest(sizes: Ints, limit: int) -> Ints | slice:
    """Where the last `limit` rows of each user are."""
    if not (sizes > limit).any():
        return slice(None)
    left = np.repeat(np.cumsum(sizes), sizes) - np.arange(sizes.sum())  # 1 is a user's last
    return np.flatnonzero(left <= limit)


def _ids(item_ids: BytesColumn, places: NDArray[Any]) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Lengths of the ids at these places, and their bytes, one after the other."""
    if item_ids.codes is not None:
        places = item_ids.codes[places]
    starts = item_ids.offsets[places].astype(np.int64)
    lengths = item_ids.offsets[places.astype(np.int64) + 1].astype(np.int64) - starts
    ends = np.cumsum(lengths)
    data = np.empty(lengths.sum(), np.uint8)
    for length in np.flatnonzero(np.bincount(lengths)).tolist():
        if length:  # all ids of one length at once, each an element of so many bytes
            these = lengths == length
            _windows(data, length)[ends[these] - length] = _windows(item_ids.data, length)[starts[these]]
    return lengths.astype(np.uint16), data


def _windows(data: NDArray[np.uint8], length: int) -> NDArray[np.void]:
    """Element i is the `length` bytes from byte i on, without copying."""
    return np.ndarray((len(data) - length + 1,), f"V{length}", data, strides=(1,))


def _seen(
    users: Ints, found: Interactions, type_seen: Bools, limit: int
) -> tuple[Ints, NDArray[Any], NDArray[np.uint32], Bools]:
    """The `limit` items that each user saw last, by user and item: how many [B], item, last time in s; and who saw
    more [B]."""
    seen = type_seen[found.event_types]
    owner, items, times_s = users[seen], found.items[seen], found.times_ms[seen] // 1000
    order = _order(owner, items)  # stable: of one item the latest stays last
    owner, items, times_s = owner[order], items[order], times_s[order]
    last = np.append((items[1:] != items[:-1]) | (owner[1:] != owner[:-1]), True)[: len(owner)]
    owner, items, times_s = owner[last], items[last], times_s[last]
    sizes = np.bincount(owner, minlength=len(found.sizes))
    evicted = sizes > limit
    if evicted.any():
        kept = np.sort(_order(owner, times_s, items)[_newest(sizes, limit)])
        items, times_s = items[kept], times_s[kept]
    return np.minimum(sizes, limit), items, times_s.astype(np.uint32), evicted


def _history_types(users: Ints, found: Interactions, types: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """types: of each interaction; where a user met an item at one time in several ways, in ascending order."""
    again = np.ones(max(len(types) - 1, 0), np.bool_)
    for key in (users, found.times_ms, found.items):
        again &= key[1:] == key[:-1]
    if again.any():
        types = types[_order(np.concatenate([[0], np.cumsum(~again)]), types)]
    return types


def _counters(users: Ints, found: Interactions, types: NDArray[np.uint32]) -> tuple[Ints, NDArray[np.void]]:
    """Each user's counters, by user, day and type: how many [B], COUNTER."""
    days = found.times_ms // DAY_MS
    active = found.sizes[found.sizes > 0]
    recent = days > np.repeat(days[np.cumsum(active) - 1], active) - COUNTER_DAYS
    owner = np.concatenate([users, users[recent]])
    days = np.concatenate([np.zeros(len(days), np.int64), days[recent]])
    types = np.concatenate([types, types[recent]])
    order = _order(owner, days, types)
    owner, days, types = owner[order], days[order], types[order]
    another = (types[1:] != types[:-1]) | (days[1:] != days[:-1]) | (owner[1:] != owner[:-1])
    first = np.flatnonzero(np.append(True, another)[: len(owner)])
    rows = np.empty(len(first), COUNTER)
    rows["day"], rows["type"] = days[first], types[first]
    rows["count"] = np.diff(first, append=len(owner))
    return np.bincount(owner[first], minlength=len(found.sizes)), rows
