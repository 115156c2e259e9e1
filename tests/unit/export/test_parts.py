"""The limits that the parts of a bundle are judged by: those of all together first, then the profile's own."""

from dataclasses import replace

import pytest

from export.parts import Parts, choose_parts
from export.profile import PROFILES, Limits
from export.quality import Requests, requests
from models.data.config import load_config
from models.data.dataset import Dataset, load_dataset
from models.data.prepare import prepare_dataset
from models.options import TrainSection
from models.retrieval.snapshot import snapshot
from models.run_log import Silent
from models.train import train
from models.trained import Trained, load_trained
from tests.planted import write_planted

NOTHING, EVERYTHING = Limits(ndcg_loss=-2.0, overlap=1.1), Limits(ndcg_loss=2.0, overlap=0.0)
SMALLEST = ("int8", "fp8")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Trained, Requests]:
    folder = tmp_path_factory.mktemp("parts")
    config = write_planted(folder / "shop").config
    dataset = load_dataset(prepare_dataset(load_config(config), folder / "data").folder)
    ranker = {"model": "none"}
    options = TrainSection.model_validate(
        {"retrieval": {"model": "item_to_item", "dim": 8}, "ranker": ranker, "refit_share": 0.0}
    )
    train(dataset, options, folder / "models", Silent())
    found = load_trained(dataset, options, folder / "models", for_test=True)
    return dataset, found, requests(dataset, snapshot(dataset, found.retrieval, found.until_ms))


def chosen(trained: tuple[Dataset, Trained, Requests], limits: Limits, in_all: Limits) -> Parts:
    return choose_parts(*trained, replace(PROFILES["edge"], limits=limits, in_all=in_all), lambda step: None)


def forms(parts: Parts) -> tuple[str, str]:
    return parts.vectors.form.precision, parts.neighbours.form[0].precision


def overlaps(parts: Parts) -> dict[str, float]:
    return {gate.name.split(" top-10 overlap ")[1]: gate.value for gate in parts.gates if " overlap " in gate.name}


def test_a_part_may_lose_what_all_together_may(trained: tuple[Dataset, Trained, Requests]) -> None:
    parts = chosen(trained, NOTHING, EVERYTHING)
    assert (forms(parts), parts.missed) == (SMALLEST, [])


def test_parts_that_lose_too_much_in_sum_are_judged_by_their_own_limits(
    trained: tuple[Dataset, Trained, Requests],
) -> None:
    found = overlaps(chosen(trained, NOTHING, EVERYTHING))
    in_all = found.pop("in all")
    assert in_all < min(found.values()), "no part alone loses what they lose together"
    between = Limits(ndcg_loss=2.0, overlap=(in_all + min(found.values())) / 2)
    parts = chosen(trained, NOTHING, between)
    assert forms(parts) == ("fp32", "fp32")
    assert all(gate.passed for gate in parts.gates)
    assert [(gate.value, gate.limit) for gate in parts.missed] == [(in_all, between.overlap)]


def test_what_passes_by_no_limits_is_refused_by_its_gates(trained: tuple[Dataset, Trained, Requests]) -> None:
    parts = chosen(trained, EVERYTHING, NOTHING)
    assert forms(parts) == SMALLEST
    assert {gate.name for gate in parts.gates if not gate.passed} == {gate.name for gate in parts.in_all}
