"""What `GET /users/{user_id}` returns of the feature store, in JSON types."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import numpy as np
import orjson

from models.contract.history import find_items
from models.contract.ids import hash_id, hash_name
from models.contract.items import ItemTable
from models.contract.state import DAY_MS, UserState
from models.contract.state_parts import empty, read_counters

PAGE = 500

ReadPage = Callable[[str, int], Awaitable[Any]]


def describe_state(
    state: UserState | None, event_types: Iterable[str], items: ItemTable | None, item_ids: Iterable[str]
) -> dict[str, Any]:
    """History (oldest first), seen items (the one seen longest ago first), counts by day and features.

    event_types: names that the state's hashes may stand for; another type is shown as its hash, e.g. "#0a1b2c3d".
    items, item_ids: the same for the seen items, of which the state keeps nothing but hashes.
    """
    names = {hash_name(name): name for name in event_types}

    def type_name(type_hash: int) -> str:
        return names.get(type_hash, f"#{type_hash:08x}")

    state = state or empty()
    history = zip(state.history_ids, state.history_types.tolist(), state.history_times_ms.tolist(), strict=True)
    return {
        "history": [{"item_id": i, "event_type": type_name(t), "time_ms": ms} for i, t, ms in history],
        "seen": _describe_seen(state, items, {hash_id(name): name for name in (*state.history_ids, *item_ids)}),
        "counts": [
            {"event_type": type_name(type_hash), "day_start_ms": day * DAY_MS if day else None, "count": count}
            for (day, type_hash), count in read_counters(state).items()
        ],
        "features": {name: {"value": value, "time_ms": ms} for name, (value, ms) in state.features.items()},
    }


def _describe_seen(state: UserState, items: ItemTable | None, names: Mapping[int, str]) -> dict[str, Any]:
    count = len(state.seen_hashes)
    rows = find_items(items.hashes, state.seen_hashes) if items else np.full(count, -1)
    seen = []
    for time_s, item_hash, row in sorted(
        zip(state.seen_times_s.tolist(), state.seen_hashes.tolist(), rows.tolist(), strict=True)
    ):
        name = items.item_id(row) if items and row >= 0 else names.get(item_hash)
        if name is not None:
            seen.append({"item_id": name, "time_ms": time_s * 1000})
    return {"count": count, "evicted": state.seen_evicted, "items": seen, "unnamed": count - len(seen)}


async def read_events(read_page: ReadPage, user_id: str) -> list[dict[str, Any]]:
    """The user's events that are still in the stream, oldest first.

    read_page(start, count): at most `count` entries of the stream from id `start` on, in time for one call.
    """
    events: list[dict[str, Any]] = []
    start = "-"
    while start:
        page: Any = await read_page(start, PAGE)
        parsed = (orjson.loads(fields[b"event"]) for _, fields in page)
        events += [event for event in parsed if event["user"] == user_id]
        start = "(" + page[-1][0].decode() if len(page) == PAGE else ""
    return events
