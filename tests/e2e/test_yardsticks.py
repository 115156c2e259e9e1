"""The services that Shortlist is compared with do what they say: their lists are those of a computation by hand."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench import implicit_service
from bench.kit import services
from bench.kit.cpu import usage
from bench.kit.naive_files import FOLDER
from bench.kit.naive_graphs import naive_folder
from bench.kit.processes import CannotRun
from bench.kit.services import Service
from bench.kit.worlds import World, build_world
from models.contract.features import cross_features, user_features
from models.contract.history import read_history
from models.contract.user_inputs import user_inputs
from models.contract.verify import verify_bundle
from models.data.dataset import Dataset, load_dataset
from models.offline import exact_nearest
from models.options import TrainSection
from models.ranking.inputs import item_codes
from models.ranking.samples import item_numbers
from models.retrieval.snapshot import snapshot
from models.states import UserStates
from models.trained import Trained, load_trained

K = 20
CONTEXT = {"device": "phone"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("yardsticks") / "world", 500, num_users=40, seed=3)


@pytest.fixture(scope="module")
def dataset(world: World) -> Dataset:
    return load_dataset(world.data_dir / "prepared")


def asked(service: Service, user_ids: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Each user's items."""
    with httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=30) as client:
        bodies = [{"user_id": user_id, "k": K, "context": CONTEXT} for user_id in user_ids]
        return [client.post("/recommend", json=body).raise_for_status().json()["items"] for body in bodies]


def scores_by_hand(dataset: Dataset, trained: Trained, shift_ms: int, user: int) -> NDArray[np.float32]:
    """Of every item, by torch: of the 200 nearest new ones the ranker's score, of all others minus infinity."""
    assert trained.ranker is not None
    now_ms = int(time.time() * 1000)
    retrieval = snapshot(dataset, trained.retrieval, trained.until_ms)
    state = UserStates(dataset, shift_ms).at(user, dataset.splits.end_ms)
    history = read_history(state, dataset.item_hashes)
    features = user_features(dataset.schema, state, history, CONTEXT, now_ms)
    inputs = user_inputs(retrieval.tower_inputs, retrieval.history_length, [history], [features])
    vector = retrieval.tower(inputs)[0]
    allowed = np.ones(dataset.num_items, np.bool_)
    allowed[history.items] = False
    items = exact_nearest(retrieval.item_vectors, vector, allowed, 200)
    cross = cross_features(items, retrieval.item_vectors[items] @ vector, history, retrieval.tables, now_ms)
    numbers = item_numbers(dataset, dataset.interactions.before(trained.until_ms), trained.until_ms)
    with torch.inference_mode():
        found = trained.ranker(
            torch.from_numpy(features.categorical[None]),
            torch.from_numpy(features.numeric[None]),
            item_codes(dataset)[items],
            torch.from_numpy(numbers[items]),
            torch.from_numpy(cross),
            torch.zeros(len(items), dtype=torch.int64),
        ).numpy()
    scores = np.full(dataset.num_items, -np.inf, np.float32)
    scores[items] = found
    return scores


def test_the_naive_service_gives_the_lists_of_the_trained_models(
    world: World, dataset: Dataset, tmp_path: Path
) -> None:
    options = TrainSection.model_validate_json((world.data_dir / "train" / "options.json").read_bytes())
    trained = load_trained(dataset, options, world.data_dir / "train", for_test=False)
    [bundle] = (world.data_dir / "bundles").glob("2*")
    shift_ms = verify_bundle(bundle).clock_shift_ms
    users = [0, 7, 39]
    with services.naive(world.data_dir, tmp_path / "naive.log") as service:
        lists = asked(service, [dataset.user_ids[user].decode() for user in users])
        assert sum(one.is_redis for one in usage(service.running.pids)) == 1
    index_of = {dataset.item_ids[item].decode(): item for item in range(dataset.num_items)}
    for user, listed in zip(users, lists, strict=True):
        wanted = scores_by_hand(dataset, trained, shift_ms, user)
        answered = [index_of[item["item_id"]] for item in listed]
        assert len(set(answered)) == K
        # a minute passes between the two, so features of time differ a little, and near ties may change places
        assert [item["score"] for item in listed] == pytest.approx(wanted[answered].tolist(), abs=2e-3)
        assert [item["score"] for item in listed] == pytest.approx(np.sort(wanted)[::-1][:K].tolist(), abs=2e-3)


def test_graphs_are_made_once_for_a_bundle(world: World) -> None:
    info = naive_folder(world.data_dir) / "info.json"
    made = info.stat().st_mtime_ns
    assert naive_folder(world.data_dir) == world.data_dir / FOLDER
    assert info.stat().st_mtime_ns == made


def test_without_an_active_bundle_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no active bundle in .*: run `shortlist export` first"):
        naive_folder(tmp_path)


def test_implicit_gives_the_largest_products_of_new_items(world: World, dataset: Dataset, tmp_path: Path) -> None:
    """The second start reads the factors that the first one learnt."""
    users = [0, 7, 39]
    starts = []
    for number in range(2):
        with services.implicit(world.data_dir, tmp_path / f"implicit-{number}.log") as service:
            starts.append(asked(service, [dataset.user_ids[user].decode() for user in users]))
            unknown = {"user_id": "nobody"}
            assert httpx.post(f"http://127.0.0.1:{service.port}/recommend", json=unknown).status_code == 404
    assert starts[0] == starts[1]
    [path] = (world.data_dir / implicit_service.FOLDER).glob("*.npz")
    with np.load(path) as stored:
        products = stored["users"] @ stored["items"].T
    for user, listed in zip(users, starts[0], strict=True):
        had = dataset.interactions.item_index[dataset.interactions.user_index == user]
        products[user, had] = -np.inf
        best = np.argsort(-products[user])[:K]
        assert [item["item_id"] for item in listed] == [dataset.item_ids[item].decode() for item in best]
        assert [item["score"] for item in listed] == pytest.approx(products[user, best].tolist(), rel=1e-4)


def test_shortlist_is_ready_when_all_its_workers_are(world: World, tmp_path: Path) -> None:
    """Its embedded Redis is counted apart, its supervisor and workers together."""
    with services.shortlist(world.data_dir, tmp_path / "serve.log", workers=2) as service:
        assert asked(service, ["somebody"])[0][0]["source"] == "popular"
        found = service.running.memory()
        assert sum("app.worker" in one.command for one in found) == 2
        assert sum("valkey-server" in one.name or "redis-server" in one.name for one in found) == 1
        pids = service.running.pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_service_that_cannot_start_is_reported_with_its_reason(world: World, tmp_path: Path) -> None:
    with (
        pytest.raises(CannotRun, match="there is no active bundle"),
        services.shortlist(tmp_path, tmp_path / "serve.log"),
    ):
        pass
