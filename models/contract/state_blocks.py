"""Many users' packed states at once, for bulk loading: what `pack(build(...))` gives each, in a sixth of the time."""

from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Interactions:
    """M interactions of B users, each user's next to each other, in any order.

    sizes: int64 [B], how many each user has.  times_ms: int64 [M].  hashes: uint64 [M], item hashes.  types: uint32
    [M], type hashes.  id_index: int64 [M], the position of each one's item id.  seen: bool [M], it counts as seeing.
    """

    sizes: NDArray[np.int64]
    times_ms: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    types: NDArray[np.uint32]
    id_index: NDArray[np.int64]
    seen: NDArray[np.bool_]


def pack_block(
    found: Interactions, item_ids: BytesColumn, features: list[Features], limits: Limits, load_tag: int = 0
) -> list[bytes]:
    """The packed state of each user.  features: of each.  Raises ValueError for times outside what a state holds."""
    if len(found.times_ms):
        check_times(int(found.times_ms.min()), int(found.times_ms.max()))
    users = np.repeat(np.arange(len(found.sizes)), found.sizes)
    newest = _newest(np.lexsort((found.types, found.hashes, found.times_ms, users)), found.sizes, limits.history)
    lengths, data = _ids(item_ids, found.id_index[newest])
    seen_users, seen_hashes, seen_times, evicted = _seen(users, found, limits.seen)
    counter_users, counters = _counters(users, found)
    num = len(found.sizes)
    kept = np.minimum(found.sizes, limits.history)
    ends = np.cumsum(kept)
    id_ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])[ends]
    columns = [
        _Column(found.times_ms[newest], kept),
        _Column(found.hashes[newest], kept),
        _Column(seen_hashes, np.bincount(seen_users, minlength=num)),
        _Column(seen_times, np.bincount(seen_users, minlength=num)),
        _Column(found.types[newest], kept),
        _Column(counters, np.bincount(counter_users, minlength=num)),
        _Column(lengths, kept),
        _Column(data, np.diff(id_ends, prepend=0)),
    ]
    packed = []
    for user, known in enumerate(features):
        parts = [column.of(user) for column in columns]
        features_json = pack_features(known)
        n, m, c, size = (len(parts[place]) // width for place, width in ((1, 8), (2, 8), (5, COUNTER.itemsize), (7, 1)))
        flags = EVICTED if evicted[user] else 0
        header = HEADER.pack(STATE_VERSION, flags, 0, n, m, c, size, len(features_json), load_tag)
        packed.append(b"".join([header, *parts, features_json]))
    return packed


class _Column:
    """The bytes of one array of all users, cut into those of each.  sizes: how many of its rows each user has."""

    def __init__(self, rows: NDArray[Any], sizes: NDArray[Any]) -> None:
        self._bytes = rows.tobytes()
        self._bounds = (np.concatenate([[0], np.cumsum(sizes)]) * rows.itemsize).tolist()

    def of(self, user: int) -> bytes:
        return self._bytes[self._bounds[user] : self._bounds[user + 1]]


def _newest(order: NDArray[np.int64], sizes: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Of rows that stand sorted, user by user, the last `limit` of each user."""
    left = np.repeat(np.cumsum(sizes), sizes) - np.arange(len(order))  # 1 is a user's last
    return order[left <= limit]


def _ids(item_ids: BytesColumn, places: NDArray[np.int64]) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Lengths of the ids at these places, and their bytes, one after the other."""
    if item_ids.codes is not None:
        places = item_ids.codes[places].astype(np.int64)
    starts = item_ids.offsets[places].astype(np.int64)
    lengths = item_ids.offsets[places + 1].astype(np.int64) - starts
    before = np.cumsum(lengths) - lengths
    cells = np.repeat(starts - before, lengths) + np.arange(lengths.sum())
    return lengths.astype(np.uint16), np.asarray(item_ids.data[cells])


def _seen(
    users: NDArray[np.int64], found: Interactions, limit: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint32], NDArray[np.bool_]]:
    """The `limit` items that each user saw last, by user and hash: user, hash, last time in s; and who saw more [B]."""
    owner, hashes, times_s = users[found.seen], found.hashes[found.seen], found.times_ms[found.seen] // 1000
    order = np.lexsort((times_s, hashes, owner))
    owner, hashes, times_s = owner[order], hashes[order], times_s[order]
    last = np.append((hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1]), True)[: len(owner)]
    owner, hashes, times_s = owner[last], hashes[last], times_s[last]
    sizes = np.bincount(owner, minlength=len(found.sizes))
    if (sizes > limit).any():
        kept = np.sort(_newest(np.lexsort((hashes, times_s, owner)), sizes, limit))
        owner, hashes, times_s = owner[kept], hashes[kept], times_s[kept]
    return owner, hashes, times_s.astype(np.uint32), sizes > limit


def _counters(users: NDArray[np.int64], found: Interactions) -> tuple[NDArray[np.int64], NDArray[np.void]]:
    """Each user's counters, by user, day and type: user, COUNTER."""
    days = found.times_ms // DAY_MS
    newest = np.zeros(len(found.sizes), np.int64)
    np.maximum.at(newest, users, days)
    recent = days > newest[users] - COUNTER_DAYS
    types = found.types.astype(np.int64)
    owner = np.concatenate([users, users[recent]])
    keys = np.concatenate([types, days[recent] << 32 | types[recent]])
    order = np.lexsort((keys, owner))
    owner, keys = owner[order], keys[order]
    first = np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]) | (owner[1:] != owner[:-1]))[: len(owner)])
    rows = np.empty(len(first), COUNTER)
    rows["day"], rows["type"] = keys[first] >> 32, keys[first] & 0xFFFFFFFF
    rows["count"] = np.diff(first, append=len(owner))
    return owner[first], rows
