"""The planted shop exported as small as its gates allow, and served by the code that serves every bundle."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.call import Call, resolve_items
from app.engine import Engine
from app.flow import Flow
from app.opening import open_engine
from app.routes.similar import similar_items
from app.settings import Settings
from app.wire import Recommendation, RecommendRequest
from cli import export as export_command
from cli.export import export_bundle
from cli.train import OPTIONS_FILE
from export import quality, ship
from models.data.config import load_config
from models.data.dataset import Dataset, load_dataset
from models.data.prepare import prepare_dataset
from models.options import TrainSection
from models.run_log import Silent
from models.train import train
from tests.planted import write_planted

SASREC: dict[str, object] = {
    "model": "sasrec",
    "dim": 16,
    "history_length": 30,
    "max_steps": 40,
    "validations": 1,
    "layers": 1,
}
RANKER: dict[str, object] = {"model": "deepfm", "dim": 8, "hidden": [64, 16], "epochs": 2, "windows": 1}


@pytest.fixture(scope="module", autouse=True)
def few_users() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "MAX_USERS", 48)
        patch.setattr(ship, "CALIBRATION", 16)
        patch.setattr(ship, "TIMED", 8)
        patch.setattr(export_command, "FLOW_USERS", 40)
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("edge")
    config = write_planted(folder / "shop").config
    return load_dataset(prepare_dataset(load_config(config), folder / "data").folder)


def trained(dataset: Dataset, folder: Path, retrieval: dict[str, object], ranker: dict[str, object]) -> Path:
    options = TrainSection.model_validate({"retrieval": retrieval, "ranker": ranker, "refit_share": 0.0})
    (folder / "train").mkdir()
    (folder / "train" / OPTIONS_FILE).write_text(options.model_dump_json(), "utf-8")
    train(dataset, options, folder / "train", Silent())
    return folder


def exported(dataset: Dataset, folder: Path) -> Engine:
    """With all gates; the lists of the service are compared with the offline evaluation's."""
    return open_engine(export_bundle(dataset, folder, folder / "bundles", for_test=False, profile="edge"), 0)


def ask(engine: Engine, **request: object) -> Recommendation:
    call = Call(RecommendRequest.model_validate(request), engine, engine.bundle.manifest.as_of_ms, 0.0)
    resolve_items(call)
    return Flow(Settings()).run([call])[0]


def test_the_edge_bundle_is_served_by_the_same_code(dataset: Dataset, tmp_path: Path) -> None:
    edge = exported(dataset, trained(dataset, tmp_path, SASREC, RANKER))
    manifest, bundle = edge.bundle.manifest, edge.bundle
    assert manifest.profile == "edge"
    assert bundle.item_part is not None
    stored = {
        "retrieval/item_vectors.npy": bundle.item_vectors.stored,
        "ranking/item_part.npy": bundle.item_part,
        "neighbours_similarity.npy": bundle.neighbours_similarity,
    }
    kinds = {"fp32": np.float32, "fp16": np.float16, "int8": np.int8, "fp8": np.float16}  # as they are read
    assert {name: array.dtype for name, array in stored.items()} == {
        name: kinds[table.precision] for name, table in manifest.tables.items()
    }
    assert manifest.tables["ranking/item_part.npy"].precision == "int8"
    assert manifest.tables["neighbours_similarity.npy"].precision == "fp8"
    assert np.load(bundle.path / "neighbours_similarity.npy").dtype == np.uint8
    counts = np.load(bundle.path / "neighbours_count.npy")
    assert (bundle.neighbours >= 0).sum(axis=1).tolist() == counts.tolist()
    assert (counts.sum() <= 20 * len(counts), counts.min() >= 8) == (True, True), "every item has more than 8 to keep"
    lost = {gate.name: gate for gate in manifest.gates}["edge ndcg@10 loss in all"]
    assert (lost.limit, lost.passed) == (0.01, True)
    found = ask(edge, history=["i000", "i012"], k=5, fields=list(bundle.schema.returned))
    assert (len(found["items"]), found["served_by"], found["degraded"]) == (5, "ranking", [])
    assert len(ask(edge, k=5)["items"]) == 5, "someone nobody knows"
    assert len(similar_items(edge, "i000", 5, [])["items"]) == 5
    for index in range(len(dataset.item_ids)):
        assert [column[index] for column in bundle.items.fields.values()] == [
            dataset.item_fields[name][index] for name in bundle.items.fields
        ]


def test_without_a_ranker_the_retrieval_order_is_judged_and_served(dataset: Dataset, tmp_path: Path) -> None:
    edge = exported(dataset, trained(dataset, tmp_path, {"model": "item_to_item", "dim": 32}, {"model": "none"}))
    assert "ranking/item_part.npy" not in edge.bundle.manifest.tables
    assert ask(edge, history=["i000", "i012"], k=5)["served_by"] == "retrieval"
