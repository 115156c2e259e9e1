"""Every model of the family, trained for a moment on the planted shop, passes the export's gates, among them that the
whole request flow gives the lists of the offline evaluation, and answers a request."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.call import Call, resolve_items
from app.engine import Engine
from app.flow import Flow
from app.opening import open_engine
from app.settings import Settings
from app.wire import Recommendation, RecommendRequest
from cli import export as export_command
from cli.export import export_bundle
from cli.train import OPTIONS_FILE
from export import quality, ship
from models.contract.versions import bundle_path
from models.data.config import load_config
from models.data.dataset import Dataset, load_dataset
from models.data.prepare import prepare_dataset
from models.options import TrainSection
from models.ranking.build import MODELS
from models.ranking.options import RankerName
from models.retrieval.train import RECIPES
from models.run_log import Silent
from models.train import train
from tests.planted import write_planted

QUICK = {"dim": 16, "history_length": 30, "max_steps": 12, "validations": 1}
RETRIEVAL: dict[str, dict[str, object]] = {
    "sasrec": {**QUICK, "layers": 1},
    "two_tower": {**QUICK, "hidden": [16]},
    "lightgcn": {**QUICK, "layers": 2},
    "gcn": {**QUICK, "hidden": 16},
    "bpr": QUICK,
    "ials": {"dim": 16, "max_epochs": 3},
    "ease": {"dim": 48},
    "item_to_item": {"dim": 48},
    "content": {"dim": 16},
    "popularity": {},
}
RANKERS: dict[str, dict[str, object]] = {name: {"dim": 4, "hidden": [16], "epochs": 1, "windows": 1} for name in MODELS}
RANKERS["wide_deep"]["crosses"] = [["category", "age_group"]]
RANKERS["transformer"]["history_length"] = 5


@pytest.fixture(scope="module", autouse=True)
def few_users() -> Iterator[None]:
    """The gates judge on fewer users than in an export for real: there are many models here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "MAX_USERS", 48)
        patch.setattr(ship, "CALIBRATION", 16)
        patch.setattr(ship, "TIMED", 8)
        patch.setattr(export_command, "FLOW_USERS", 40)
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The planted shop, with the ids as features beside its own, and a multi-valued one: an item has 0 to 3 tags."""
    folder = tmp_path_factory.mktemp("family")
    config = write_planted(folder / "shop").config
    items = pq.read_table(config.parent / "items.parquet")
    tags = [[f"tag{(row + place) % 5}" for place in range(row % 4)] for row in range(len(items))]
    pq.write_table(items.append_column("tags", pa.array(tags)), config.parent / "items.parquet")
    text = config.read_text("utf-8")
    text = text.replace('{ name = "price"', '{ name = "tags", kind = "multi" },\n    { name = "price"')
    for section in ("[items]", "[users]"):
        text = text.replace(section, f"{section}\nid_feature = true")
    config.write_text(text, "utf-8")
    prepared = load_dataset(prepare_dataset(load_config(config), folder / "data").folder)
    assert prepared.item_multi["tags"].any()
    return prepared


def exported(dataset: Dataset, options: TrainSection, folder: Path) -> Engine:
    """Trained and exported with all gates, as `shortlist train` and `shortlist export` do it."""
    (folder / "train").mkdir(exist_ok=True)
    (folder / "train" / OPTIONS_FILE).write_text(options.model_dump_json(), "utf-8")
    train(dataset, options, folder / "train", Silent())
    path = export_bundle(dataset, folder, folder / "bundles", for_test=False)
    assert path == bundle_path(path.parent, path.name)
    return open_engine(path, 0)


def ask(engine: Engine, **request: object) -> Recommendation:
    now_ms = engine.bundle.manifest.as_of_ms
    call = Call(RecommendRequest.model_validate(request), engine, now_ms, 0.0)
    resolve_items(call)
    return Flow(Settings()).run([call])[0]


def test_every_model_is_tried() -> None:
    assert RETRIEVAL.keys() == RECIPES.keys()


@pytest.mark.parametrize("name", RETRIEVAL)
def test_every_retrieval_model_serves(dataset: Dataset, tmp_path: Path, name: str) -> None:
    options = TrainSection.model_validate(
        {"retrieval": {"model": name, **RETRIEVAL[name]}, "ranker": {"model": "none"}, "refit_share": 0.5}
    )
    engine = exported(dataset, options, tmp_path)
    found = ask(engine, history=["i000", "i012"], k=5)
    assert engine.bundle.manifest.retrieval.model == name
    assert (len(found["items"]), found["served_by"], found["degraded"]) == (5, "retrieval", [])
    assert len(ask(engine, k=5)["items"]) == 5, "someone nobody knows"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rankers stand on one retrieval model, which is trained once."""
    return tmp_path_factory.mktemp("rankers")


@pytest.mark.parametrize("name", RANKERS)
def test_every_ranking_model_serves(dataset: Dataset, shared: Path, name: RankerName) -> None:
    options = TrainSection.model_validate(
        {
            "retrieval": {"model": "item_to_item", "dim": 32},
            "ranker": {"model": name, **RANKERS[name]},
            "refit_share": 0.0,
        }
    )
    engine = exported(dataset, options, shared)
    found = ask(engine, history=["i000", "i012"], k=5)
    assert engine.bundle.manifest.ranking is not None
    assert engine.bundle.manifest.ranking.model == name
    assert (len(found["items"]), found["served_by"], found["degraded"]) == (5, "ranking", [])


def test_a_ranker_that_learned_from_interactions_serves_without_cross_features(
    dataset: Dataset, tmp_path: Path
) -> None:
    options = TrainSection.model_validate(
        {
            "retrieval": {"model": "popularity"},
            "ranker": {"model": "neumf", "learn_from": "interactions", "dim": 4, "hidden": [8], "batch_size": 2048}
            | {"epochs": 1, "negatives": 4},
        }
    )
    engine = exported(dataset, options, tmp_path)
    assert engine.bundle.manifest.ranking is not None
    assert engine.bundle.manifest.ranking.cross_features == []
    assert "Users are known by id" in (engine.bundle.path / "model_card.md").read_text("utf-8")
    assert ask(engine, history=["i000", "i012"], k=5)["served_by"] == "ranking"
