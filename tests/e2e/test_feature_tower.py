"""A user tower that reads the user's features: served as it was measured, for users who have them, had them, or never
had any."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.call import Call
from app.engine import Engine
from app.flow import Flow
from app.opening import open_engine
from app.recommender import Recommender
from app.settings import Settings
from app.wire import RecommendRequest
from cli.parity import check_parity
from export.offline import BundleModels, BundleSystem, open_models
from export.run import build_content
from export.write import write_bundle
from models.contract.bundle import open_bundle
from models.data.config import load_config
from models.data.dataset import Dataset, load_dataset
from models.data.prepare import prepare_dataset
from models.offline import UserMoment, moments, user_vectors
from models.options import TrainSection, TwoTowerOptions
from models.ranking.options import RankerOptions
from models.run_log import Silent
from models.train import train
from models.trained import load_trained
from tests.planted import write_planted

DAY_MS = 86_400_000
TTL_DAYS = 30
OPTIONS = TrainSection(
    refit_share=0.0,
    retrieval=TwoTowerOptions(
        model="two_tower", dim=16, hidden=[32], history_length=20, max_steps=40, batch_size=256, learning_rate=1e-2
    ),
    ranker=RankerOptions(model="lr", windows=1, epochs=1, negatives=0),
)


@dataclass(frozen=True)
class Served:
    dataset: Dataset
    bundle: Path
    models: BundleModels
    engine: Engine


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("feature_tower")
    config = write_planted(folder).config
    config.write_text(config.read_text("utf-8") + f"\n[state]\nfeature_ttl_days = {TTL_DAYS}\n", "utf-8")
    dataset = load_dataset(prepare_dataset(load_config(config), folder / "data").folder)
    train(dataset, OPTIONS, folder / "models", Silent())
    trained = load_trained(dataset, OPTIONS, folder / "models", for_test=True)
    content = build_content(dataset, trained, code_version="test")
    bundle = write_bundle(folder / "bundles", content)
    return Served(dataset, bundle, open_models(dataset, open_bundle(bundle)), open_engine(bundle, 0))


def answered(served: Served, who: UserMoment | None, now_ms: int, request: RecommendRequest) -> Call:
    """One request through the flow, with this state in the feature store."""
    call = Call(request, served.engine, now_ms, 0.0, state=who.state if who else None)
    Flow(Settings(deadline_ms=None)).run([call])
    return call


def vector(call: Call) -> NDArray[np.float32]:
    assert call.user_vector is not None
    return call.user_vector


def test_the_service_gives_the_lists_of_the_evaluation(served: Served) -> None:
    """For users with features and without, in both modes, through a real feature store."""
    split_ms = served.dataset.splits.test_start_ms
    system = BundleSystem(served.models, split_ms, "ranking")
    found = check_parity(served.dataset, served.bundle, system, np.arange(0, 300, 3))
    assert found.lists == 200
    assert found.equal >= 0.999
    assert served.engine.tower_reads_features


def test_the_features_and_the_context_reach_the_tower(served: Served) -> None:
    """The vector served is the offline one of the same moment, and another context makes another."""
    now_ms = served.dataset.splits.test_start_ms
    [who] = moments(served.dataset, [4], now_ms)
    known = UserMoment(who.state, who.history, now_ms, {"store": "s1"})
    expected = user_vectors(served.dataset.schema, served.models.retrieval, [known, who])
    told = answered(served, who, now_ms, RecommendRequest(user_id="u004", k=5, context={"store": "s1"}))
    silent = answered(served, who, now_ms, RecommendRequest(user_id="u004", k=5))
    np.testing.assert_allclose([vector(told), vector(silent)], expected, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 0.01


def test_features_past_their_time_count_as_missing_in_the_tower_too(served: Served) -> None:
    """They are as old as the state; a user with the same history and no features has the same vector."""
    now_ms = served.dataset.splits.test_start_ms
    [who] = moments(served.dataset, [4], now_ms)
    assert who.state.features
    request = RecommendRequest(user_id="u004", k=5)
    fresh = answered(served, who, now_ms, request)
    expired = answered(served, who, now_ms + (TTL_DAYS + 1) * DAY_MS, request)
    assert expired.warnings
    assert expired.served_by == "ranking"
    without = replace(who, state=replace(who.state, features_json=b""))
    nameless = user_vectors(served.dataset.schema, served.models.retrieval, [without])
    np.testing.assert_allclose([vector(expired)], nameless, atol=1e-5)
    assert np.abs(vector(fresh) - vector(expired)).max() > 0.01


def test_an_unknown_user_with_a_history_in_the_request_is_served(served: Served) -> None:
    """No state, no feature, no store: a list of their own all the same, and another for another history."""

    async def ask() -> list[list[str]]:
        recommender = Recommender(
            lambda: served.engine, None, Settings(deadline_ms=None), now_ms=lambda: 1_720_000_000_000
        )
        try:
            requests = [RecommendRequest(history=history, k=10) for history in (["i001", "i013"], ["i002", "i014"])]
            answers = await asyncio.gather(*(recommender.recommend(request) for request in requests))
        finally:
            recommender.close()
        assert [answer.served_by for answer in answers] == ["ranking", "ranking"]
        assert [answer.degraded for answer in answers] == [[], []]
        return [[item["item_id"] for item in answer.decoded()["items"]] for answer in answers]

    one, other = asyncio.run(ask())
    assert len(one) == len(other) == 10
    assert one != other
