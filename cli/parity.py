"""The same users twice: by the offline evaluation, and through the service's own Recommender with a real feature
store, an injected clock and no deadline. Both must give the same lists, or the figures are not those of the service."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from app.engine import Engine
from app.feature_store.connection import StoreSettings
from app.feature_store.embedded import EmbeddedRedis
from app.feature_store.load import LoadJob, load_states
from app.feature_store.store import FeatureStore
from app.opening import open_engine
from app.recommender import Recommender
from app.settings import Settings
from app.wire import Recommendation, RecommendRequest
from export.offline import BundleSystem
from models.contract.state import pack
from models.data.dataset import Dataset
from models.states import UserStates
from models.targets import MODES, Mode

K = 10
MIN_EQUAL = 0.999
AT_ONCE = 64
TAG = 1  # of the load into a store that nobody else uses
STORE = StoreSettings(read_timeout_s=10.0, write_timeout_s=10.0)


class ParityError(Exception):
    """The service does not answer what the evaluation measured."""


@dataclass(frozen=True, slots=True)
class Parity:
    """equal: share of the lists that are the same, in order.  lists: how many were compared."""

    equal: float
    lists: int


def check_parity(dataset: Dataset, bundle: Path, system: BundleSystem, users: NDArray[np.int64]) -> Parity:
    """Compare the first K items for these users in both modes. Raises ParityError when fewer than MIN_EQUAL agree, or
    when any answer was degraded."""
    engine = open_engine(bundle, 0)
    shift_ms = engine.bundle.manifest.clock_shift_ms
    with _store_url(dataset, users.tolist(), system.split_ms, shift_ms) as url:
        answers = asyncio.run(_ask(engine, dataset, users.tolist(), url, system.split_ms + shift_ms))
    same, different = 0, []
    for mode in MODES:
        expected = system(users, mode, K)
        for user, items, answer in zip(users.tolist(), expected, answers[mode], strict=True):
            if answer["degraded"]:
                raise ParityError(f"the answer to user {user} was degraded: {', '.join(answer['degraded'])}")
            ids = [engine.bundle.items.item_id(item) for item in items[items >= 0].tolist()]
            if ids == [item["item_id"] for item in answer["items"]]:
                same += 1
            else:
                different.append((dataset.user_ids[user].decode(), mode))
    found = Parity(same / (same + len(different)), same + len(different))
    if found.equal < MIN_EQUAL:
        raise ParityError(
            f"only {found.equal:.2%} of {found.lists} lists agree between evaluation and service; "
            f"the first that differ: {different[:5]}"
        )
    return found


@contextmanager
def _store_url(dataset: Dataset, users: Sequence[int], before_ms: int, shift_ms: int) -> Iterator[str]:
    """A feature store of its own with these users as of before_ms."""
    states = UserStates(dataset, shift_ms)

    def packed(start: int) -> Iterator[tuple[str, bytes]]:
        return ((dataset.user_ids[user].decode(), pack(states.at(user, before_ms, TAG))) for user in users[start:])

    with TemporaryDirectory() as folder, EmbeddedRedis(Path(folder)) as redis:
        load_states(redis.url, LoadJob(packed, len(users), TAG, before_ms + shift_ms, dataset.schema))
        yield redis.url


async def _ask(
    engine: Engine, dataset: Dataset, users: Sequence[int], url: str, now_ms: int
) -> dict[Mode, list[Recommendation]]:
    store = await FeatureStore.connect(url, STORE)
    recommender = Recommender(lambda: engine, store, Settings(deadline_ms=None), now_ms=lambda: now_ms)
    answers: dict[Mode, list[Recommendation]] = {mode: [] for mode in MODES}
    try:
        for mode in MODES:
            for start in range(0, len(users), AT_ONCE):
                asked = [
                    RecommendRequest(user_id=dataset.user_ids[user].decode(), k=K, include_seen=mode == "all")
                    for user in users[start : start + AT_ONCE]
                ]
                found = await asyncio.gather(*(recommender.recommend(request) for request in asked))
                answers[mode] += [one.decoded() for one in found]
    finally:
        recommender.close()
        await store.aclose()
    return answers
