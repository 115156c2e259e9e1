"""One implementation of features: 1,000 moments of the past, through the real feature store and from the prepared data.

The planted shop's users are loaded as of the twentieth day, with their static features. From then on their events are
sent one by one, each at its own moment of an injected clock. At 1,000 moments the state is read back, and what the
ranker would get equals, bit for bit, what its training matrix holds for that user and moment.
"""

import asyncio
import io
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from planted import START_MS, write_planted
from rich.console import Console

from app.feature_store.store import FeatureStore, StoreSettings
from cli.load_users import load_users
from models.baselines import most_popular
from models.contract.candidates import NUM_RANKED, USER_VECTOR, Candidates, from_history, merge
from models.contract.events import Event
from models.contract.features import DAY_MS, ItemTables, cross_features, user_features
from models.contract.history import find_items, read_history, tower_input
from models.contract.state import UserState
from models.data.config import load_config
from models.data.dataset import Dataset, load_dataset
from models.data.prepare import prepare_dataset
from models.neighbours import item_neighbours
from models.offline import Retrieval, UserMoment, candidates, exact_nearest, ranker_input, user_vectors
from models.states import UserStates

NUM_MOMENTS = 1000
LOADED_UNTIL_MS = START_MS + 20 * DAY_MS
SHIFT_MS = 700 * DAY_MS  # a bundle's clock shift is whole days
HISTORY_LENGTH = 20
LIMITS = "\n[state]\nhistory_limit = 30\nseen_limit = 12\n"  # low, so that both are reached

Features = tuple[NDArray[np.int64], NDArray[np.float32], Candidates, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Moment:
    """A request at a moment of the data's time; half of them bring a context."""

    user: int
    time_ms: int
    context: dict[str, str]
    include_seen: bool


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The planted shop; every fifth line is a view, and some items are viewed and bought at one time."""
    folder = tmp_path_factory.mktemp("shop")
    config = write_planted(folder).config
    config.write_text(config.read_text().replace('value = "price"', 'value = "price"\nevent_type = "type"') + LIMITS)
    log = pq.read_table(folder / "interactions.parquet")
    rng = np.random.default_rng(0)
    types = np.where(rng.random(len(log)) < 0.2, "view", "purchase")
    twice = log.filter(pa.array((types == "purchase") & (rng.random(len(log)) < 0.1)))
    log = log.append_column("type", pa.array(types))
    log = pa.concat_tables([log, twice.append_column("type", pa.array(["view"] * len(twice)))])
    pq.write_table(log, folder / "interactions.parquet")
    return load_dataset(prepare_dataset(load_config(config), folder / "data").folder)


@pytest.fixture(scope="module")
def retrieval(dataset: Dataset) -> Retrieval:
    """Fixed random vectors, and real tables of what came before the replay."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(dataset.num_items, 8)).astype(np.float32)
    rows = np.vstack([np.zeros((1, 8), np.float32), vectors])

    def tower(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        weights = (1 / np.maximum(inputs["set_ordinal"], 1)).astype(np.float32)
        summed: NDArray[np.float32] = (rows[inputs["history"]] * weights[..., None]).sum(1)
        return summed

    past = dataset.interactions.before(LOADED_UNTIL_MS)
    neighbours, similarity = item_neighbours(past, dataset.num_users, dataset.num_items)
    affinity = np.ascontiguousarray(dataset.item_categorical[:, :1])
    assert [f.name for f in dataset.schema.categorical("item")][:1] == dataset.schema.affinity
    tables = ItemTables(neighbours, similarity, affinity)
    popular = most_popular(past, dataset.num_items, LOADED_UNTIL_MS)
    return Retrieval(tower, HISTORY_LENGTH, np.asarray(dataset.item_hashes), vectors, tables, popular)


@pytest.fixture(scope="module")
def moments(dataset: Dataset) -> list[Moment]:
    """At a basket's very time, just after one, and in between; none before the load."""
    rng = np.random.default_rng(2)
    rows = dataset.interactions
    baskets = np.unique(np.stack([rows.user_index, rows.time_ms], axis=1)[rows.time_ms >= LOADED_UNTIL_MS], axis=0)
    offsets = np.array([0, 1, 3_600_000, 40 * DAY_MS])
    drawn = baskets[rng.choice(len(baskets), NUM_MOMENTS, replace=False)]
    times = drawn[:, 1] + rng.choice(offsets, NUM_MOMENTS)
    contexts = [{"store": f"s{n % 5}"} if n % 2 else {} for n in range(NUM_MOMENTS)]
    return [
        Moment(int(user), int(time_ms), context, bool(n % 3))
        for n, (user, time_ms, context) in enumerate(zip(drawn[:, 0], times, contexts, strict=True))
    ]


def in_training(dataset: Dataset, retrieval: Retrieval, moments: list[Moment]) -> Iterator[Features]:
    """The rows of the training matrix."""
    states = UserStates(dataset)
    found = [states.at(moment.user, moment.time_ms) for moment in moments]
    whos = [
        UserMoment(state, read_history(state, dataset.item_hashes), moment.time_ms, moment.context)
        for state, moment in zip(found, moments, strict=True)
    ]
    vectors = user_vectors(dataset.schema, retrieval, whos)
    for who, vector, moment in zip(whos, vectors, moments, strict=True):
        brought = candidates(retrieval, who, vector, moment.include_seen)
        features, cross = ranker_input(dataset, retrieval, who, brought)
        yield features.categorical, features.numeric, brought, cross


def in_serving(dataset: Dataset, retrieval: Retrieval, state: UserState | None, moment: Moment) -> Features:
    """The stages of a request, on the service's clock."""
    assert state is not None
    now_ms, hashes = moment.time_ms + SHIFT_MS, dataset.item_hashes
    history = read_history(state, hashes)
    items, ordinals = tower_input(history, HISTORY_LENGTH)
    vector = retrieval.tower({"history": items[None], "set_ordinal": ordinals[None]})[0]
    allowed = np.ones(dataset.num_items, np.bool_)
    if not moment.include_seen:
        seen = find_items(hashes, state.seen_hashes)
        allowed[seen[seen >= 0]] = False
    sources = from_history(
        history, retrieval.tables, retrieval.popular, allowed, moment.include_seen, NUM_RANKED, now_ms
    )
    sources.append((USER_VECTOR, exact_nearest(retrieval.item_vectors, vector, allowed, NUM_RANKED)))
    found = merge(sources, vector, retrieval.item_vectors, NUM_RANKED)
    features = user_features(dataset.schema, state, history, moment.context, now_ms)
    return (
        features.categorical,
        features.numeric,
        found,
        cross_features(found.items, found.scores, history, retrieval.tables, now_ms),
    )


async def replay(
    dataset: Dataset, store: FeatureStore, user: int, moments: list[tuple[int, Moment]]
) -> list[tuple[int, UserState | None]]:
    """One user's log in the order of time, the lines of a basket in any order, and the states at the moments."""
    rows, offsets = dataset.interactions, dataset.interactions.user_offsets(dataset.num_users)
    own = np.arange(offsets[user], offsets[user + 1])
    own = own[rows.time_ms[own] >= LOADED_UNTIL_MS]
    baskets = np.split(own, np.flatnonzero(np.diff(rows.time_ms[own])) + 1)
    rng = np.random.default_rng([3, user])
    states = []
    for number, moment in sorted(moments, key=lambda entry: entry[1].time_ms):
        while baskets and len(baskets[0]) and rows.time_ms[baskets[0][0]] < moment.time_ms:
            basket = rng.permutation(baskets.pop(0))
            now_ms = int(rows.time_ms[basket[0]]) + SHIFT_MS
            results = await store.apply([event(dataset, row, now_ms) for row in basket], dataset.schema, now_ms)
            assert {result.status for result in results} == {"accepted"}
        states.append((number, await store.state(dataset.user_ids[user].decode())))
    return states


def event(dataset: Dataset, row: int, time_ms: int) -> Event:
    rows = dataset.interactions
    return Event(
        user_id=dataset.user_ids[rows.user_index[row]].decode(),
        item_id=dataset.item_ids[rows.item_index[row]].decode(),
        event_type=dataset.schema.event_types[rows.event_type[row]],
        time=time_ms,
    )


async def replay_all(dataset: Dataset, url: str, prefix: str, moments: list[Moment]) -> list[UserState | None]:
    """The states at the moments, in their order."""
    store = await FeatureStore.connect(url, StoreSettings(prefix=prefix, read_timeout_s=10.0, write_timeout_s=30.0))
    of_user: dict[int, list[tuple[int, Moment]]] = {}
    for number, moment in enumerate(moments):
        of_user.setdefault(moment.user, []).append((number, moment))
    found = await asyncio.gather(*(replay(dataset, store, user, own) for user, own in of_user.items()))
    await store.aclose()
    by_number = dict(entry for states in found for entry in states)
    return [by_number[number] for number in range(len(moments))]


def test_a_thousand_moments_give_the_features_of_the_training_matrix(
    dataset: Dataset, retrieval: Retrieval, moments: list[Moment], redis_url: str
) -> None:
    prefix = f"test-{secrets.token_hex(8)}"
    quiet = Console(file=io.StringIO())
    load_users(dataset, redis_url, shift_ms=SHIFT_MS, before_ms=LOADED_UNTIL_MS, prefix=prefix, console=quiet)
    states = asyncio.run(replay_all(dataset, redis_url, prefix, moments))
    trained = list(in_training(dataset, retrieval, moments))
    evicted = 0
    for moment, state, expected in zip(moments, states, trained, strict=True):
        served = in_serving(dataset, retrieval, state, moment)
        for name, one, other in zip(("categories", "numbers", "candidates", "cross"), served, expected, strict=True):
            if isinstance(one, Candidates) and isinstance(other, Candidates):
                assert np.array_equal(one.items, other.items), (name, moment)
                assert np.array_equal(one.scores, other.scores), (name, moment)
            else:
                assert np.array_equal(one, other), (name, moment)
        evicted += state is not None and state.seen_evicted
    cross = np.concatenate([row[3] for row in trained])
    assert len(trained) == NUM_MOMENTS
    assert evicted > 100, "limits are reached, or this test says nothing of them"
    assert (cross.std(axis=0) > 0).all(), "every feature varies, or its equality says nothing"
