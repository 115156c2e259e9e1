"""The loop closed: what /events took comes back as training data, each event once and at the data's own time."""

import asyncio
import io
import secrets
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from planted import DAY_MS, NUM_DAYS, START_MS, write_planted
from rich.console import Console

from app.feature_store.keys import Keys
from app.feature_store.store import FeatureStore, StoreSettings
from cli.archive import archive_events
from cli.export import _clock_shift_ms
from cli.load_users import load_users
from models.contract.archive import FOLDER
from models.contract.events import Event
from models.contract.schema import Schema
from models.contract.state import UserState, unpack
from models.data.config import Config, load_config
from models.data.dataset import Dataset, load_dataset
from models.data.errors import BadRowsError, SourceError
from models.data.prepare import Prepared, prepare_dataset

END_MS = START_MS + NUM_DAYS * DAY_MS  # of the planted data, in its own time
SHIFT_MS = 900 * DAY_MS
SCHEMA = Schema(event_types=["click", "purchase", "view"], seen_types=["purchase"], event_context=["basket", "store"])

Row = tuple[str, str, int, str, float, str | None]  # user, item, time in ms, type, value, store


@dataclass(frozen=True, slots=True)
class Shop:
    """A planted shop with its data folder and a real store under a prefix of its own."""

    config: Config
    data_dir: Path
    redis_url: str
    prefix: str

    def post(self, events: list[Event], now_ms: int, shift_ms: int = SHIFT_MS) -> list[str]:
        """What became of the events, sent to the store while a bundle of this clock shift is active."""
        return asyncio.run(self._post(events, now_ms, shift_ms))

    async def _post(self, events: list[Event], now_ms: int, shift_ms: int) -> list[str]:
        settings = StoreSettings(prefix=self.prefix, write_timeout_s=5.0)
        store = await FeatureStore.connect(self.redis_url, settings)
        results = await store.apply(events, SCHEMA, now_ms, shift_ms)
        await store.aclose()
        return [result.status for result in results]

    def erase(self, user: str) -> None:
        async def run() -> None:
            store = await FeatureStore.connect(self.redis_url, StoreSettings(prefix=self.prefix, write_timeout_s=5.0))
            await store.erase_user(user)
            await store.aclose()

        asyncio.run(run())

    def state(self, user: str) -> UserState:
        with redis.Redis.from_url(self.redis_url, protocol=2) as client:
            raw: Any = client.get(Keys(self.prefix).state(user))
        state = unpack(raw)
        assert state is not None
        return state

    def archive(self) -> int:
        folder = self.data_dir / FOLDER
        return archive_events(self.redis_url, folder, context=["basket", "store"], prefix=self.prefix).events

    def prepare(self) -> Prepared:
        return prepare_dataset(self.config, self.data_dir)


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Shop:
    config = load_config(write_planted(tmp_path / "source").config)
    return Shop(config, tmp_path / "data", redis_url, f"test-{secrets.token_hex(8)}")


def event(user: str, item: str, time_ms: int, event_type: str = "purchase", store: str | None = None) -> Event:
    """time_ms: in the data's time; it is sent at the live time."""
    return Event(
        user_id=user,
        item_id=item,
        event_type=event_type,
        event_id=f"{user}-{item}-{time_ms}",
        time=time_ms + SHIFT_MS,
        value=2.5 if event_type == "purchase" else None,
        context={"store": store} if store else {},
    )


def rows(dataset: Dataset, since_ms: int = END_MS) -> Counter[Row]:
    """Interactions of the dataset from a moment on, by external names."""
    late = dataset.interactions.between(since_ms, dataset.splits.end_ms)
    stores = next(f for f in dataset.schema.context_features if f.name == "store").vocabulary
    return Counter(
        (
            dataset.user_ids[user].decode(),
            dataset.item_ids[item].decode(),
            time_ms,
            dataset.schema.event_types[kind],
            value,
            stores[store - 1] if store else None,
        )
        for user, item, time_ms, kind, value, store in zip(
            late.user_index.tolist(),
            late.item_index.tolist(),
            late.time_ms.tolist(),
            late.event_type.tolist(),
            late.value.tolist(),
            late.context["store"].tolist(),
            strict=True,
        )
    )


def lines(prepared: Prepared) -> dict[str, str]:
    return dict(prepared.report.lines())


def test_events_come_back_once_at_the_time_of_the_data(shop: Shop) -> None:
    """Known and new users and items, every type, contexts; an event sent twice is one; nothing else changes."""
    before = load_dataset(shop.prepare().folder)
    plain_rows = rows(before, 0)
    assert before.report.clock_shift_ms is None
    assert not any(name.startswith("archived") for name, _ in before.report.lines())
    sent = [
        event("u000", "i001", END_MS + 5, store="s3"),
        event("u000", "i001", END_MS + 6, "click"),
        event("new user", "i002", END_MS + 7, "view", store="never seen"),
        event("u001", "item of no table", END_MS + 8),
    ]
    assert shop.post(sent, END_MS + SHIFT_MS + 10) == ["accepted"] * 4
    assert shop.post(sent[:1], END_MS + SHIFT_MS + 10) == ["duplicate"]
    assert shop.archive() == 4

    prepared = shop.prepare()
    after = load_dataset(prepared.folder)
    assert rows(after) == Counter(
        [
            ("u000", "i001", END_MS + 5, "purchase", 2.5, "s3"),
            ("u000", "i001", END_MS + 6, "click", 0.0, None),
            ("new user", "i002", END_MS + 7, "view", 0.0, None),  # a store first seen in the test window has no code
        ]
    ), "an item that nobody met before the test window is left out by min_users = 1, as any such item"
    assert rows(after, 0) - rows(after) == plain_rows
    assert after.splits.end_ms == END_MS + 9
    assert after.report.clock_shift_ms == SHIFT_MS
    assert after.schema.event_types == before.schema.event_types
    assert lines(prepared)["archived events: rows read"] == "4"
    assert lines(prepared)["interactions left out with them"] == "1"


def test_a_second_archive_and_preparation_change_nothing(shop: Shop) -> None:
    """Nor does an archive that someone copied a file of; new events are added to the old, and noticed."""
    shop.post([event("u000", "i001", END_MS + 5)], END_MS + SHIFT_MS + 10)
    shop.archive()
    first = shop.prepare()
    fingerprint = load_dataset(first.folder).fingerprint
    assert shop.archive() == 0
    again = shop.prepare()
    assert (first.reused, again.reused) == (False, True)
    assert again.report == first.report

    folder = shop.data_dir / FOLDER
    shutil.copy(folder / "events-00000001.parquet", folder / "events-00000000.parquet")
    copied = shop.prepare()
    assert not copied.reused
    assert load_dataset(copied.folder).fingerprint == fingerprint

    shop.post([event("u002", "i003", END_MS + 20)], END_MS + SHIFT_MS + 30)
    shop.archive()
    more = shop.prepare()
    assert not more.reused
    assert len(rows(load_dataset(more.folder))) == 2
    assert shop.prepare().reused


def test_loading_the_data_that_holds_them_changes_no_users_state(shop: Shop) -> None:
    """The whole circle: users are loaded at the shift, act, are archived, prepared, and loaded again. An event that is
    in the data now is the one that was in the state: nothing counts twice, nothing is lost."""

    def load() -> None:
        dataset = load_dataset(shop.prepare().folder)
        shift = _clock_shift_ms(dataset, END_MS + SHIFT_MS)
        assert shift == SHIFT_MS
        quiet = Console(file=io.StringIO())
        load_users(dataset, shop.redis_url, shift_ms=shift, prefix=shop.prefix, console=quiet)

    load()
    events = [event("u000", "i001", END_MS + n * 1000, "click" if n % 2 else "purchase") for n in range(5)]
    shop.post(events, END_MS + SHIFT_MS + 10_000)
    before = shop.state("u000")
    assert int(before.history_times_ms[-1]) == END_MS + SHIFT_MS + 4000
    shop.archive()
    shop.post([event("u000", "i002", END_MS + 9000)], END_MS + SHIFT_MS + 10_000)  # not archived yet
    with_latest = shop.state("u000")
    load()
    after = shop.state("u000")
    assert after.load_tag != before.load_tag
    for name in ("history_times_ms", "history_hashes", "history_types", "seen_hashes", "seen_times_s", "counters"):
        assert np.array_equal(getattr(after, name), getattr(with_latest, name)), name


def test_each_event_goes_back_by_the_shift_it_was_taken_at(shop: Shop) -> None:
    """Two bundles of different clock shifts, one archive run after both: both events get the data's time."""
    shop.post([event("u000", "i001", END_MS + 5)], END_MS + SHIFT_MS + 10)
    later = event("u001", "i002", END_MS + 6).model_copy(update={"time": END_MS + 6 + 2 * SHIFT_MS})
    shop.post([later], END_MS + 2 * SHIFT_MS + 10, shift_ms=2 * SHIFT_MS)
    shop.archive()
    dataset = load_dataset(shop.prepare().folder)
    assert sorted(time_ms for _, _, time_ms, *_ in rows(dataset)) == [END_MS + 5, END_MS + 6]
    assert dataset.report.clock_shift_ms == 2 * SHIFT_MS


def test_an_erased_user_is_in_no_later_dataset(shop: Shop) -> None:
    """Gone from the archive and from what is prepared of it; lines of the team's own files are the team's."""
    shop.post([event(user, "i001", END_MS + 5) for user in ("guest", "u000")], END_MS + SHIFT_MS + 10)
    shop.archive()
    assert {row[0] for row in rows(load_dataset(shop.prepare().folder))} == {"guest", "u000"}
    shop.erase("guest")
    shop.erase("u000")
    shop.archive()
    dataset = load_dataset(shop.prepare().folder)
    users = [dataset.user_ids[user].decode() for user in range(dataset.num_users)]
    assert rows(dataset) == Counter()
    assert "guest" not in users
    assert "u000" in users
    assert dataset.report.clock_shift_ms is None


def write_archive(shop: Shop, **columns: object) -> None:
    """One archive file by hand, of one event, with columns changed."""
    one: dict[str, object] = {
        "user_id": "u000",
        "item_id": "i001",
        "timestamp": END_MS + 5,
        "event_type": "purchase",
        "value": 1.0,
        "recommendation_id": None,
        "position": None,
        "event_id": None,
        "clock_shift_ms": 0,
        "stream_id": "1-0",
    }
    table = pa.table({name: pa.array([value]) for name, value in (one | columns).items()})
    times = table["timestamp"].cast(pa.timestamp("ms"))
    (shop.data_dir / FOLDER).mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table.set_column(table.schema.get_field_index("timestamp"), "timestamp", times),
        shop.data_dir / FOLDER / "events-00000001.parquet",
    )


def test_an_event_type_that_nobody_declared_is_one_type_more(shop: Shop) -> None:
    """It cannot come through /events; an archive of another time may hold it."""
    write_archive(shop, event_type="wished for")
    dataset = load_dataset(shop.prepare().folder)
    assert dataset.schema.event_types == ["click", "purchase", "view", "wished for"]
    assert [row[3] for row in rows(dataset)] == ["wished for"]


def test_an_archive_with_other_contexts_can_be_read(shop: Shop) -> None:
    """No file has the column that the data declares, and one has a column that it does not."""
    write_archive(shop, weather="rain")
    assert [row[5] for row in rows(load_dataset(shop.prepare().folder))] == [None]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"user_id": ""}, "user_id is empty"),
        ({"item_id": "x" * 129}, "item_id over 128 characters"),
        ({"timestamp": END_MS, "clock_shift_ms": END_MS + 1}, "timestamp missing"),
        ({"value": np.inf}, "value is not a finite number"),
    ],
)
def test_bad_archived_rows_are_judged_as_the_teams_own(shop: Shop, columns: dict[str, object], reason: str) -> None:
    write_archive(shop, **columns)
    with pytest.raises(BadRowsError, match=rf"archive: 1 of 1 rows .*{reason}"):
        shop.prepare()


def test_a_file_that_is_no_archive_is_named(shop: Shop) -> None:
    (shop.data_dir / FOLDER).mkdir(parents=True)
    (shop.data_dir / FOLDER / "events-00000001.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(SourceError, match=r"events-00000001.parquet: is damaged or no archive of events"):
        shop.prepare()
