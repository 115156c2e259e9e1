"""What `GET /users/{user_id}` returns of the feature store, in JSON types."""

from collections.abc import Iterable
from typing import Any

import orjson

from app.feature_store.connection import Client
from models.contract.ids import hash_name
from models.contract.state import DAY_MS, UserState, empty, read_counters

PAGE = 500


def describe_state(state: UserState | None, event_types: Iterable[str]) -> dict[str, Any]:
    """History (oldest first), seen items, counts by day and features.

    event_types: names that the state's hashes may stand for; another type is shown as its hash, e.g. "#0a1b2c3d".
    """
    names = {hash_name(name): name for name in event_types}

    def type_name(type_hash: int) -> str:
        return names.get(type_hash, f"#{type_hash:08x}")

    state = state or empty()
    history = zip(state.history_ids, state.history_types.tolist(), state.history_times_ms.tolist(), strict=True)
    return {
        "history": [{"item_id": i, "event_type": type_name(t), "time_ms": ms} for i, t, ms in history],
        "seen": {"count": len(state.seen_hashes), "evicted": state.seen_evicted},
        "counts": [
            {"event_type": type_name(type_hash), "day_start_ms": day * DAY_MS if day else None, "count": count}
            for (day, type_hash), count in read_counters(state).items()
        ],
        "features": {name: {"value": value, "time_ms": ms} for name, (value, ms) in state.features.items()},
    }


async def read_events(client: Client, stream: str, user_id: str) -> list[dict[str, Any]]:
    """The user's events that are still in the stream, oldest first; read page by page."""
    events: list[dict[str, Any]] = []
    start = "-"
    while start:
        page: Any = await client.xrange(stream, start, "+", PAGE)
        parsed = (orjson.loads(fields[b"event"]) for _, fields in page)
        events += [event for event in parsed if event["user"] == user_id]
        start = "(" + page[-1][0].decode() if len(page) == PAGE else ""
    return events
