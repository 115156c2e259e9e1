"""kill -9 of Redis while several writers send events: what was acknowledged is there after the restart."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import orjson
import redis

from app.feature_store.embedded import EmbeddedRedis
from app.feature_store.keys import PARTITIONS, Keys
from app.feature_store.store import EventResult, FeatureStore, FeatureStoreUnavailable, StoreSettings
from models.contract.events import Event
from models.contract.schema import Schema
from models.contract.state import Limits, pack
from models.contract.state_parts import apply, empty

SCHEMA = Schema(event_types=["view", "purchase"], seen_types=["purchase"], history_limit=64, seen_limit=32)
SETTINGS = StoreSettings(write_timeout_s=2.0, read_timeout_s=2.0, breaker_failures=2, breaker_open_s=0.02)
NOW_MS = 20_000 * 86_400_000
WRITERS, KILLS, ACKNOWLEDGED_BEFORE_A_KILL = 6, 3, 60
DEADLINE_S = 30.0

Sent = list[tuple[Event, EventResult | None]]


def event(writer: int, number: int) -> Event:
    return Event(
        event_id=f"{writer}-{number}",
        user_id=f"u{number % 3}",
        item_id=f"i{number % 50}",
        event_type="purchase" if number % 2 else "view",
        time=NOW_MS - (number * 7919) % 3_600_000,
    )


async def write(store: FeatureStore, writer: int, sent: Sent, stop: asyncio.Event) -> None:
    """Send batches of three until told to stop; an unanswered batch is kept with no result."""
    number = 0
    while not stop.is_set():
        await until(lambda: store._write_breaker.state != "open" or stop.is_set(), "the breaker stays open")
        batch = [event(writer, number + i) for i in range(3)]
        number += 3
        try:
            sent += zip(batch, await store.apply(batch, SCHEMA, NOW_MS), strict=True)
        except FeatureStoreUnavailable:
            sent += [(one, None) for one in batch]
            await asyncio.sleep(0)  # while another call probes, the breaker refuses without waiting


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.002)


def acknowledged(sent: Sent) -> list[Event]:
    return [one for one, result in sent if result is not None and result.status == "accepted"]


async def kill_in_mid_write(server: EmbeddedRedis, store: FeatureStore) -> Sent:
    sent: Sent = []
    stop = asyncio.Event()
    writers = [asyncio.create_task(write(store, number, sent, stop)) for number in range(WRITERS)]
    for _ in range(KILLS):
        goal = len(acknowledged(sent)) + ACKNOWLEDGED_BEFORE_A_KILL
        await until(lambda goal=goal: len(acknowledged(sent)) >= goal, "the writers make no progress")
        unanswered = sum(result is None for _, result in sent)
        server.kill()  # the writers have batches on the way
        await until(lambda n=unanswered: sum(r is None for _, r in sent) > n, "no batch was cut off")
        await asyncio.to_thread(server.start)
    goal = len(acknowledged(sent)) + 1
    await until(lambda: len(acknowledged(sent)) >= goal, "no answer after the last restart")
    stop.set()
    await asyncio.gather(*writers)
    return sent


def read_stream(url: str) -> list[tuple[str, str]]:
    with redis.Redis.from_url(url, protocol=2) as client:
        entries = [entry for p in range(PARTITIONS) for entry in client.xrange(Keys().events(p))]
    records = [orjson.loads(fields[b"event"]) for _, fields in entries]
    return [(record["user"], record["event_id"]) for record in records]


async def test_kill_9_in_mid_write_loses_no_acknowledged_event(tmp_path: Path) -> None:
    """Acknowledged events are in the stream once and in the state; sending the rest again completes both."""
    with EmbeddedRedis(tmp_path / "redis") as server:
        store = await FeatureStore.connect(server.url, SETTINGS)
        sent = await kill_in_mid_write(server, store)

        kept = acknowledged(sent)
        in_stream = Counter(read_stream(server.url))
        assert len(kept) >= KILLS * ACKNOWLEDGED_BEFORE_A_KILL
        assert any(result is None for _, result in sent)
        assert {(one.user_id, one.event_id) for one in kept} <= set(in_stream)
        assert set(in_stream.values()) == {1}

        await until(lambda: store._write_breaker.state != "open", "the breaker stays open")
        assert await states_of(store, [one for one, _ in sent if key(one) in in_stream])

        unanswered = [one for one, result in sent if result is None]
        again = [await store.apply(unanswered[i : i + 50], SCHEMA, NOW_MS) for i in range(0, len(unanswered), 50)]
        statuses = [result.status for results in again for result in results]
        assert set(statuses) <= {"accepted", "duplicate"}
        assert Counter(read_stream(server.url)) == Counter(key(one) for one, _ in sent)
        assert await states_of(store, [one for one, _ in sent])
        await store.aclose()


def key(one: Event) -> tuple[str, str | None]:
    return one.user_id, one.event_id


async def states_of(store: FeatureStore, events: list[Event]) -> bool:
    """Whether each user's stored bytes are what the reference makes of exactly these events."""
    for user in {one.user_id for one in events}:
        state = empty()
        for one in events:
            if one.user_id == user:
                assert one.time is not None
                state = apply(
                    state,
                    time_ms=one.time,
                    item_id=one.item_id,
                    event_type=one.event_type,
                    seen=one.event_type == "purchase",
                    limits=Limits.of(SCHEMA),
                )
        stored = await store.state(user)
        if stored is None or pack(stored) != pack(state):
            return False
    return True
