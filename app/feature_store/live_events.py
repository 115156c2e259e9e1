"""The events that are not archived yet, by user, for a load that joins states."""

from collections import defaultdict
from collections.abc import Collection

from app.feature_store.event_log import EventLog, Position
from models.contract.state_merge import LiveEvent


class LiveEvents:
    """Reads all streams once, and at each further look only what was added.

    Only events of a time before `before_ms` are kept in memory: the states themselves tell the later ones.
    """

    def __init__(self, log: EventLog, before_ms: int, seen_types: Collection[str]) -> None:
        self._log, self._before_ms, self._seen_types = log, before_ms, seen_types
        self._marks: dict[int, Position] = {}
        self._events: defaultdict[str, list[LiveEvent]] = defaultdict(list)

    def read(self) -> None:
        """Bring it up to date. May raise redis.RedisError."""
        for entry in self._log.entries(dict(self._marks)):
            self._marks[entry.partition] = entry.position
            event = entry.event
            if event["time_ms"] < self._before_ms:
                seen = event["type"] in self._seen_types
                self._events[event["user"]].append(LiveEvent(event["time_ms"], event["item"], event["type"], seen))

    def of(self, user: str) -> list[LiveEvent]:
        return self._events.get(user, [])
