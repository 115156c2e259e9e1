"""A user's state taken apart into plain Python values, and assembled from them again.

`apply`, one event more, is so plain that it is the reference for the store's script and for `state_build`."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from models.contract.ids import hash_id, hash_name
from models.contract.state import (
    COUNTER,
    COUNTER_DAYS,
    DAY_MS,
    MAX_COUNT,
    Limits,
    UserState,
    check_times,
    split_ids,
)

Entry = tuple[int, int, int, bytes]  # time_ms, item hash, type hash, item id


def empty() -> UserState:
    return assemble([], {}, False, {}, b"")


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
