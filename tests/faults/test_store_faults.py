"""The feature store when Redis is absent, hung, restarted or holds something unexpected."""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from app.feature_store.embedded import EmbeddedRedis
from app.feature_store.keys import ID_BUCKET_MS, Keys, partition
from app.feature_store.store import FeatureStore, FeatureStoreUnavailable, StoreSettings
from models.contract.events import MAX_AGE_MS, MAX_AHEAD_MS, Event
from models.contract.schema import Schema

SCHEMA = Schema(event_types=["view", "purchase"], seen_types=["purchase"])
NOW_MS = 20_000 * 86_400_000
QUICK = StoreSettings(read_timeout_s=0.02, write_timeout_s=0.05, breaker_failures=3, breaker_open_s=0.05)


def view(user: str, item: str, **fields: object) -> Event:
    given = {"user_id": user, "item_id": item, "event_type": "view", "time": NOW_MS, **fields}
    return Event.model_validate(given)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def answers(store: FeatureStore, user: str) -> str:
    """The item in a one-event user's history, once the store answers again."""
    deadline = time.monotonic() + 20
    while True:
        try:
            state = await store.state(user)
        except FeatureStoreUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
        else:
            assert state is not None
            return state.history_ids[0]


async def test_an_absent_server_is_unavailable_and_used_once_it_is_there(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path)
    store = await FeatureStore.connect(server.url, QUICK)
    with pytest.raises(FeatureStoreUnavailable):
        await store.state("u")
    with pytest.raises(FeatureStoreUnavailable):
        await store.apply([view("u", "i")], SCHEMA, NOW_MS)
    with pytest.raises(FeatureStoreUnavailable):
        await store.ping()
    assert store.durability == "unknown"
    await asyncio.to_thread(server.start)
    await until(lambda: store.breaker_state != "open")
    await store.apply([view("u", "i")], SCHEMA, NOW_MS)
    assert await answers(store, "u") == "i"
    assert store.durability == "always"
    await store.aclose()
    await asyncio.to_thread(server.stop)


async def test_a_hung_server_opens_the_breaker_and_answers_are_right_after_it_wakes(tmp_path: Path) -> None:
    """No reply that a timed-out caller left behind may ever reach another caller."""
    with EmbeddedRedis(tmp_path) as server:
        few = StoreSettings(read_timeout_s=0.02, read_connections=4, breaker_failures=8, breaker_open_s=0.01)
        store = await FeatureStore.connect(server.url, few)
        users = [f"u{number}" for number in range(50)]
        await store.apply([view(user, f"item of {user}") for user in users], SCHEMA, NOW_MS)
        rng, done, failed = random.Random(0), 0, 0
        opened, stop = asyncio.Event(), asyncio.Event()

        async def read() -> None:
            nonlocal done, failed
            while not stop.is_set():
                user = rng.choice(users)
                try:
                    async with asyncio.timeout(rng.choice([0.001, 0.01, 1])):  # callers that go away, too
                        state = await store.state(user)
                    assert state is not None
                    assert state.history_ids == [f"item of {user}"]
                    done += 1
                except (FeatureStoreUnavailable, TimeoutError):
                    failed += 1
                    if store.breaker_state == "open":
                        opened.set()
                    await asyncio.sleep(0)

        readers = [asyncio.create_task(read()) for _ in range(16)]
        for _ in range(4):
            goal = done + 300
            await until(lambda goal=goal: done >= goal)
            os.kill(server.pid, signal.SIGSTOP)
            opened.clear()
            await until(opened.is_set)
            os.kill(server.pid, signal.SIGCONT)
        goal = done + 300
        await until(lambda: done >= goal)
        stop.set()
        await asyncio.gather(*readers)
        assert failed
        await store.aclose()


async def test_a_redis_that_is_slow_once_is_asked_again_at_once_however_many_waited(tmp_path: Path) -> None:
    """Ten callers fail with one overdue reply; the breaker, which opens after three failures, has counted one."""
    with EmbeddedRedis(tmp_path) as server:
        settings = StoreSettings(read_timeout_s=0.2, breaker_failures=3, breaker_open_s=60)
        store = await FeatureStore.connect(server.url, settings)
        await store.apply([view("u", "i")], SCHEMA, NOW_MS)
        assert await store.state("u") is not None
        os.kill(server.pid, signal.SIGSTOP)
        late = await asyncio.gather(*(store.state("u") for _ in range(10)), return_exceptions=True)
        os.kill(server.pid, signal.SIGCONT)
        assert [type(error) for error in late] == [FeatureStoreUnavailable] * 10
        assert store.breaker_state == "closed"
        assert await answers(store, "u") == "i"
        await store.aclose()


async def test_while_the_breaker_is_open_nothing_is_sent(tmp_path: Path) -> None:
    """The server's own count of commands stands still."""
    with EmbeddedRedis(tmp_path) as server, redis.Redis.from_url(server.url, protocol=2) as client:
        now = 100.0
        store = await FeatureStore.connect(server.url, QUICK, clock=lambda: now)
        await store.apply([view("u", "i")], SCHEMA, NOW_MS)
        os.kill(server.pid, signal.SIGSTOP)
        for _ in range(QUICK.breaker_failures):
            with pytest.raises(FeatureStoreUnavailable, match="does not answer"):
                await store.state("u")
        os.kill(server.pid, signal.SIGCONT)
        assert store.breaker_state == "open"
        before = client.info("commandstats")["cmdstat_get"]["calls"]
        for _ in range(5):
            with pytest.raises(FeatureStoreUnavailable, match="asked again in a moment"):
                await store.state("u")
        assert client.info("commandstats")["cmdstat_get"]["calls"] == before
        now += QUICK.breaker_open_s
        assert await answers(store, "u") == "i"
        assert store.breaker_state == "closed"
        await store.aclose()


async def test_the_first_piece_of_a_batch_that_is_stored_closes_the_breaker(tmp_path: Path) -> None:
    """Whoever comes then is not held back until the last."""
    with EmbeddedRedis(tmp_path) as server:
        now = 100.0
        settings = StoreSettings(write_timeout_s=0.5, breaker_failures=1, breaker_open_s=5)
        store = await FeatureStore.connect(server.url, settings, clock=lambda: now)
        await store.apply([view("u", "i")], SCHEMA, NOW_MS)
        os.kill(server.pid, signal.SIGSTOP)
        with pytest.raises(FeatureStoreUnavailable, match="does not answer"):
            await store.apply([view("u", "i")], SCHEMA, NOW_MS)
        os.kill(server.pid, signal.SIGCONT)
        with pytest.raises(FeatureStoreUnavailable, match="asked again in a moment"):
            await store.apply([view("u", "i")], SCHEMA, NOW_MS)
        now += settings.breaker_open_s
        many = asyncio.create_task(store.apply([view(f"u{n}", "i") for n in range(1_000)], SCHEMA, NOW_MS))
        await until(lambda: store._write_breaker.state == "closed")
        assert [result.status for result in await store.apply([view("v", "i")], SCHEMA, NOW_MS)] == ["accepted"]
        assert not many.done()
        await many
        await store.aclose()


async def test_a_restarted_server_gets_the_scripts_again(store: FeatureStore, redis_url: str, key_prefix: str) -> None:
    """A server that has forgotten the script is given it, and each event of the batch is applied once."""
    await store.apply([view("u", "i0")], SCHEMA, NOW_MS)
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        client.script_flush()
        results = await store.apply([view("u", f"i{n}", time=NOW_MS + n) for n in range(1, 4)], SCHEMA, NOW_MS)
        assert [result.status for result in results] == ["accepted"] * 3
        assert client.xlen(Keys(key_prefix).events(partition("u"))) == 4
    state = await store.state("u")
    assert state is not None
    assert state.history_ids == ["i0", "i1", "i2", "i3"]


async def test_an_event_that_cannot_be_logged_changes_nothing(
    store: FeatureStore, redis_url: str, key_prefix: str
) -> None:
    """The stream's key holds something else: no state, no event id, and the caller is told."""
    keys = Keys(key_prefix)
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        client.set(keys.events(partition("u")), "no stream")
        with pytest.raises(FeatureStoreUnavailable, match="ResponseError"):
            await store.apply([view("u", "i", event_id="e")], SCHEMA, NOW_MS)
        assert client.keys(f"{key_prefix}:*") == [keys.events(partition("u")).encode()]
        client.delete(keys.events(partition("u")))
        [result] = await store.apply([view("u", "i", event_id="e")], SCHEMA, NOW_MS)
        assert result.status == "accepted"


@pytest.mark.parametrize(
    "sent_at_ms", [NOW_MS // ID_BUCKET_MS * ID_BUCKET_MS, NOW_MS // ID_BUCKET_MS * ID_BUCKET_MS - 1]
)
async def test_an_event_id_is_known_for_as_long_as_the_event_can_be_sent_again(
    store: FeatureStore, redis_url: str, key_prefix: str, sent_at_ms: int
) -> None:
    """An event five minutes ahead can be repeated for 24 hours and 5 minutes; its id lives for an hour more."""
    event = view("u", "i", event_id="e", time=sent_at_ms + MAX_AHEAD_MS)
    last_ms = sent_at_ms + MAX_AHEAD_MS + MAX_AGE_MS
    first = await store.apply([event], SCHEMA, sent_at_ms)
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        _, bucket, _ = Keys(key_prefix).event_ids("u", sent_at_ms)
        lives_ms = client.pttl(bucket)
        assert last_ms - sent_at_ms + 3_500_000 < lives_ms <= 2 * ID_BUCKET_MS
    again = await store.apply([event], SCHEMA, last_ms)
    late = await store.apply([event], SCHEMA, last_ms + 1)
    assert [one.status for one in (*first, *again)] == ["accepted", "duplicate"]
    assert late[0].code == "too_old"


async def test_a_server_whose_clock_is_behind_sees_the_ids_of_the_others(store: FeatureStore) -> None:
    """Two seconds apart around the end of a bucket, in either order."""
    end_ms = NOW_MS // ID_BUCKET_MS * ID_BUCKET_MS
    for first_ms, second_ms, name in ((end_ms + 1000, end_ms - 1000, "a"), (end_ms - 1000, end_ms + 1000, "b")):
        event = view("u", "i", event_id=name, time=end_ms)
        await store.apply([event], SCHEMA, first_ms)
        [result] = await store.apply([event], SCHEMA, second_ms)
        assert result.status == "duplicate"


async def test_an_event_without_time_is_a_repeat_however_late_it_comes_again(store: FeatureStore) -> None:
    """The server fills in the time; the caller sent the same content."""
    event = Event(user_id="u", item_id="i", event_type="view", event_id="e")
    await store.apply([event], SCHEMA, NOW_MS)
    [again] = await store.apply([event], SCHEMA, NOW_MS + 60_000)
    [other] = await store.apply([event.model_copy(update={"time": NOW_MS})], SCHEMA, NOW_MS + 60_000)
    assert (again.status, other.code) == ("duplicate", "conflict")


async def test_two_users_may_use_the_same_event_id(store: FeatureStore) -> None:
    results = await store.apply([view("u1", "i", event_id="e"), view("u2", "j", event_id="e")], SCHEMA, NOW_MS)
    assert [result.status for result in results] == ["accepted", "accepted"]


async def test_export_names_everything_that_is_stored(redis_url: str, key_prefix: str) -> None:
    settings = StoreSettings(prefix=key_prefix, read_timeout_s=2, write_timeout_s=5)
    store = await FeatureStore.connect(redis_url, settings, now_ms=lambda: NOW_MS)
    await store.apply([view("u", "i", event_id="e"), view("other", "x")], SCHEMA, NOW_MS)
    event = {"user": "u", "item": "i", "type": "view", "time_ms": NOW_MS, "event_id": "e", "context": {}}
    unset = {"value": None, "recommendation_id": None, "position": None, "clock_shift_ms": 0}
    assert await store.export_user("u") == {
        "user_id": "u",
        "history": [{"item_id": "i", "event_type": "view", "time_ms": NOW_MS}],
        "seen": {"count": 0, "evicted": False, "items": [], "unnamed": 0},
        "counts": [
            {"event_type": "view", "day_start_ms": None, "count": 1},
            {"event_type": "view", "day_start_ms": NOW_MS, "count": 1},
        ],
        "features": {},
        "events": [event | unset],
    }
    erased = await store.erase_user("u")
    assert (erased.states, erased.event_ids, erased.stream_events) == (1, 1, 1)
    nothing = {"count": 0, "evicted": False, "items": [], "unnamed": 0}
    empty = {"history": [], "seen": nothing, "counts": [], "features": {}, "events": []}
    assert await store.export_user("u") == {"user_id": "u", **empty}
    assert (await store.export_user("other"))["history"] != []
    await store.aclose()


@pytest.mark.parametrize("num_others", [0, 1, 2, 3])
async def test_a_stream_is_read_page_by_page_to_the_end_it_had(
    redis_url: str, key_prefix: str, monkeypatch: pytest.MonkeyPatch, num_others: int
) -> None:
    """Two entries a page. With each entry that is parsed another comes in; nothing waits for those."""
    monkeypatch.setattr("app.feature_store.user_export.PAGE", 2)
    store = await FeatureStore.connect(redis_url, StoreSettings(prefix=key_prefix, write_timeout_s=5))
    stream = Keys(key_prefix).events(partition("u"))
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        for _ in range(num_others):
            client.xadd(stream, {"event": b'{"user":"another"}'})
        await store.apply([view("u", "i"), view("u", "j")], SCHEMA, NOW_MS)

        def parse_and_add(raw: bytes) -> object:
            client.xadd(stream, {"event": raw})
            return json.loads(raw)

        monkeypatch.setattr("app.feature_store.user_export.orjson.loads", parse_and_add)
        exported = await store.export_user("u")
    assert [event["item"] for event in exported["events"]] == ["i", "j"]
    await store.aclose()


async def test_erasing_reads_the_stream_page_by_page(redis_url: str, key_prefix: str, store: FeatureStore) -> None:
    """1,001 of the user's events among as many of another in the same partition: three pages and a bit."""
    other = next(f"o{n}" for n in range(100_000) if partition(f"o{n}") == partition("u"))
    for user in ("u", other):
        for start in range(0, 1001, 143):
            await store.apply([view(user, f"i{n}") for n in range(start, start + 143)], SCHEMA, NOW_MS)
    assert (await store.erase_user("u")).stream_events == 1001
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        left = client.xrange(Keys(key_prefix).events(partition("u")))
        assert len(left) == 1001
        assert all(f'"user":"{other}"'.encode() in fields[b"event"] for _, fields in left)
