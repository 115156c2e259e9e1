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
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

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
