"""How a state that `shortlist load` made joins one that is in the store already."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from models.contract.state import DAY_MS, Limits, UserState, pack_features
from models.contract.state_parts import Entry, apply, assemble, entries, newest_days, newest_seen, read_counters


class LiveEvent(NamedTuple):
    """An event that came in while serving.  seen: its type counts as seeing the item."""

    time_ms: int
    item_id: str
    event_type: str
    seen: bool


def merge(
    stored: UserState, loaded: UserState, end_ms: int, limits: Limits, live: Iterable[LiveEvent] = ()
) -> UserState:
    """The live events of the stored state, joined to the loaded data.

    A stored state without a load tag holds live events only, and all are kept. In one that an earlier load wrote, live
    and loaded events are one: what is later than that load's data is live.
    end_ms: all events of that earlier load are earlier.  live: the user's events that are still in the stream, which
    tell the live ones before end_ms.
    An event that is in both histories (time, item and type equal) counts once. Of a feature the newest value stays.
    """
    kept = stored if stored.load_tag == 0 else _live_part(stored, end_ms, limits, live)
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


def _live_part(state: UserState, end_ms: int, limits: Limits, live: Iterable[LiveEvent]) -> UserState:
    part = _since(state, end_ms)
    for event in live:
        if event.time_ms < end_ms:
            part = apply(part, **event._asdict(), limits=limits)
    return part


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
    # what was evicted is older than all that is left, so it is of this part only when nothing older is left
    evicted = state.seen_evicted and len(last_seen) == len(state.seen_hashes)
    features = {name: known for name, known in state.features.items() if known[1] >= start_ms}
    return assemble(history, last_seen, evicted, counts, pack_features(features))


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
