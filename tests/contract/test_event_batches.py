"""Batches larger than a piece: what is sent when, and that a batch of any size is applied as its events one by one."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from app.feature_store.apply import PIECE, Batch
from app.feature_store.embedded import EmbeddedRedis
from app.feature_store.keys import Keys, partition
from app.feature_store.store import FeatureStore, FeatureStoreUnavailable, StoreSettings
from models.contract.columns import BytesColumn
from models.contract.events import Event
from models.contract.ids import hash_ids, hash_name
from models.contract.schema import Schema
from models.contract.state import DAY_MS, Limits, pack
from models.contract.state_build import build

SCHEMA = Schema(event_types=["view", "purchase"], seen_types=["purchase"], history_limit=60, seen_limit=6)
NOW_MS = 20_000 * DAY_MS + 3_600_000  # an hour into a day, so that a batch can hold events of two
SETTINGS = StoreSettings(read_timeout_s=5, write_timeout_s=5)


def purchase(user: str, number: int) -> Event:
    """Out of order, some at the same time, on two days, of ten items for each of three users; every fifth is a view."""
    return Event(
        event_id=f"e{number}",
        user_id=user,
        item_id=f"i{number * 37 % 30}",
        event_type="view" if number % 5 == 0 else "purchase",
        time=NOW_MS - number * 7919 % 29 * 450_000,
    )


def state_of(events: Sequence[Event]) -> bytes:
    """The packed state that the reference builds of the whole log at once."""
    names = [event.item_id for event in events]
    return pack(
        build(
            np.array([event.time for event in events], np.int64),
            hash_ids(names),
            np.array([hash_name(event.event_type) for event in events], np.uint32),
            BytesColumn.of(name.encode() for name in names),
            np.arange(len(names)),
            np.array([event.event_type == "purchase" for event in events], np.bool_),
            {},
            Limits.of(SCHEMA),
        )
    )


def stream(client: redis.Redis, keys: Keys, user: str) -> list[str]:
    """Event ids of the user's entries, in the stream's order."""
    records = [orjson.loads(fields[b"event"]) for _, fields in client.xrange(keys.events(partition(user)))]
    return [record["event_id"] for record in records if record["user"] == user]


@given(users=st.lists(st.sampled_from("abcde"), max_size=6 * PIECE), wrong=st.sets(st.integers(0, 6 * PIECE)))
def test_pieces_have_every_event_once_and_a_user_together(users: list[str], wrong: set[int]) -> None:
    """PIECE events in each but the last; in all, a user is taken up once, and once more for each piece that ends."""
    events = [
        Event(user_id=user, item_id=str(i), event_type="wink" if i in wrong else "view") for i, user in enumerate(users)
    ]
    batch = Batch(events, Keys("test"), SCHEMA, NOW_MS, 0)
    right = [i for i in range(len(events)) if i not in wrong]
    pieces = batch.pieces()
    assert [sum(map(len, piece)) for piece in pieces[:-1]] == [PIECE] * (len(pieces) - 1)
    assert all(0 < sum(map(len, piece)) <= PIECE for piece in pieces)
    parts = [part for piece in pieces for part in piece]
    assert sorted(i for part in parts for i in part) == right
    for user in set(users):
        assert [i for part in parts for i in part if users[i] == user] == [i for i in right if users[i] == user]
    assert all(len({users[i] for i in part}) == 1 for part in parts)
    assert len(parts) <= len({users[i] for i in right}) + max(len(pieces) - 1, 0)


async def test_a_batch_of_many_pieces_leaves_what_its_events_leave_one_by_one(redis_url: str, key_prefix: str) -> None:
    """300 events of three users in turn, past every limit, sent again with as many new ones and with two conflicts."""
    store = await FeatureStore.connect(redis_url, StoreSettings(prefix=key_prefix, read_timeout_s=5, write_timeout_s=5))
    users, keys = ["u", "v", "w"], Keys(key_prefix)
    events = [purchase(users[number % 3], number) for number in range(300)]
    wrong = [event.model_copy(update={"item_id": "other"}) for event in (events[0], events[299])]
    first = await store.apply(events, SCHEMA, NOW_MS)
    more = [purchase(users[number % 3], number) for number in range(300, 600)]
    mixed = [event for pair in zip(events, more, strict=True) for event in pair]
    second = await store.apply([*mixed, *wrong], SCHEMA, NOW_MS)
    assert [result.status for result in first] == ["accepted"] * 300
    assert [(result.status, result.code) for result in second] == [
        *[("duplicate", None), ("accepted", None)] * 300,
        ("refused", "conflict"),
        ("refused", "conflict"),
    ]
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        for user in users:
            mine = [event for event in (*events, *more) if event.user_id == user]
            assert client.get(keys.state(user)) == state_of(mine)
            assert stream(client, keys, user) == [event.event_id for event in mine]
    await store.aclose()


async def test_an_event_id_twice_in_one_call_is_stored_once(store: FeatureStore) -> None:
    """The second is judged by the first, which Redis does not hold yet; without an id each event is new."""
    event = purchase("u", 1)
    other = event.model_copy(update={"item_id": "other"})
    nameless = event.model_copy(update={"event_id": None})
    results = await store.apply([event, event, other, nameless, nameless], SCHEMA, NOW_MS)
    assert [(result.status, result.code) for result in results] == [
        ("accepted", None),
        ("duplicate", None),
        ("refused", "conflict"),
        ("accepted", None),
        ("accepted", None),
    ]
    state = await store.state("u")
    assert state is not None
    assert pack(state) == state_of([event, nameless, nameless])


async def test_a_batch_that_fails_in_the_middle_is_completed_by_sending_it_again(
    redis_url: str, key_prefix: str
) -> None:
    """One user's stream cannot be written: the pieces before are stored, what comes later is not, nothing is half."""
    store = await FeatureStore.connect(redis_url, StoreSettings(prefix=key_prefix, read_timeout_s=5, write_timeout_s=5))
    keys = Keys(key_prefix)
    events = [purchase(user, number) for user in ("before", "broken", "after") for number in range(PIECE)]
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        client.set(keys.events(partition("broken")), "no stream")
        with pytest.raises(FeatureStoreUnavailable, match="ResponseError"):
            await store.apply(events, SCHEMA, NOW_MS)
        assert client.get(keys.state("before")) == state_of(events[:PIECE])
        assert len(stream(client, keys, "before")) == PIECE
        assert not client.keys(f"{key_prefix}:*:broken")
        assert not client.keys(f"{key_prefix}:*:after")
        client.delete(keys.events(partition("broken")))
        results = await store.apply(events, SCHEMA, NOW_MS)
        assert [result.status for result in results] == ["duplicate"] * PIECE + ["accepted"] * 2 * PIECE
        for user in ("before", "broken", "after"):
            mine = [event for event in events if event.user_id == user]
            assert client.get(keys.state(user)) == state_of(mine)
            assert stream(client, keys, user) == [event.event_id for event in mine]
    await store.aclose()


async def test_events_that_redis_has_no_memory_for_are_refused_whole(tmp_path: Path) -> None:
    """Several events of one user in one call: no entry, no id and no state until there is room."""
    with EmbeddedRedis(tmp_path) as server, redis.Redis.from_url(server.url, protocol=2) as client:
        store = await FeatureStore.connect(server.url, SETTINGS)
        events = [purchase("u", number) for number in range(5)]
        client.config_set("maxmemory", 1)
        with pytest.raises(FeatureStoreUnavailable, match="OutOfMemoryError"):
            await store.apply(events, SCHEMA, NOW_MS)
        assert client.keys() == []
        client.config_set("maxmemory", 0)
        assert {result.status for result in await store.apply(events, SCHEMA, NOW_MS)} == {"accepted"}
        assert client.get(Keys().state("u")) == state_of(events)
        await store.aclose()


async def test_large_batches_that_come_together_take_turns(tmp_path: Path) -> None:
    """Four of five pieces each: Redis never has more than one to do, so one connection has carried them all."""
    with EmbeddedRedis(tmp_path) as server, redis.Redis.from_url(server.url, protocol=2) as client:
        store = await FeatureStore.connect(server.url, SETTINGS, clock=lambda: 100.0)
        await store.apply([purchase("u", 0)], SCHEMA, NOW_MS)  # asks for the durability, too: once, by this clock
        batches = [[purchase(f"u{i % n}", i) for i in range(5 * PIECE)] for n in (1, 2, 50, 80)]
        results = await asyncio.gather(*(store.apply(batch, SCHEMA, NOW_MS) for batch in batches))
        assert sum(result.status == "accepted" for batch in results for result in batch) == len(
            {(event.user_id, event.event_id) for batch in batches for event in batch}
        )
        assert sum(one["cmd"] == "evalsha" for one in client.client_list()) == 1
        await store.aclose()


async def test_waiting_for_other_batches_is_no_failure_of_redis(redis_url: str, key_prefix: str) -> None:
    """A turn that others hold for longer than a write may take."""
    settings = StoreSettings(prefix=key_prefix, write_timeout_s=0.2)
    store = await FeatureStore.connect(redis_url, settings)
    async with store._turn_of_pieces:
        waiting = asyncio.create_task(
            store.apply([purchase("u", number) for number in range(2 * PIECE)], SCHEMA, NOW_MS)
        )
        await asyncio.sleep(2 * store._write_bound_s)
    assert [result.status for result in await waiting] == ["accepted"] * 2 * PIECE
    await store.aclose()
