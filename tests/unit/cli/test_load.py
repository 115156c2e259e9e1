"""`shortlist load` on the real store: what it writes, resuming, and live events that are there before it."""

import asyncio
import io
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import redis
from rich.console import Console

from app.feature_store.errors import FeatureStoreUnavailable
from app.feature_store.keys import Keys, partition
from app.feature_store.store import FeatureStore, StoreSettings
from cli.load_users import describe, load_tag, load_users, packed_states
from models.contract.columns import BytesColumn
from models.contract.events import Event
from models.contract.ids import hash_ids
from models.contract.schema import CategoricalFeature, NumericFeature, Schema
from models.contract.state import DAY_MS, Limits, UserState, pack, unpack
from models.contract.state_parts import apply, empty
from models.data.dataset import Dataset, Interactions, Splits
from models.data.report import Report
from models.states import UserStates

NUM_USERS, NUM_ITEMS, NUM_ROWS = 300, 40, 6_000
START_MS = 18_000 * DAY_MS
END_MS = START_MS + 60 * DAY_MS
SHIFT_MS = 1_000 * DAY_MS
NOW_MS = END_MS + SHIFT_MS + 1000
SCHEMA = Schema(
    event_types=["click", "purchase"],
    seen_types=["purchase"],
    user_features=[
        NumericFeature(name="age", mean=40.0, std=8.0),
        CategoricalFeature(name="city", vocabulary=["Bern", "Zürich"]),
    ],
    history_limit=15,
    seen_limit=10,
)
LIMITS = Limits.of(SCHEMA)


def make_dataset(fingerprint: str = "a" * 64, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    names = np.array([f"item {i}" for i in range(NUM_ITEMS)])
    hashes = hash_ids(names)
    names, hashes = names[np.argsort(hashes)], np.sort(hashes)
    rows = np.array(
        sorted(
            zip(
                rng.integers(0, NUM_USERS - 1, NUM_ROWS),  # the last user has no interaction
                START_MS + rng.integers(0, 60 * 24, NUM_ROWS) * 3_600_000,
                rng.integers(0, NUM_ITEMS, NUM_ROWS),
                rng.integers(0, 2, NUM_ROWS),
                strict=True,
            )
        )
    )
    return Dataset(
        schema=SCHEMA,
        splits=Splits(START_MS, START_MS + 20 * DAY_MS, START_MS + 40 * DAY_MS, END_MS),
        fingerprint=fingerprint,
        interactions=Interactions(
            rows[:, 0].astype(np.int32),
            rows[:, 2].astype(np.int32),
            rows[:, 1],
            rows[:, 3].astype(np.uint8),
            np.ones(NUM_ROWS, np.float32),
            {},
        ),
        part=np.zeros(NUM_ROWS, np.uint8),
        item_ids=BytesColumn.of(name.encode() for name in names),
        item_hashes=hashes,
        item_categorical=np.zeros((NUM_ITEMS, 0), np.int32),
        item_numeric=np.zeros((NUM_ITEMS, 0), np.float32),
        user_ids=BytesColumn.of(f"u{user:03d}".encode() for user in range(NUM_USERS)),
        user_categorical=(np.arange(NUM_USERS, dtype=np.int32) % 3)[:, None],
        user_numeric=np.full((NUM_USERS, 1), 0.5, np.float32),
        item_fields={},
        item_filters={},
        report=Report.model_construct(),
        folder=Path(),
    )


DATASET = make_dataset()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        yield client


def load(url: str, prefix: str, dataset: Dataset = DATASET, shift_ms: int = SHIFT_MS) -> str:
    quiet = Console(file=io.StringIO())
    return describe(load_users(dataset, url, shift_ms=shift_ms, prefix=prefix, console=quiet))


def stored(client: redis.Redis, prefix: str, user: str) -> UserState | None:
    raw = client.get(Keys(prefix).state(user))
    assert raw is None or isinstance(raw, bytes)
    return None if raw is None else unpack(raw)


def all_states(client: redis.Redis, prefix: str) -> list[bytes]:
    return [client.get(Keys(prefix).state(f"u{user:03d}")) for user in range(NUM_USERS)]


def live_event(store: FeatureStore, now_ms: int = NOW_MS, **fields: object) -> None:
    given = {"user_id": "u007", "item_id": "new item", "event_type": "purchase", "time": now_ms, **fields}
    [result] = asyncio.run(_apply(store, Event.model_validate(given), now_ms))
    assert result == "accepted"


async def _apply(store: FeatureStore, event: Event, now_ms: int) -> list[str]:
    results = await store.apply([event], SCHEMA, now_ms)
    await store.aclose()
    return [result.status for result in results]


@pytest.fixture
def live(redis_url: str, key_prefix: str) -> FeatureStore:
    settings = StoreSettings(prefix=key_prefix, read_timeout_s=5, write_timeout_s=5)
    return asyncio.run(FeatureStore.connect(redis_url, settings))


def reference(user: int, shift_ms: int = SHIFT_MS) -> UserState:
    """The user's log, shifted and applied one event at a time."""
    state, rows = empty(), DATASET.interactions
    for row in np.flatnonzero(rows.user_index == user):
        kind = SCHEMA.event_types[rows.event_type[row]]
        state = apply(
            state,
            time_ms=int(rows.time_ms[row]) + shift_ms,
            item_id=DATASET.item_ids[int(rows.item_index[row])].decode(),
            event_type=kind,
            seen=kind == "purchase",
            limits=LIMITS,
        )
    return state


def test_every_user_gets_history_counts_and_features(redis_url: str, key_prefix: str, client: redis.Redis) -> None:
    """The loaded arrays are what applying the log one by one gives; features come by name, in their own unit."""
    assert load(redis_url, key_prefix) == "loaded 300 users"
    for user in (0, 7, NUM_USERS - 1):
        state, expected = stored(client, key_prefix, f"u{user:03d}"), reference(user)
        assert state is not None
        assert state.history_ids == expected.history_ids
        assert state.history_times_ms.tolist() == expected.history_times_ms.tolist()
        assert state.seen_hashes.tolist() == expected.seen_hashes.tolist()
        assert state.seen_times_s.tolist() == expected.seen_times_s.tolist()
        assert state.counters.tolist() == expected.counters.tolist()
        city = {"city": (["Bern", "Zürich"][user % 3 - 1], END_MS - 1 + SHIFT_MS)} if user % 3 else {}
        assert state.features == {"age": (44.0, END_MS - 1 + SHIFT_MS), **city}


def test_every_byte_is_that_of_the_state_built_alone(redis_url: str, key_prefix: str, client: redis.Redis) -> None:
    """Of all users, also where the load ends before the data does."""
    end_ms = END_MS - 30 * DAY_MS
    tag, states = load_tag(DATASET, SHIFT_MS, end_ms), UserStates(DATASET, SHIFT_MS)
    quiet = Console(file=io.StringIO())
    load_users(DATASET, redis_url, shift_ms=SHIFT_MS, before_ms=end_ms, prefix=key_prefix, console=quiet)
    assert all_states(client, key_prefix) == [pack(states.at(user, end_ms, tag)) for user in range(NUM_USERS)]


def test_loading_again_changes_nothing(redis_url: str, key_prefix: str, client: redis.Redis) -> None:
    load(redis_url, key_prefix)
    before = all_states(client, key_prefix)
    assert load(redis_url, key_prefix) == "nothing to load: all 300 users were loaded before"
    assert all_states(client, key_prefix) == before


def test_an_interrupted_load_goes_on_where_it_stopped(
    redis_url: str, key_prefix: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after 200 users, the next run counts 192 (three full batches) as done and loads the others; the cursor
    stands at the second of them."""

    def interrupted(dataset: Dataset, **named: int) -> Iterator[tuple[str, bytes]]:
        for number, state in enumerate(packed_states(dataset, **named)):
            if number == 200:
                raise KeyboardInterrupt
            yield state

    monkeypatch.setattr("cli.load_users.packed_states", interrupted)
    monkeypatch.setattr("app.feature_store.load.BATCH", 64)
    monkeypatch.setattr("app.feature_store.load.MARK_EVERY", 2)
    with pytest.raises(KeyboardInterrupt):
        load(redis_url, key_prefix)
    monkeypatch.undo()
    assert client.hget(Keys(key_prefix).load_cursor(), "done") == b"128"
    assert load(redis_url, key_prefix) == "loaded 108 users, 192 were loaded before"
    assert None not in all_states(client, key_prefix)


def test_a_lost_cursor_only_costs_time(redis_url: str, key_prefix: str, client: redis.Redis) -> None:
    """A batch that was written before its cursor was is recognised by the states' load tag."""
    load(redis_url, key_prefix)
    before = all_states(client, key_prefix)
    [cursor] = client.keys(f"{key_prefix}:load:*")
    client.delete(cursor)
    assert load(redis_url, key_prefix) == "nothing to load: all 300 users were loaded before"
    assert all_states(client, key_prefix) == before


def test_an_event_before_the_load_is_kept(
    redis_url: str, key_prefix: str, client: redis.Redis, live: FeatureStore
) -> None:
    """The user has the loaded log and the live event, as if all had been applied."""
    live_event(live)
    assert load(redis_url, key_prefix) == "loaded 299 users, joined 1 to events that were in the store"
    state = stored(client, key_prefix, "u007")
    expected = apply(reference(7), time_ms=NOW_MS, item_id="new item", event_type="purchase", seen=True, limits=LIMITS)
    assert state is not None
    assert state.features["age"][0] == 44.0
    assert bare(state) == pack(expected)


def test_an_event_between_two_loads_is_kept(
    redis_url: str, key_prefix: str, client: redis.Redis, live: FeatureStore
) -> None:
    """Of newer data the log replaces the older one; the live event, later than both, stays."""
    load(redis_url, key_prefix, make_dataset("b" * 64, seed=1))
    live_event(live)
    assert load(redis_url, key_prefix) == "joined 300 to events that were in the store"
    state = stored(client, key_prefix, "u007")
    expected = apply(reference(7), time_ms=NOW_MS, item_id="new item", event_type="purchase", seen=True, limits=LIMITS)
    assert state is not None
    assert bare(state) == pack(expected)


def test_an_event_stays_when_the_clock_shift_grows(
    redis_url: str, key_prefix: str, client: redis.Redis, live: FeatureStore
) -> None:
    """The data, moved on by days, now reaches past the live event; after each further move it is still there."""
    load(redis_url, key_prefix)
    live_event(live, NOW_MS + 2 * DAY_MS)
    for days in (7, 10, 3):
        load(redis_url, key_prefix, shift_ms=SHIFT_MS + days * DAY_MS)
        state = stored(client, key_prefix, "u007")
        expected = apply(
            reference(7, SHIFT_MS + days * DAY_MS),
            time_ms=NOW_MS + 2 * DAY_MS,
            item_id="new item",
            event_type="purchase",
            seen=True,
            limits=LIMITS,
        )
        assert state is not None
        assert bare(state) == pack(expected)


def test_an_archived_event_stays_when_the_clock_shift_grows(
    redis_url: str, key_prefix: str, client: redis.Redis, live: FeatureStore
) -> None:
    """It has left the stream and is not in this data yet; it came after the end of the load before."""
    load(redis_url, key_prefix)
    live_event(live, NOW_MS + 2 * DAY_MS)
    client.delete(Keys(key_prefix).events(partition("u007")))
    load(redis_url, key_prefix, shift_ms=SHIFT_MS + 7 * DAY_MS)
    state = stored(client, key_prefix, "u007")
    assert state is not None
    assert "new item" in state.history_ids


def test_an_event_of_a_time_before_the_datas_end_is_kept(
    redis_url: str, key_prefix: str, client: redis.Redis, live: FeatureStore
) -> None:
    """Sent late, it lies among the loaded ones; the next load takes it from the stream."""
    load(redis_url, key_prefix, make_dataset("b" * 64, seed=1))
    late_ms = NOW_MS - DAY_MS // 2
    live_event(live, time=late_ms)
    load(redis_url, key_prefix)
    state = stored(client, key_prefix, "u007")
    expected = apply(reference(7), time_ms=late_ms, item_id="new item", event_type="purchase", seen=True, limits=LIMITS)
    assert state is not None
    assert bare(state) == pack(expected)


def test_an_earlier_data_set_or_shift_can_be_loaded_again(redis_url: str, key_prefix: str, client: redis.Redis) -> None:
    """Each state is as after the first load, whatever was loaded in between."""
    load(redis_url, key_prefix)
    before = all_states(client, key_prefix)
    for other, shift_ms in ((make_dataset("b" * 64, seed=1), SHIFT_MS), (DATASET, SHIFT_MS + 7 * DAY_MS)):
        load(redis_url, key_prefix, other, shift_ms)
        assert all_states(client, key_prefix) != before
        assert load(redis_url, key_prefix) == "joined 300 to events that were in the store"
        assert all_states(client, key_prefix) == before


def test_an_event_in_both_the_data_and_the_store_counts_once(
    redis_url: str, key_prefix: str, client: redis.Redis, live: FeatureStore
) -> None:
    """A live event that the archive brought into the data is one event, not two."""
    last = int(np.flatnonzero(DATASET.interactions.user_index == 7)[-1])
    live_event(
        live,
        time=None,
        item_id=DATASET.item_ids[int(DATASET.interactions.item_index[last])].decode(),
        event_type=SCHEMA.event_types[DATASET.interactions.event_type[last]],
    )
    raw = stored(client, key_prefix, "u007")
    assert raw is not None
    # the same event at the moment the data has it for
    moved = apply(
        empty(),
        time_ms=int(DATASET.interactions.time_ms[last]) + SHIFT_MS,
        item_id=raw.history_ids[0],
        event_type=SCHEMA.event_types[DATASET.interactions.event_type[last]],
        seen=SCHEMA.event_types[DATASET.interactions.event_type[last]] == "purchase",
        limits=LIMITS,
    )
    client.set(Keys(key_prefix).state("u007"), pack(moved))
    load(redis_url, key_prefix)
    state = stored(client, key_prefix, "u007")
    assert state is not None
    assert bare(state) == pack(reference(7))


def test_an_erased_user_is_not_brought_back(
    redis_url: str, key_prefix: str, client: redis.Redis, live: FeatureStore
) -> None:
    async def erase() -> None:
        await live.erase_user("u007")
        await live.aclose()

    asyncio.run(erase())
    assert load(redis_url, key_prefix) == "loaded 299 users, left out 1 that were erased"
    assert stored(client, key_prefix, "u007") is None


def test_no_redis_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FeatureStoreUnavailable, match="run the command again"):
        load(f"unix://{tmp_path}/none.sock", f"test-{secrets.token_hex(8)}")


def test_times_that_the_state_cannot_hold_are_refused(redis_url: str, key_prefix: str) -> None:
    with pytest.raises(ValueError, match="is it in milliseconds"):
        load_users(DATASET, redis_url, shift_ms=-END_MS, prefix=key_prefix, console=Console(file=io.StringIO()))


def bare(state: UserState) -> bytes:
    """Packed without what only a load writes: the tag and the features."""
    raw = pack(state)
    end = len(raw) - len(state.features_json)
    return raw[:20] + bytes(12) + raw[32:end]
