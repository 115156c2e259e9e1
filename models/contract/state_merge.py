"""How a state that `shortlist load` made joins one that is in the store already."""

from collections import Counter

from models.contract.state import (
    DAY_MS,
    Entry,
    Limits,
    UserState,
    assemble,
    entries,
    newest_days,
    newest_seen,
    pack_features,
    read_counters,
)


def merge(stored: UserState, loaded: UserState, end_ms: int, limits: Limits) -> UserState:
    """The stored events that the loaded data cannot hold, joined to the loaded data.

    end_ms: all loaded events are earlier. A stored state without a load tag holds live events only, and all are
    kept; in one that an earlier load wrote, live and loaded events are one, so its events from end_ms on are kept.
    An event that is in both histories (time, item and type equal) counts once. Of a feature the newest value stays.
    """
    kept = stored if stored.load_tag == 0 else _since(stored, end_ms)
    own, new = Counter(entries(kept)), Counter(entries(loaded))
    both = own & new
    counts = read_counters(kept) + read_counters(loaded)
    for (time_ms, _, type_hash, _), number in both.items():
        counts[0, type_hash] -= number
        counts[time_ms // DAY_MS, type_hash] -= number
    last_seen = _last_seen(kept)
    for item_hash, time_s in _last_seen(loaded).items():
        last_seen[item_hash] = max(time_s, last_seen.get(item_hash, 0))
    history = sorted((own | new).elements(), key=_order)
    return assemble(
        history[-limits.history :],
        newest_seen(last_seen, limits.seen),
        kept.seen_evicted or loaded.seen_evicted or len(last_seen) > limits.seen,
        newest_days(+counts),
        _newest_features(kept, loaded),
        loaded.load_tag,
    )


def _since(state: UserState, start_ms: int) -> UserState:
    """What is known of the events from start_ms on; of its day only those still in the history are counted."""
    history = [entry for entry in entries(state) if entry[0] >= start_ms]
    last_seen = {item: time_s for item, time_s in _last_seen(state).items() if time_s >= start_ms // 1000}
    start_day = start_ms // DAY_MS
    counts = Counter({key: count for key, count in read_counters(state).items() if key[0] > start_day})
    counts.update((start_day, entry[2]) for entry in history if entry[0] // DAY_MS == start_day)
    for (day, type_hash), count in list(counts.items()):
        if day:
            counts[0, type_hash] += count
    return assemble(history, last_seen, state.seen_evicted, counts, state.features_json)


def _last_seen(state: UserState) -> dict[int, int]:
    return dict(zip(state.seen_hashes.tolist(), state.seen_times_s.tolist(), strict=True))


def _order(entry: Entry) -> tuple[int, int, int]:
    return entry[:3]


def _newest_features(first: UserState, second: UserState) -> bytes:
    if not first.features_json:
        return second.features_json
    features = first.features
    for name, (value, time_ms) in second.features.items():
        if name not in features or features[name][1] <= time_ms:
            features[name] = (value, time_ms)
    return pack_features(features)
