"""An old ranker puts its favourites first, and people click what they look at and find relevant. The whole path, from
files to a trained ranker, with and without propensities."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.data.config import load_config
from models.data.dataset import Dataset, load_dataset
from models.data.prepare import prepare_dataset
from models.exposure import randomised_propensities
from models.options import PopularityOptions, TrainSection
from models.ranking.lists import predict
from models.ranking.options import RankerOptions
from models.ranking.samples import LabelWindow, ranker_samples
from models.ranking.shown import fit_positions
from models.retrieval.snapshot import snapshot
from models.run_log import Silent
from models.train import train
from models.trained import load_trained

USERS, ITEMS, DAYS, DAY_MS = 200, 12, 10, 86_400_000
START_MS = 1_704_067_200_000  # 2024-01-01 UTC
EXAMINED = np.arange(1, ITEMS + 1) ** -0.8
RELEVANCE = np.linspace(0.75, 0.2, ITEMS)
CONFIG = """\
[interactions]
path = "clicks.parquet"
default_event_type = "click"

[impressions]
path = "shown.parquet"
recommendation_id = "list"
click_window_hours = 1

[items]
id_feature = true

[events]
types = ["purchase"]

[split]
test_days = 1
valid_days = 1
ranker_windows = 6
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Everyone gets a list of all items a day, for ten days. Item 0 is the most relevant, and mostly stands last."""
    folder, rng = tmp_path_factory.mktemp("clicks"), np.random.default_rng(0)
    lists = USERS * DAYS
    items = np.argsort(rng.gumbel(size=(lists, ITEMS)) - 8 * RELEVANCE, axis=1)[:, ::-1]
    clicked = rng.random((lists, ITEMS)) < EXAMINED * RELEVANCE[items]
    rows = {
        "user_id": np.repeat(np.arange(USERS).repeat(DAYS), ITEMS),
        "item_id": items.ravel(),
        "timestamp": START_MS + (np.tile(np.arange(DAYS), USERS).repeat(ITEMS)) * DAY_MS,
        "position": np.tile(np.arange(1, ITEMS + 1), lists),
        "list": np.arange(lists).repeat(ITEMS),
    }
    shown = pa.table(rows | {"timestamp": pa.array(rows["timestamp"], pa.timestamp("ms"))})
    pq.write_table(shown, folder / "shown.parquet")
    later = pa.array(rows["timestamp"] + 60_000, pa.timestamp("ms"))
    clicks = shown.select(["user_id", "item_id"]).append_column("timestamp", later)
    pq.write_table(clicks.filter(pa.array(clicked.ravel())), folder / "clicks.parquet")
    (folder / "shortlist.toml").write_text(CONFIG, "utf-8")
    return load_dataset(prepare_dataset(load_config(folder / "shortlist.toml"), folder / "data").folder)


def ordered_pairs(dataset: Dataset, ranker: RankerOptions, folder: Path) -> float:
    """Share of pairs of items that the trained ranker's lists for the test window have in the order of relevance."""
    options = TrainSection(refit_share=0.0, retrieval=PopularityOptions(model="popularity"), ranker=ranker)
    train(dataset, options, folder, Silent())
    trained, start_ms = load_trained(dataset, options, folder, for_test=True), dataset.splits.test_start_ms
    assert trained.ranker is not None
    window = LabelWindow(start_ms, dataset.splits.end_ms, snapshot(dataset, trained.retrieval, start_ms))
    samples = ranker_samples(dataset, [window], 0, 0, Silent(), "lists")
    scores = predict(trained.ranker, dataset, samples).reshape(-1, ITEMS)
    number = np.array([int(dataset.item_ids[item]) for item in range(ITEMS)])
    relevance = RELEVANCE[number[samples.items]].reshape(-1, ITEMS)
    first, second = np.triu_indices(ITEMS, 1)
    ahead = scores[:, first] > scores[:, second]
    return float((ahead == (relevance[:, first] > relevance[:, second])).mean())


def test_the_position_model_finds_what_was_simulated(dataset: Dataset) -> None:
    """Within what so few clicks tell. By clicks alone lower places look better than they are."""
    found = fit_positions(dataset, dataset.splits.valid_start_ms)
    np.testing.assert_allclose(found.propensities, EXAMINED, atol=0.1)
    shown = dataset.impressions
    assert shown is not None
    naive = randomised_propensities(shown.position.astype(np.int64), shown.clicked, ITEMS)
    assert np.abs(naive - EXAMINED).max() > 0.15


def test_a_ranker_with_propensities_learns_the_relevances_and_one_without_the_old_order(
    dataset: Dataset, tmp_path: Path
) -> None:
    """Half of the pairs are right by chance. In raw clicks the old order and the relevances cancel each other out."""
    plain = RankerOptions(model="lr", epochs=6, batch_size=24, learning_rate=0.03, negatives=0, impressions=True)
    weighed = plain.model_copy(update={"propensity": "position"})
    without, found = (ordered_pairs(dataset, each, tmp_path / each.propensity) for each in (plain, weighed))
    assert found > 0.8 > 0.6 > without


def test_data_without_impressions_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    for ranker, named in [
        (RankerOptions(impressions=True), "impressions"),
        (RankerOptions(propensity="position"), "prop"),
    ]:
        with pytest.raises(
            ValueError, match=rf"\[train.ranker\] {named}.* needs logged impressions.*section \[impressi"
        ):
            train(replace(dataset, impressions=None), TrainSection(ranker=ranker), tmp_path, Silent())
