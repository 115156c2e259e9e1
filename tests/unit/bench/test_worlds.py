"""A synthetic catalogue is a data folder like any other: it is loaded, served, and answers as it was measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from app.filters import allowed_items
from app.opening import open_engine
from bench.kit.shop import make_catalogue
from bench.kit.worlds import NUM_STEPS, World, build_world, demo_world, item_numbers, request_bodies, world_key
from cli.main import app
from cli.parity import check_parity
from export.offline import BundleSystem, nearest_allowed, open_models
from models.contract.bundle import open_bundle
from models.contract.versions import bundle_path, list_bundles, read_active
from models.data.dataset import load_dataset
from models.offline import exact_nearest, moments, tower_inputs
from models.options import TrainSection
from models.stage_files import RANKER, RETRIEVAL, RETRIEVAL_LAST, RETRIEVAL_TEST
from models.trained import load_first_retrieval, load_trained
from tests.service_process import serving

NUM_ITEMS, NUM_USERS = 2_000, 150


class Steps(list[tuple[str, int, int]]):
    def __call__(self, text: str, done: int, total: int) -> None:
        self.append((text, done, total))


@pytest.fixture(scope="module")
def steps() -> Steps:
    return Steps()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, steps: Steps) -> World:
    folder = tmp_path_factory.mktemp("worlds") / "2k"
    return build_world(folder, NUM_ITEMS, seed=3, num_users=NUM_USERS, on_step=steps)


def active_bundle(world: World) -> Path:
    version = read_active(world.data_dir / "bundles")
    assert version is not None
    return bundle_path(world.data_dir / "bundles", version)


def test_every_step_is_told_as_it_begins(world: World, steps: Steps) -> None:
    assert [(done, total) for _, done, total in steps] == [(done, NUM_STEPS) for done in range(NUM_STEPS)]
    assert [steps[0][0], steps[-1][0]] == ["catalogue", "export: bundle"]


def test_items_nobody_took_are_in_the_catalogue_too(world: World) -> None:
    dataset = load_dataset(world.data_dir / "prepared")
    assert (world.num_items, dataset.num_items, len(world.user_ids)) == (NUM_ITEMS, NUM_ITEMS, NUM_USERS)
    assert len(np.unique(dataset.interactions.item_index)) < NUM_ITEMS
    assert sorted(item_numbers(dataset).tolist()) == list(range(NUM_ITEMS))
    assert world.history_lengths.sum() == len(dataset.interactions)
    assert 10 <= world.history_lengths.min() <= 20 < 150 <= world.history_lengths.max() <= 200
    assert world.contexts == {"device": ["desktop", "phone", "tablet"]}


def test_item_vectors_are_the_catalogues_but_for_the_last_dimension(world: World) -> None:
    """Which is the item's popularity."""
    dataset = load_dataset(world.data_dir / "prepared")
    planted = make_catalogue(NUM_ITEMS, np.random.default_rng(3)).vectors[item_numbers(dataset)]
    stored = open_bundle(active_bundle(world)).item_vectors[:]
    np.testing.assert_allclose(stored[:, :-1], planted[:, :-1], atol=1e-6)


def test_what_is_near_to_a_user_is_of_their_clusters(world: World) -> None:
    """Of the nearest 50 more than half, where 1 item of 10 is of a cluster."""
    dataset = load_dataset(world.data_dir / "prepared")
    clusters = make_catalogue(NUM_ITEMS, np.random.default_rng(3)).cluster[item_numbers(dataset)]
    models = open_models(dataset, open_bundle(active_bundle(world)))
    shares = []
    for who in moments(dataset, range(50), dataset.splits.end_ms):
        [vector] = models.retrieval.tower(tower_inputs(dataset.schema, models.retrieval, [who]))
        near = exact_nearest(models.retrieval.item_vectors, vector, np.ones(NUM_ITEMS, np.bool_), 50)
        often = np.bincount(clusters[who.history.items], minlength=NUM_ITEMS) >= 0.2 * len(who.history)
        shares.append(often[clusters[near]].mean())
    assert np.mean(shares) > 0.5


def test_the_training_folder_is_one_that_training_would_have_left(world: World) -> None:
    dataset, folder = load_dataset(world.data_dir / "prepared"), world.data_dir / "train"
    options = TrainSection.model_validate_json((folder / "options.json").read_bytes())
    for for_test in (True, False):
        assert load_trained(dataset, options, folder, for_test=for_test).ranker is not None
    load_first_retrieval(dataset, options, folder)
    names = {f"{stage}.npz" for stage in (RETRIEVAL, RANKER, RETRIEVAL_TEST, RETRIEVAL_LAST)}
    assert {path.name for path in folder.iterdir()} == {"options.json", *names}


def test_the_service_gives_the_lists_of_the_evaluation(world: World) -> None:
    dataset, path = load_dataset(world.data_dir / "prepared"), active_bundle(world)
    models = open_models(dataset, open_bundle(path))
    system = BundleSystem(models, dataset.splits.end_ms, "ranking")
    assert check_parity(dataset, path, system, np.arange(20)).lists == 40


def test_an_index_that_is_not_exact_brings_the_same_items_in_service_and_evaluation(world: World) -> None:
    """It finds others when it is asked for more: both must ask for equally many."""
    engine = open_engine(active_bundle(world), 0)
    vectors = np.array(engine.bundle.item_vectors[:])
    index: Any = faiss.index_factory(vectors.shape[1], "PQ8x4fs,Refine(Flat)", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    coarse = replace(engine, index=index)
    rng, wanted = np.random.default_rng(5), 100
    users = vectors[rng.integers(0, NUM_ITEMS, 20)] + vectors[rng.integers(0, NUM_ITEMS, 20)]
    asked_exactly = [index.search(user[None], wanted)[1][0].tolist() for user in users]
    everything = allowed_items(engine.marks, None, [])
    found = coarse.nearest(users, [everything] * 20, [wanted] * 20)
    assert [one.tolist() for one in found] != asked_exactly, "the test can tell"
    removed = [rng.choice(NUM_ITEMS, 10 * number, replace=False) for number in range(20)]
    found = coarse.nearest(users, [allowed_items(engine.marks, None, [items]) for items in removed], [wanted] * 20)
    for user, items, near in zip(users, removed, found, strict=True):
        allowed = np.ones(NUM_ITEMS, np.bool_)
        allowed[items] = False
        assert near.tolist() == nearest_allowed(index, vectors, user, allowed, wanted).tolist()


async def test_it_is_loaded_and_answers(world: World) -> None:
    loaded = CliRunner().invoke(app, ["load", "--data-dir", str(world.data_dir)])
    assert f"loaded {NUM_USERS} users" in loaded.output
    with serving(world.data_dir) as service:
        async with service.client() as client:
            for body in request_bodies(world, 5, seed=0):
                answer = (await client.post("/recommend", content=body)).json()
                assert (answer["served_by"], answer["degraded"], answer["warnings"]) == ("ranking", [], [])
                assert len({item["item_id"] for item in answer["items"]}) == 20


def test_the_same_parameters_open_what_is_there(world: World) -> None:
    before, again = list_bundles(world.data_dir / "bundles"), Steps()
    opened = build_world(world.data_dir, NUM_ITEMS, seed=3, num_users=NUM_USERS, on_step=again)
    assert (opened.name, opened.user_ids) == (world.name, world.user_ids)
    assert (list_bundles(world.data_dir / "bundles"), again) == (before, [])


def test_a_key_names_every_parameter() -> None:
    keys = [world_key(*parameters) for parameters in [(10, 5, 0), (11, 5, 0), (10, 6, 0), (10, 5, 1)]]
    assert len(set(keys)) == 4


def test_another_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("of somebody", "utf-8")
    with pytest.raises(ValueError, match="no world of this benchmark; name another folder"):
        build_world(tmp_path, NUM_ITEMS)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_request_bodies_are_of_users_with_the_wanted_history(world: World) -> None:
    lengths = dict(zip(world.user_ids, world.history_lengths.tolist(), strict=True))
    bodies = [orjson.loads(body) for body in request_bodies(world, 40, seed=1, history_length=(30, 60))]
    assert all(30 <= lengths[body["user_id"]] <= 60 for body in bodies)
    assert {tuple(body) for body in bodies} == {("user_id", "k", "context")}
    assert {body["k"] for body in bodies} == {20}
    assert {body["context"]["device"] for body in bodies} == {"desktop", "phone", "tablet"}
    assert request_bodies(world, 40, seed=1) == request_bodies(world, 40, seed=1) != request_bodies(world, 40, seed=2)


def test_no_user_with_the_wanted_history_is_an_error(world: World) -> None:
    with pytest.raises(ValueError, match="2k: no user has a history of 201 to 300 interactions"):
        request_bodies(world, 1, seed=0, history_length=(201, 300))


def test_the_world_of_an_existing_folder(world: World) -> None:
    """A demo folder is prepared by its own command and has no marker."""
    found = demo_world(world.data_dir)
    assert found.history_lengths.tolist() == world.history_lengths.tolist()
    assert replace(found, history_lengths=world.history_lengths) == world
