"""The ablation: what a variant takes away, how it is compared, and that an interrupted run goes on."""

from pathlib import Path

import numpy as np
import pytest
from planted import write_planted

from bench.accuracy.ablation.run import RETRIEVAL_ORDER, ablation
from bench.accuracy.ablation.table import markdown_tables, merge_ablation, read_ablation
from bench.accuracy.ablation.variants import FULL, VARIANTS, Variant, masked, without_candidates, without_items
from models.contract.features import cross_names, user_numeric_names
from models.data.config import load_config
from models.data.dataset import Dataset, load_dataset
from models.data.prepare import prepare_dataset
from models.item_stats import NAMES
from models.options import TrainSection
from models.ranking.samples import RankerSamples
from models.run_log import Silent
from models.train import train

OPTIONS = TrainSection.model_validate(
    {
        "retrieval": {"model": "popularity"},
        "ranker": {"model": "lr", "windows": 1, "epochs": 1, "learning_rate": 0.02, "batch_size": 8},
    }
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("shop")
    return load_dataset(prepare_dataset(load_config(write_planted(folder).config), folder / "data").folder)


def lists(dataset: Dataset, items: list[list[int]], taken: set[int]) -> RankerSamples:
    """Lists of these items, all features at 1, those of `taken` with a target."""
    schema, rows = dataset.schema, np.concatenate([np.array(one, np.int64) for one in items])
    categories = len(schema.categorical("user")) + len(schema.context_features)
    return RankerSamples(
        user_categorical=np.ones((len(items), categories), np.int64),
        user_numeric=np.ones((len(items), len(user_numeric_names(schema))), np.float32),
        users=np.arange(len(items)),
        window=np.zeros(len(items), np.int64),
        include_seen=np.zeros(len(items), np.bool_),
        items=rows,
        cross=np.ones((len(rows), len(cross_names(schema))), np.float32),
        labels=np.isin(rows, list(taken)).astype(np.float32),
        offsets=np.cumsum([0, *map(len, items)]).astype(np.int64),
        num_targets=np.ones(len(items), np.int64),
        item_numeric=np.ones((1, dataset.num_items, len(schema.numeric("item")) + len(NAMES)), np.float32),
        history=np.zeros((len(items), 0), np.int32),
        set_ordinal=np.zeros((len(items), 0), np.int32),
    )


def zeros(samples: RankerSamples) -> dict[str, int]:
    arrays = {
        "cross": samples.cross[0],
        "item": samples.item_numeric[0, 0],
        "user numbers": samples.user_numeric[0],
        "user codes": samples.user_categorical[0],
    }
    return {name: int((array == 0).sum()) for name, array in arrays.items() if (array == 0).any()}


def test_each_group_is_taken_away_and_nothing_else(dataset: Dataset) -> None:
    """The planted shop: ten cross features and one affinity, price, household, age group and store."""
    full = lists(dataset, [[1, 2], [3]], {1})
    found = {v.without[0]: zeros(masked(full, dataset, v)) for v in VARIANTS if v.without}
    assert found == {
        "retrieval score": {"cross": 2},
        "own history": {"cross": 6},
        "neighbours": {"cross": 2},
        "affinity": {"cross": 1},
        "item sales": {"item": 7},
        "item features": {"item": 1},
        "user activity": {"user numbers": 5},
        "user features, context": {"user numbers": 1, "user codes": 2},
    }
    assert zeros(full) == {}, "the lists themselves stay"


def test_item_features_are_taken_from_the_catalogue(dataset: Dataset) -> None:
    assert not without_items(dataset, Variant("x", ("item features",))).item_categorical.any()
    assert without_items(dataset, FULL) is dataset


def test_sampled_items_alone_beside_what_was_taken(dataset: Dataset) -> None:
    """Two lists: candidates 1 2 3 with 8 9 sampled, and candidate 4 with 7 sampled. Items 2 and 9 were taken."""
    alone = lists(dataset, [[1, 2, 3], [4]], {2, 9})
    found = without_candidates(lists(dataset, [[1, 2, 3, 8, 9], [4, 7]], {2, 9}), alone)
    assert found.items.tolist() == [2, 8, 9, 7]
    assert found.labels.tolist() == [1, 0, 1, 0]
    assert found.offsets.tolist() == [0, 3, 4]
    assert len(found.cross) == 4


def test_an_ablation_goes_on_where_it_stopped(dataset: Dataset, tmp_path: Path) -> None:
    """Popularity knows nothing of the user: what a user bought before is all that the ranker adds, by far."""
    variants = [FULL, Variant("blind", ("own history", "affinity", "neighbours")), Variant("few", candidates=False)]
    train(dataset, OPTIONS, tmp_path, Silent())
    running = ablation(dataset, OPTIONS, tmp_path, Silent(), variants)
    for _ in range(2):
        next(running)
    began = {path.name: path.read_bytes() for path in (tmp_path / "ablation").glob("*.npy")}
    assert len(began) == 2
    found = list(ablation(dataset, OPTIONS, tmp_path, Silent(), variants))
    assert {name: (tmp_path / "ablation" / name).read_bytes() for name in began} == began
    changes = {one["variant"]: one["change"] for entries in found for one in entries if one["mode"] == "all"}
    assert list(changes) == ["everything", "blind", "few", RETRIEVAL_ORDER]
    assert changes["everything"] is None
    assert changes["blind"]["high"] < -0.2
    assert changes[RETRIEVAL_ORDER]["high"] < -0.2


def test_a_data_set_run_again_replaces_its_own_entries(tmp_path: Path) -> None:
    path = tmp_path / "ablation.json"
    merge_ablation("demo", [{"variant": "old"}], path)
    merge_ablation("ml-1m", [{"variant": "other"}], path)
    merge_ablation("demo", [{"variant": "new"}], path)
    assert {name: found[0]["variant"] for name, found in read_ablation(path).items()} == {
        "demo": "new",
        "ml-1m": "other",
    }


def test_a_line_a_variant_with_its_change() -> None:
    interval = {"value": 0.05, "low": 0.04, "high": 0.06}
    change = {"value": -0.1, "low": -0.12, "high": -0.08}
    entries = [
        {"variant": "everything", "mode": "new", "ndcg@10": interval, "change": None},
        {"variant": "without x", "mode": "new", "ndcg@10": interval, "change": change},
    ]
    assert markdown_tables({"ml-1m": entries}) == (
        "| ml-1m | NDCG@10, new items | change |\n"
        "| --- | --- | --- |\n"
        "| everything | 0.0500 |  |\n"
        "| without x | 0.0500 | -10.0% (-12.0% to -8.0%) |\n"
    )


def test_the_document_has_the_tables() -> None:
    text = (Path(__file__).parents[3] / "docs" / "models.md").read_text("utf-8")
    _, _, after = text.partition("<!-- ablation: python -m bench.accuracy.ablation --markdown -->\n")
    tables, end, _ = after.partition("<!-- end -->")
    assert end
    assert tables == markdown_tables(read_ablation())
