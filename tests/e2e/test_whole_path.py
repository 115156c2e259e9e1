"""From purchases to a served list that changes when the user clicks."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from cli.evaluate import manifest_metrics
from cli.parity import ParityError, check_parity
from export.offline import BundleSystem, open_models
from models.contract.bundle import open_bundle
from models.contract.versions import bundle_path, read_active
from models.data.dataset import load_dataset
from tests.e2e.conftest import World, run
from tests.service_process import RunningService, serving


@pytest.fixture(scope="module")
def service(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """The exported bundle with the users loaded, in a folder of its own."""
    data_dir = tmp_path_factory.mktemp("served")
    shutil.copytree(world.data_dir, data_dir, dirs_exist_ok=True)
    loaded = run("load", "--data-dir", str(data_dir))
    assert re.search(r"loaded 300 users, [\d,]+ users a second", loaded.output)
    with serving(data_dir, deadline_ms=10_000) as running:
        yield running


def recommend(service: RunningService, **body: Any) -> dict[str, Any]:
    answer = httpx.post(f"{service.url}/recommend", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["degraded"] == []
    return found


def purchase(service: RunningService, user_id: str, items: list[str]) -> None:
    events = [{"user_id": user_id, "item_id": item, "event_type": "purchase"} for item in items]
    answer = httpx.post(f"{service.url}/events", json={"events": events}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == len(items), answer.text


def systems(world: World, mode: str) -> dict[str, Any]:
    sections: Any = world.report["sections"]
    found: dict[str, Any] = next(s["systems"] for s in sections if (s["mode"], s["unit"]) == (mode, "window"))
    return found


@pytest.mark.parametrize("mode", ["all", "new"])
def test_retrieval_and_ranking_find_what_was_planted(world: World, mode: str) -> None:
    """Favourites, partners and rebuys are there to be found: better than popularity, with the interval above zero."""
    versus = systems(world, mode)["retrieval_ranking"]["versus"]["popularity"]["ndcg@10"]["difference"]
    assert versus["low"] > 0


def test_the_service_gives_the_lists_that_were_measured(world: World) -> None:
    """`shortlist evaluate` compares them and fails below 99.9 %."""
    assert "lists are the same through the service" in world.evaluated.output
    share = float(world.evaluated.output.split("parity: ")[1].split("%")[0])
    assert share >= 99.9


def test_lists_of_another_order_do_not_pass_for_the_service(world: World) -> None:
    """The retrieval order is not what is served: the comparison says so, and export would stop."""
    dataset = load_dataset(world.data_dir / "prepared")
    [bundle] = (world.data_dir / "evaluation" / "bundles").iterdir()
    split = dataset.splits.test_start_ms
    other = BundleSystem(open_models(dataset, open_bundle(bundle)), split, "retrieval")
    with pytest.raises(ParityError, match="lists agree between evaluation and service"):
        check_parity(dataset, bundle, other, np.arange(0, 300, 20))


def test_figures_of_other_models_stay_out_of_a_bundle(world: World) -> None:
    key = str(world.report["training_key"])
    assert manifest_metrics(world.data_dir, key)["test"]
    assert manifest_metrics(world.data_dir, "another") == {}


def test_the_bundle_says_what_it_is(world: World) -> None:
    """Metrics of the evaluation, the clock shift, gates passed, int8 graphs."""
    version = read_active(world.data_dir / "bundles")
    assert version is not None
    assert version in world.exported.output
    manifest = open_bundle(bundle_path(world.data_dir / "bundles", version)).manifest
    measured = systems(world, "all")["retrieval_ranking"]["metrics"]["ndcg@10"]["value"]
    assert manifest.metrics["test"]["all ndcg@10"] == measured
    assert manifest.clock_shift_ms > 0
    assert all(gate.passed for gate in manifest.gates)
    assert {"parity user_tower", "index recall@200"} <= {gate.name for gate in manifest.gates}


def test_a_known_user_gets_what_they_have_not_bought(service: RunningService, world: World) -> None:
    """Ranked, with titles, reasons from their history, and nothing they have seen; include_seen brings rebuys back."""
    history = {row["item_id"] for row in httpx.get(f"{service.url}/users/u004", timeout=30).json()["history"]}
    found = recommend(service, user_id="u004", k=10, fields=["title", "category"])
    assert found["served_by"] == "ranking"
    items = [item["item_id"] for item in found["items"]]
    assert len(items) == 10
    assert not history & set(items)
    assert all(item["fields"]["title"].startswith("Item ") for item in found["items"] if item["fields"]["title"])
    causes = {item["reason"]["item_id"] for item in found["items"] if item["reason"]}
    assert causes <= history
    again = recommend(service, user_id="u004", k=10, include_seen=True)
    assert set(world.truth.rebuys["u004"]) & {item["item_id"] for item in again["items"]}


def test_buying_from_one_category_moves_the_list_towards_it(service: RunningService, world: World) -> None:
    """With the bought items out of both lists, the category's share grows over many users."""
    before_share, after_share, moved = [], [], 0
    for user in [f"u{number:03d}" for number in range(100, 140)]:
        category = next(
            c for c in sorted(set(world.truth.categories.values())) if c not in world.truth.favourites[user]
        )
        candidates = [item for item, own in world.truth.categories.items() if own == category]
        bought = candidates[:4]
        before = recommend(service, user_id=user, k=20, exclude=bought, fields=["category"])["items"]
        purchase(service, user, bought)
        after = recommend(service, user_id=user, k=20, exclude=bought, fields=["category"])["items"]
        moved += [i["item_id"] for i in before] != [i["item_id"] for i in after]
        before_share.append(sum(i["fields"]["category"] == category for i in before) / len(before))
        after_share.append(sum(i["fields"]["category"] == category for i in after) / len(after))
    assert moved == len(before_share)
    assert sum(after_share) > sum(before_share)


def test_an_anonymous_history_is_enough(service: RunningService, world: World) -> None:
    """Three items of one category, and no user: the category's share is larger than in a cold user's list."""
    cold = recommend(service, k=20, fields=["category"])
    assert cold["served_by"] == "popular"
    larger, categories = 0, sorted(set(world.truth.categories.values()))
    for category in categories:
        history = [item for item, own in world.truth.categories.items() if own == category][:3]
        warm = recommend(service, history=history, k=20, fields=["category"])
        assert warm["served_by"] == "ranking"
        shares = [sum(item["fields"]["category"] == category for item in found["items"]) for found in (cold, warm)]
        larger += shares[1] > shares[0]
    assert larger >= len(categories) - 2


def test_similar_items_are_partners(service: RunningService, world: World) -> None:
    first, second = next(iter(world.truth.partners.items()))
    answer = httpx.get(f"{service.url}/items/{first}/similar", timeout=30).json()
    assert second in [item["item_id"] for item in answer["items"]]


def test_running_the_commands_again_does_nothing(world: World, tmp_path: Path) -> None:
    """Each stage says that it was done before."""
    again = run("train", "--config", str(world.truth.config), "--data-dir", str(world.data_dir))
    assert again.output.count("done before") == 4
