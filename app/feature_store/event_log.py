"""The event streams as the archive sees them: read page by page, trimmed once archived, and tombstones.

Blocking; for commands. A position in a stream is (ms, sequence), as in the ids "ms-sequence".
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from app.feature_store.keys import PARTITIONS, Keys, partition
from app.feature_store.scripts import Call, Script
from app.feature_store.sync_client import SyncClient, run_script

PAGE = 1000
PURGE_PAGE = Script.read("purge_page")
CLEAR_TOMBSTONE = Script.read("clear_tombstone")


class Position(NamedTuple):
    ms: int
    sequence: int

    @classmethod
    def parse(cls, text: str) -> "Position":
        ms, sequence = text.split("-")
        return cls(int(ms), int(sequence))

    def __str__(self) -> str:
        return f"{self.ms}-{self.sequence}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of a stream.  event: as models.contract.events.Event.record wrote it."""

    partition: int
    position: Position
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Everything of the user up to `boundary` in the user's stream is to be deleted."""

    user: str
    boundary: Position


class EventLog:
    """The streams of all partitions under one prefix. Every method may raise redis.RedisError."""

    def __init__(self, client: SyncClient, prefix: str) -> None:
        self._client: Any = client
        self._keys = Keys(prefix)

    def store_id(self) -> str:
        """A name of the store's contents: positions of one store mean nothing in another."""
        self._client.set(self._keys.store_id(), secrets.token_hex(8), nx=True)
        name: bytes = self._client.get(self._keys.store_id())
        return name.decode()

    def size(self) -> int:
        """Number of events in all streams."""
        return sum(self._client.xlen(self._keys.events(p)) for p in range(PARTITIONS))

    def entries(self, after: dict[int, Position]) -> Iterator[Entry]:
        """Events behind a position for each partition (from the start where there is none), partition by partition."""
        for p in range(PARTITIONS):
            start = f"({after[p]}" if p in after else "-"
            while start:
                page = self._client.xrange(self._keys.events(p), start, "+", PAGE)
                for entry_id, fields in page:
                    yield Entry(p, Position.parse(entry_id.decode()), orjson.loads(fields[b"event"]))
                start = "(" + page[-1][0].decode() if len(page) == PAGE else ""

    def trim(self, marks: dict[int, Position]) -> int:
        """Delete the events up to a position, included, for each partition; how many there were."""
        trimmed = 0
        for p, mark in marks.items():
            following = Position(mark.ms, mark.sequence + 1)
            trimmed += self._client.xtrim(self._keys.events(p), minid=str(following), approximate=False)
        return trimmed

    def tombstones(self) -> list[Tombstone]:
        """Users erased since the archive last dealt with erasures."""
        found = (self._client.hgetall(self._keys.erasing(p)) for p in range(PARTITIONS))
        return [
            Tombstone(user.decode(), Position.parse(boundary.decode()))
            for users in found
            for user, boundary in users.items()
        ]

    def purge(self, tombstone: Tombstone) -> None:
        """Delete what an interrupted erasure left of the user in the stream."""
        keys = [self._keys.events(partition(tombstone.user))]
        start = "-"
        while start:
            call = Call(keys, [start, str(tombstone.boundary), PAGE, tombstone.user])
            [(last, _)] = run_script(self._client, PURGE_PAGE, [call])
            start = "(" + last.decode() if last else ""

    def clear(self, tombstone: Tombstone) -> None:
        """Forget a tombstone that was applied everywhere, unless the user was erased once more since."""
        keys = [self._keys.erasing(partition(tombstone.user))]
        run_script(self._client, CLEAR_TOMBSTONE, [Call(keys, [tombstone.user, str(tombstone.boundary)])])
