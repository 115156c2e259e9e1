"""The feature store: what is known about a user while requests are served. Redis is the only implementation.

Reads are one GET of a packed value with short timeouts; events are applied by a server-side script, a few at a time.
Whatever goes wrong between here and Redis is FeatureStoreUnavailable.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from app.feature_store.apply import APPLY_EVENTS, Batch, EventResult
from app.feature_store.breaker import Breaker, BreakerState
from app.feature_store.connection import Durability, StoreSettings, open_client, read_durability
from app.feature_store.errors import FeatureStoreUnavailable
from app.feature_store.keys import Keys, partition
from app.feature_store.pipeline import Address, Pipeline
from app.feature_store.scripts import Call, Script, run
from app.feature_store.user_export import describe_state, read_events
from models.contract.events import Event
from models.contract.ids import hash_id
from models.contract.items import ItemTable
from models.contract.schema import Schema
from models.contract.state import UserState, unpack

__all__ = ["ErasedUser", "EventResult", "FeatureStore", "FeatureStoreUnavailable", "StoreSettings"]

FAILURES = (RedisError, OSError, TimeoutError)
DURABILITY_AGE_S = 5.0
PAGE = 500

ERASE_USER = Script.read("erase_user")
PURGE_PAGE = Script.read("purge_page")


@dataclass(frozen=True, slots=True)
class ErasedUser:
    """How much was deleted at once. Archived rows go at the next `shortlist events archive`."""

    states: int
    event_ids: int
    stream_events: int


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class FeatureStore:
    """Made by `connect`; used by one event loop."""

    def __init__(
        self, url: str, settings: StoreSettings, now_ms: Callable[[], int], clock: Callable[[], float]
    ) -> None:
        self._keys = Keys(settings.prefix)
        self._now_ms, self._clock = now_ms, clock
        self._read_bound_s = 2 * settings.read_timeout_s
        self._write_bound_s = 2 * settings.write_timeout_s
        self._reader = open_client(
            url, cluster=settings.cluster, timeout_s=settings.read_timeout_s, connections=settings.read_connections
        )
        self._writer = open_client(
            url, cluster=settings.cluster, timeout_s=settings.write_timeout_s, connections=settings.write_connections
        )
        self._read_slots = asyncio.Semaphore(settings.read_connections)
        address = None if settings.cluster else Address.parse(url)
        self._pipeline = Pipeline(address, settings.read_timeout_s) if address is not None else None
        self._get = self._pipeline.get if self._pipeline is not None else self._get_by_client
        self._write_slots = asyncio.Semaphore(settings.write_connections)
        self._turn_of_pieces = asyncio.Lock()  # large batches take turns; small ones share a flush to the disk
        self._read_breaker = Breaker(settings.breaker_failures, settings.breaker_open_s, clock)
        self._write_breaker = Breaker(settings.breaker_failures, settings.breaker_open_s, clock)
        self._durability: Durability = "unknown"
        self._durability_until = float("-inf")

    @classmethod
    async def connect(
        cls,
        url: str,
        settings: StoreSettings | None = None,
        *,
        now_ms: Callable[[], int] = _now_ms,
        clock: Callable[[], float] = time.monotonic,
    ) -> "FeatureStore":
        """A store on the server of a redis://, rediss:// or unix:// URL, which need not be up yet.

        now_ms: the wall clock, for the life of event ids.  clock: monotonic seconds, for the breaker.
        """
        return cls(url, settings or StoreSettings(), now_ms, clock)

    @property
    def breaker_state(self) -> BreakerState:
        """Of reads: closed (all is well), open (not asked) or half_open (one call probes)."""
        return self._read_breaker.state

    @property
    def durability(self) -> Durability:
        """Redis's fsync policy when events were last written; "no" without an append-only file."""
        return self._durability

    async def state(self, user_id: str) -> UserState | None:
        """The user's state in one round trip; None for a user nothing is known of."""
        with self._read_breaker.guard(*FAILURES):
            raw = await self._get(self._keys.state(user_id))
        return unpack(raw) if raw is not None else None

    async def apply(
        self, events: Sequence[Event], schema: Schema, now_ms: int, clock_shift_ms: int = 0
    ) -> list[EventResult]:
        """Judge and store each event by itself; the results are in the events' order.

        Many are sent in pieces, each with the time of a write and one after the other, also those of other batches: so
        Redis answers reads in between.
        clock_shift_ms: the active bundle's, kept with each event for the training that will read it.
        Raises FeatureStoreUnavailable when Redis fails; some of the events may then be stored, so that only events
        with an event_id can be sent again without counting twice.
        """
        batch = Batch(events, self._keys, schema, now_ms, clock_shift_ms)
        pieces = batch.pieces()
        turn = self._turn_of_pieces if len(pieces) > 1 else nullcontext()
        for piece in pieces:
            async with turn:
                batch.answered(piece, await self._write(APPLY_EVENTS, batch.calls(piece)))
        if pieces:
            await self._refresh_durability()
        return batch.results

    async def export_user(
        self, user_id: str, event_types: Sequence[str] = (), items: ItemTable | None = None
    ) -> dict[str, Any]:
        """What Redis holds of a user's state and events, as JSON types; what was archived is in the archive.

        event_types, items: names that hashes in the state may stand for.  Each call to Redis has the time of a write,
        the whole takes as long as the stream of the user's partition is.
        """
        key, stream = self._keys.state(user_id), self._keys.events(partition(user_id))
        last = await self._bounded(lambda: self._writer.xrevrange(stream, count=1))
        end = last[0][0].decode() if last else "-"  # what comes in meanwhile must not keep the reading going
        events = await read_events(
            lambda start, count: self._bounded(lambda: self._writer.xrange(stream, start, end, count)), user_id
        )
        raw = await self._bounded(lambda: self._writer.get(key))
        state = unpack(raw) if isinstance(raw, bytes) else None
        types, ids = [*event_types, *(e["type"] for e in events)], [e["item"] for e in events]
        return {"user_id": user_id, **describe_state(state, types, items, ids), "events": events}

    async def erase_user(self, user_id: str) -> ErasedUser:
        """Delete the user's state, event ids and stream entries; leave a tombstone for the archive and for `load`.

        What arrives during and after the erasure stays. Interrupted, it can be repeated.
        """
        now_ms, p = self._now_ms(), partition(user_id)
        keys = [self._keys.state(user_id), self._keys.events(p), *self._keys.event_ids(user_id, now_ms)]
        keys += [self._keys.erasing(p), self._keys.erased(p)]
        call = Call(keys, [user_id, f"{hash_id(user_id):016x}", now_ms])
        [(boundary, states, event_ids)] = await self._write(ERASE_USER, [call])
        deleted, start = 0, "-"
        while start:
            page = Call([self._keys.events(p)], [start, boundary, PAGE, user_id])
            [(last, count)] = await self._write(PURGE_PAGE, [page])
            deleted += count
            start = "(" + last.decode() if last else ""
        return ErasedUser(states, event_ids, deleted)

    async def ping(self) -> None:
        """Raises FeatureStoreUnavailable unless Redis answers within a read's timeouts."""
        with self._read_breaker.guard(*FAILURES):
            async with asyncio.timeout(self._read_bound_s), self._read_slots:
                await self._reader.ping()

    async def aclose(self) -> None:
        if self._pipeline is not None:
            await self._pipeline.aclose()
        await self._reader.aclose()
        await self._writer.aclose()

    async def _get_by_client(self, key: str) -> bytes | None:
        async with asyncio.timeout(self._read_bound_s), self._read_slots:
            raw = await self._reader.get(key)
        return raw if isinstance(raw, bytes) else None

    async def _bounded(self, call: Callable[[], Awaitable[Any]]) -> Any:
        with self._write_breaker.guard(*FAILURES):
            async with asyncio.timeout(self._write_bound_s), self._write_slots:
                return await call()

    async def _write(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        with self._write_breaker.guard(*FAILURES):
            async with asyncio.timeout(self._write_bound_s):
                return await run(self._writer, script, calls, self._write_slots)

    async def _refresh_durability(self) -> None:
        if self._clock() < self._durability_until:
            return
        self._durability_until = self._clock() + DURABILITY_AGE_S
        try:
            async with asyncio.timeout(self._write_bound_s), self._write_slots:
                self._durability = await read_durability(self._writer)
        except FAILURES:  # the events are stored; only the policy is not known (managed servers forbid CONFIG)
            self._durability = "unknown"
