"""The store's script against the Python reference, on a real server: the stored bytes must always be equal."""

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from app.feature_store.keys import ID_BUCKET_MS, Keys, partition
from app.feature_store.store import FeatureStore, StoreSettings
from models.contract.columns import BytesColumn
from models.contract.events import MAX_AGE_MS, MAX_AHEAD_MS, Event
from models.contract.ids import hash_ids, hash_name
from models.contract.schema import Schema
from models.contract.state import DAY_MS, Limits, UserState, pack, unpack
from models.contract.state_build import build
from models.contract.state_parts import apply, empty

START_MS = 20_000 * DAY_MS + 12_345_678
HISTORY_LIMIT, SEEN_LIMIT = 5, 3
SCHEMA = Schema(
    event_types=["view", "click", "purchase"],
    seen_types=["purchase", "click"],
    event_context=["store"],
    history_limit=HISTORY_LIMIT,
    seen_limit=SEEN_LIMIT,
)
LIMITS = Limits(HISTORY_LIMIT, SEEN_LIMIT)
USERS = ["u1", "naïve {1}", "長い" * 40]

offsets = st.one_of(
    st.sampled_from([0, -1, -1000, -DAY_MS // 2, -MAX_AGE_MS, -MAX_AGE_MS - 1, MAX_AHEAD_MS, MAX_AHEAD_MS + 1]),
    st.integers(-MAX_AGE_MS, MAX_AHEAD_MS),
)
drafts = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(USERS),
        "item_id": st.sampled_from([f"i{n}" for n in range(8)] + ["ü" * 128, "a"]),
        "event_type": st.sampled_from(["view", "click", "purchase", "purchase", "wink"]),
    },
    optional={
        "offset": offsets,
        "event_id": st.sampled_from([f"e{n}" for n in range(6)]),
        "value": st.sampled_from([1, 1.5]),
        "context": st.sampled_from([{"store": 7}, {"store": "7"}, {"shelf": "3"}]),
    },
)


def to_event(draft: dict[str, Any], now_ms: int) -> Event:
    fields = {name: value for name, value in draft.items() if name != "offset"}
    if "offset" in draft:
        fields["time"] = now_ms + draft["offset"]
    return Event(**fields)


def step(state: UserState, event: Event, time_ms: int) -> UserState:
    seen = event.event_type in SCHEMA.seen_types
    return apply(state, time_ms=time_ms, item_id=event.item_id, event_type=event.event_type, seen=seen, limits=LIMITS)


class Model:
    """What the store should hold and answer, in plain Python."""

    def __init__(self) -> None:
        self.states: dict[str, UserState] = {}
        self.ids: dict[tuple[str, str, int], bytes] = {}
        self.accepted: list[tuple[Event, int]] = []

    def judge(self, event: Event, now_ms: int) -> tuple[str, str | None]:
        time_ms = now_ms if event.time is None else event.time
        if event.event_type == "wink":
            return "refused", "unknown_event_type"
        if not now_ms - MAX_AGE_MS <= time_ms <= now_ms + MAX_AHEAD_MS:
            return "refused", "too_old" if time_ms < now_ms else "in_future"
        if "shelf" in event.context:
            return "refused", "unknown_context"
        if event.event_id is not None:
            bucket = now_ms // ID_BUCKET_MS
            for near in (bucket - 1, bucket, bucket + 1):
                known = self.ids.get((event.user_id, event.event_id, near))
                if known is not None:
                    return ("duplicate", None) if known == event.digest() else ("refused", "conflict")
            self.ids[event.user_id, event.event_id, bucket] = event.digest()
        self.states[event.user_id] = step(self.states.get(event.user_id, empty()), event, time_ms)
        self.accepted.append((event, time_ms))
        return "accepted", None


class EventsMachine(RuleBasedStateMachine):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.keys = Keys(f"test-{secrets.token_hex(8)}")
        self.now_ms = START_MS
        self.model = Model()
        self.batches: list[list[Event]] = []
        self.redis = redis.Redis.from_url(url, protocol=2)
        self.runner = asyncio.Runner()
        slow = StoreSettings(prefix=self.keys.prefix, read_timeout_s=5, write_timeout_s=5)
        self.store = self.runner.run(FeatureStore.connect(url, slow))

    def teardown(self) -> None:
        self.runner.run(self.store.aclose())
        self.runner.close()
        self.redis.close()

    def send(self, events: Sequence[Event]) -> None:
        results = self.runner.run(self.store.apply(events, SCHEMA, self.now_ms))
        answers = [(result.status, result.code) for result in results]
        assert answers == [self.model.judge(event, self.now_ms) for event in events]

    @rule(batch=st.lists(drafts, min_size=1, max_size=8))
    def new_batch(self, batch: list[dict[str, Any]]) -> None:
        events = [to_event(draft, self.now_ms) for draft in batch]
        self.batches.append(events)
        self.send(events)

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def an_earlier_batch_again_in_another_order(self, data: st.DataObject) -> None:
        self.send(data.draw(st.permutations(data.draw(st.sampled_from(self.batches)))))

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def an_event_id_again_with_another_item(self, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(data.draw(st.sampled_from(self.batches))))
        self.send([event.model_copy(update={"item_id": "other"})])

    @rule(hours=st.sampled_from([1, 13, 24, 30, 24 * 20, 24 * 31, 24 * 32]))
    def time_passes(self, hours: int) -> None:
        self.now_ms += hours * 3600 * 1000

    @rule(user=st.sampled_from(USERS))
    def a_user_is_erased(self, user: str) -> None:
        self.store._now_ms = lambda: self.now_ms
        erased = self.runner.run(self.store.erase_user(user))
        near = self.now_ms // ID_BUCKET_MS
        ids = [key for key in self.model.ids if key[0] == user and abs(key[2] - near) <= 1]
        mine = [entry for entry in self.model.accepted if entry[0].user_id == user]
        assert (erased.states, erased.event_ids, erased.stream_events) == (
            int(user in self.model.states),
            len(ids),
            len(mine),
        )
        self.model.states.pop(user, None)
        for key in ids:
            del self.model.ids[key]
        self.model.accepted = [entry for entry in self.model.accepted if entry[0].user_id != user]

    @invariant()
    def the_bytes_are_equal(self) -> None:
        for user in USERS:
            state = self.model.states.get(user)
            assert self.redis.get(self.keys.state(user)) == (None if state is None else pack(state))

    @invariant()
    def the_stream_has_each_accepted_event_once(self) -> None:
        for p in {partition(user) for user in USERS}:
            entries = self.redis.xrange(self.keys.events(p))
            records = [orjson.loads(fields[b"event"]) for _, fields in entries]
            assert records == [e.record(ms) for e, ms in self.model.accepted if partition(e.user_id) == p]

    @invariant()
    def a_state_depends_on_the_events_and_not_on_their_order(self) -> None:
        for user, state in self.model.states.items():
            mine = [(event, ms) for event, ms in self.model.accepted if event.user_id == user]
            assert pack(build_all(mine)) == pack(state)


def build_all(events: Sequence[tuple[Event, int]]) -> UserState:
    names = [event.item_id for event, _ in events]
    return build(
        np.array([ms for _, ms in events], np.int64),
        hash_ids(names),
        np.array([hash_name(event.event_type) for event, _ in events], np.uint32),
        BytesColumn.of(name.encode() for name in names),
        np.arange(len(names)),
        np.array([event.event_type in SCHEMA.seen_types for event, _ in events], np.bool_),
        {},
        LIMITS,
    )


@pytest.mark.parametrize("piece", [2, 16])
def test_the_store_equals_the_reference_after_any_sequence_of_events(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """Random batches, repeats, reorderings, conflicts, erasures and passing time; batches whole and in pieces."""
    monkeypatch.setattr("app.feature_store.apply.PIECE", piece)
    run_state_machine_as_test(
        lambda: EventsMachine(redis_url),
        settings=settings(
            max_examples=25,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(drafts, min_size=1, max_size=12), data=st.data())
def test_repeats_and_reorderings_of_a_batch_give_the_same_bytes(
    redis_url: str, batch: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Events with ids, sent twice and shuffled, leave the same bytes as sent once in order."""
    events = [
        to_event({**draft, "event_id": f"e{i}", "offset": draft.get("offset", 0)}, START_MS)
        for i, draft in enumerate(batch)
    ]
    shuffled = data.draw(st.permutations(events * 2))
    assert asyncio.run(stored(redis_url, events)) == asyncio.run(stored(redis_url, shuffled))


async def stored(url: str, events: Sequence[Event]) -> list[bytes | None]:
    prefix = f"test-{secrets.token_hex(8)}"
    store = await FeatureStore.connect(url, StoreSettings(prefix=prefix, read_timeout_s=5, write_timeout_s=5))
    await store.apply(events, SCHEMA, START_MS)
    states = [await store.state(user) for user in USERS]
    await store.aclose()
    return [None if state is None else pack(state) for state in states]


@pytest.mark.parametrize("history_limit", [1, 7])
async def test_lowered_limits_take_hold_at_the_next_event(redis_url: str, history_limit: int) -> None:
    """History and seen items beyond a lowered limit go at once, the oldest first, as in the reference."""
    prefix = f"test-{secrets.token_hex(8)}"
    store = await FeatureStore.connect(redis_url, StoreSettings(prefix=prefix, read_timeout_s=5, write_timeout_s=5))
    wide = SCHEMA.model_copy(update={"history_limit": 50, "seen_limit": 50})
    narrow = SCHEMA.model_copy(update={"history_limit": history_limit, "seen_limit": 4})
    events = [
        Event(user_id="u", item_id=f"i{n}", event_type="purchase", time=START_MS - n // 3 * 1000) for n in range(30)
    ]
    await store.apply(events, wide, START_MS)
    await store.apply([Event(user_id="u", item_id="late", event_type="view")], narrow, START_MS)
    state = empty()
    for event in events:
        assert event.time is not None
        state = apply(
            state,
            time_ms=event.time,
            item_id=event.item_id,
            event_type="purchase",
            seen=True,
            limits=Limits.of(wide),
        )
    expected = apply(state, time_ms=START_MS, item_id="late", event_type="view", seen=False, limits=Limits.of(narrow))
    found = await store.state("u")
    await store.aclose()
    assert found is not None
    assert pack(found) == pack(expected)
    assert (len(found.history_hashes), len(found.seen_hashes), found.seen_evicted) == (history_limit, 4, True)


async def test_one_past_each_limit_drops_exactly_the_oldest(store: FeatureStore) -> None:
    """history_limit + 1 events keep the newest; seen_limit + 1 items forget the one seen longest ago, and say so."""
    names = [f"i{n}" for n in range(HISTORY_LIMIT + 1)]
    events = [
        Event(user_id="u", item_id=name, event_type="purchase", time=START_MS + 1000 * n)
        for n, name in enumerate(names)
    ]
    await store.apply(events[:SEEN_LIMIT], SCHEMA, START_MS)
    before = await store.state("u")
    await store.apply(events[SEEN_LIMIT:], SCHEMA, START_MS)
    after = await store.state("u")
    assert before is not None
    assert after is not None
    assert not before.seen_evicted
    assert after.history_ids == names[1:]
    assert after.seen_hashes.tolist() == sorted(hash_ids(names[-SEEN_LIMIT:]).tolist())
    assert after.seen_evicted


async def test_a_state_of_an_unknown_version_or_a_cut_one_counts_as_none(
    store: FeatureStore, redis_url: str, key_prefix: str
) -> None:
    """Reading gives no state; the next event starts a new one."""
    event = Event(user_id="u", item_id="i", event_type="view", time=START_MS)
    fresh = pack(step(empty(), event, START_MS))
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        for damaged in (b"\x02" + fresh[1:], fresh[:-1], fresh + b"x", b"", b"\x01"):
            client.set(Keys(key_prefix).state("u"), damaged)
            assert await store.state("u") is None
            assert unpack(damaged) is None
            await store.apply([event], SCHEMA, START_MS)
            assert client.get(Keys(key_prefix).state("u")) == fresh
