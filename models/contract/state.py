"""The packed state of one user: what the feature store keeps and one GET brings back.

Every field follows from the multiset of the user's events, so the order in which events arrive never matters. The
same format is written by `pack` (used by `shortlist load`) and by the store's script, byte for byte.

Format, little-endian; n history entries, m seen items, c counters:

    header (32 bytes)   u8 version, u8 flags (1: a seen item was evicted), u16 zero, u32 n, u32 m, u32 c,
                        u32 bytes of ids, u32 bytes of features, u64 load tag
    i64 [n] times, ms   u64 [n] item hashes   u64 [m] seen hashes   u32 [m] seen times, s   u32 [n] type hashes
    counters [c]        u32 type hash, i32 UTC day, u32 count; sorted by (day, type), day 0 = since ever
    u16 [n] id lengths  the item ids, UTF-8, one after the other    features as JSON {name: [value, time_ms]}
"""

import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from models.contract.columns import BytesColumn
from models.contract.ids import hash_id, hash_name
from models.contract.schema import Schema

STATE_VERSION = 1
DAY_MS = 86_400_000
COUNTER_DAYS = 32
MIN_TIME_MS = DAY_MS  # exclusive: day 0 is the counter since ever
MAX_TIME_MS = 2**32 * 1000  # exclusive: seen times are uint32 seconds
MAX_COUNT = 2**32 - 1
EVICTED = 1

COUNTER = np.dtype([("type", "<u4"), ("day", "<i4"), ("count", "<u4")])
HEADER = struct.Struct("<BBHIIIIIQ")

Features = Mapping[str, tuple[str | float, int]]
Entry = tuple[int, int, int, bytes]  # time_ms, item hash, type hash, item id


class Limits(NamedTuple):
    """How many of the newest history entries and seen items a state keeps."""

    history: int
    seen: int

    @classmethod
    def of(cls, schema: Schema) -> "Limits":
        return cls(schema.history_limit, schema.seen_limit)


@dataclass(frozen=True, slots=True, eq=False)
class UserState:
    """A user's history, seen items, counters and static features. Compare two states by `pack`.

    history_*: n entries sorted by (time, hash, type), oldest first.  times int64 ms, hashes uint64 (ids.hash_id),
        types uint32 (ids.hash_name of the event type), id_lengths uint16 (bytes), id_data the ids joined.
    seen_hashes: uint64 [m] sorted.  seen_times_s: uint32 [m], last time each was seen.  seen_evicted: more than the
        limit were seen, the oldest were dropped.
    counters: COUNTER [c], one for each (type, UTC day) of the 32 days up to the newest event, and day 0 since ever.
    features_json: JSON, parsed by `features`.  load_tag: which `shortlist load` wrote this, 0 for none.
    """

    history_times_ms: NDArray[np.int64]
    history_hashes: NDArray[np.uint64]
    history_types: NDArray[np.uint32]
    history_id_lengths: NDArray[np.uint16]
    history_id_data: bytes
    seen_hashes: NDArray[np.uint64]
    seen_times_s: NDArray[np.uint32]
    seen_evicted: bool
    counters: NDArray[np.void]
    features_json: bytes
    load_tag: int

    @property
    def history_ids(self) -> list[str]:
        """Item ids of the history, oldest first; decoded on each call, since serving needs only the hashes."""
        return [item_id.decode() for item_id in split_ids(self)]

    @property
    def features(self) -> dict[str, tuple[str | float, int]]:
        """Static features: name -> (value, the time in ms at which it was known)."""
        parsed = orjson.loads(self.features_json) if self.features_json else {}
        return {name: (value, time_ms) for name, (value, time_ms) in parsed.items()}


def empty() -> UserState:
    return assemble([], {}, False, {}, b"")


def pack(state: UserState) -> bytes:
    """The bytes that the feature store keeps."""
    header = HEADER.pack(
        STATE_VERSION,
        EVICTED if state.seen_evicted else 0,
        0,
        len(state.history_hashes),
        len(state.seen_hashes),
        len(state.counters),
        len(state.history_id_data),
        len(state.features_json),
        state.load_tag,
    )
    arrays = (
        state.history_times_ms,
        state.history_hashes,
        state.seen_hashes,
        state.seen_times_s,
        state.history_types,
        state.counters,
        state.history_id_lengths,
    )
    return b"".join([header, *(array.tobytes() for array in arrays), state.history_id_data, state.features_json])


def unpack(raw: bytes) -> UserState | None:
    """Read a packed state without copying the arrays; None for an unknown version or a damaged value."""
    if len(raw) < HEADER.size or raw[0] != STATE_VERSION:
        return None
    _, flags, _, n, m, c, id_bytes, feature_bytes, load_tag = HEADER.unpack_from(raw)
    hashes = HEADER.size + 8 * n
    seen = hashes + 8 * n
    seen_times = seen + 8 * m
    types = seen_times + 4 * m
    counters = types + 4 * n
    lengths = counters + COUNTER.itemsize * c
    ids = lengths + 2 * n
    features = ids + id_bytes
    if len(raw) != features + feature_bytes:
        return None
    return UserState(
        np.frombuffer(raw, np.int64, n, HEADER.size),
        np.frombuffer(raw, np.uint64, n, hashes),
        np.frombuffer(raw, np.uint32, n, types),
        np.frombuffer(raw, np.uint16, n, lengths),
        raw[ids:features],
        np.frombuffer(raw, np.uint64, m, seen),
        np.frombuffer(raw, np.uint32, m, seen_times),
        bool(flags & EVICTED),
        np.frombuffer(raw, COUNTER, c, counters),
        raw[features:],
        load_tag,
    )


def apply(state: UserState, *, time_ms: int, item_id: str, event_type: str, seen: bool, limits: Limits) -> UserState:
    """The state after one more event: the reference that the store's script must equal byte for byte.

    seen: the event's type counts as seeing the item.  Raises ValueError for a time that the format cannot hold.
    """
    check_times(time_ms, time_ms)
    item_hash, type_hash, day = hash_id(item_id), hash_name(event_type), time_ms // DAY_MS
    history = sorted([*entries(state), (time_ms, item_hash, type_hash, item_id.encode())], key=lambda e: e[:3])
    last_seen = dict(zip(state.seen_hashes.tolist(), state.seen_times_s.tolist(), strict=True))
    if seen:
        last_seen[item_hash] = max(last_seen.get(item_hash, 0), time_ms // 1000)
    counts = read_counters(state)
    counts[0, type_hash] += 1
    counts[day, type_hash] += 1
    return assemble(
        history[-limits.history :],
        newest_seen(last_seen, limits.seen),
        state.seen_evicted or len(last_seen) > limits.seen,
        newest_days(counts),
        state.features_json,
        state.load_tag,
    )


def build(
    times_ms: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    types: NDArray[np.uint32],
    item_ids: BytesColumn,
    id_index: NDArray[np.int64],
    seen_mask: NDArray[np.bool_],
    features: Features,
    limits: Limits,
    load_tag: int = 0,
) -> UserState:
    """The state of one user's whole log of M interactions, in any order: what `apply` would give one by one.

    times_ms: int64 [M].  hashes: uint64 [M], item hashes.  types: uint32 [M], type hashes.  id_index: int64 [M], the
    position of each interaction's item id in item_ids.  seen_mask: bool [M], the interaction counts as seeing.
    """
    if len(times_ms):
        check_times(int(times_ms.min()), int(times_ms.max()))
    newest = np.lexsort((types, hashes, times_ms))[-limits.history :]
    ids = [item_ids[index] for index in id_index[newest].tolist()]
    seen_hashes, seen_times, evicted = _build_seen(hashes[seen_mask], times_ms[seen_mask] // 1000, limits.seen)
    return UserState(
        times_ms[newest].astype(np.int64),
        hashes[newest].astype(np.uint64),
        types[newest].astype(np.uint32),
        np.array([len(item_id) for item_id in ids], np.uint16),
        b"".join(ids),
        seen_hashes,
        seen_times,
        evicted,
        _build_counters(times_ms // DAY_MS, types),
        pack_features(features),
        load_tag,
    )


def pack_features(features: Features) -> bytes:
    """JSON with sorted names; no bytes at all when there are no features."""
    return orjson.dumps(dict(features), option=orjson.OPT_SORT_KEYS) if features else b""


def check_times(first_ms: int, last_ms: int) -> None:
    if first_ms <= MIN_TIME_MS or last_ms >= MAX_TIME_MS:
        wrong = first_ms if first_ms <= MIN_TIME_MS else last_ms
        raise ValueError(f"time {wrong} ms is outside ({MIN_TIME_MS}, {MAX_TIME_MS}): is it in milliseconds?")


def split_ids(state: UserState) -> list[bytes]:
    ends = accumulate(state.history_id_lengths.tolist(), initial=0)
    return [state.history_id_data[start:end] for start, end in pairwise(ends)]


def entries(state: UserState) -> list[Entry]:
    """The history as (time_ms, item hash, type hash, item id) tuples, oldest first."""
    columns = (state.history_times_ms, state.history_hashes, state.history_types)
    return list(zip(*(column.tolist() for column in columns), split_ids(state), strict=True))


def read_counters(state: UserState) -> Counter[tuple[int, int]]:
    """Counts by (UTC day, type hash); day 0 is the count since ever."""
    rows = zip(*(state.counters[field].tolist() for field in ("day", "type", "count")), strict=True)
    return Counter({(day, type_hash): count for day, type_hash, count in rows})


def newest_days(counts: Mapping[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    """The counts of the 32 days up to the newest, and of day 0."""
    oldest = max((day for day, _ in counts), default=0) - COUNTER_DAYS + 1
    return {key: count for key, count in counts.items() if key[0] == 0 or key[0] >= oldest}


def newest_seen(last_seen: Mapping[int, int], limit: int) -> dict[int, int]:
    """The `limit` items seen last; of equal times the greater hashes."""
    return dict(sorted(last_seen.items(), key=lambda item: (item[1], item[0]))[-limit:])


def assemble(
    history: Iterable[Entry],
    last_seen: Mapping[int, int],
    seen_evicted: bool,
    counts: Mapping[tuple[int, int], int],
    features_json: bytes,
    load_tag: int = 0,
) -> UserState:
    """Sort the parts into arrays.  history: sorted.  last_seen: hash -> s.  counts: (day, type hash) -> count."""
    columns = list(zip(*history, strict=True)) or [(), (), (), ()]
    seen = sorted(last_seen.items())
    rows = [(type_hash, day, min(count, MAX_COUNT)) for (day, type_hash), count in sorted(counts.items())]
    return UserState(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.uint64),
        np.array(columns[2], np.uint32),
        np.array([len(item_id) for item_id in columns[3]], np.uint16),
        b"".join(columns[3]),
        np.array([item_hash for item_hash, _ in seen], np.uint64),
        np.array([time_s for _, time_s in seen], np.uint32),
        seen_evicted,
        np.array(rows, COUNTER),
        features_json,
        load_tag,
    )


def _build_seen(
    hashes: NDArray[np.uint64], times_s: NDArray[np.int64], limit: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint32], bool]:
    order = np.lexsort((times_s, hashes))
    hashes, times_s = hashes[order], times_s[order]
    last = np.append(hashes[1:] != hashes[:-1], True)[: len(hashes)]
    hashes, times_s = hashes[last], times_s[last]
    kept = np.sort(np.lexsort((hashes, times_s))[-limit:])
    return hashes[kept].astype(np.uint64), times_s[kept].astype(np.uint32), len(hashes) > limit


def _build_counters(days: NDArray[np.int64], types: NDArray[np.uint32]) -> NDArray[np.void]:
    recent = days > (int(days.max()) if len(days) else 0) - COUNTER_DAYS
    keys = np.concatenate([np.zeros(len(days), np.int64), days[recent]]) << 32
    keys |= np.concatenate([types, types[recent]]).astype(np.int64)
    unique, counts = np.unique(keys, return_counts=True)
    records = np.empty(len(unique), COUNTER)
    records["day"], records["type"], records["count"] = unique >> 32, unique & MAX_COUNT, counts
    return records
