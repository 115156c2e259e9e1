"""A ready-made labelled table through `shortlist train` and `shortlist evaluate`."""

from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.bootstrap import Interval
from models.evaluate_labelled import auc_interval, evaluate_labelled
from tests.e2e.conftest import run

CONFIG = """
[labelled]
train = "train.parquet"
valid = "valid.parquet"
valid_halved_seed = 0
user = ["user", "daytime"]
item = ["app"]

[train.ranker]
model = "fm"
batch_size = 64
epochs = 4
learning_rate = 0.05
"""


def write_rows(path: Path, count: int, seed: int) -> None:
    """Even users open even apps nine times in ten, other apps one time in ten; the day's time says nothing."""
    rng = np.random.default_rng(seed)
    user, app = rng.integers(0, 20, count), rng.integers(0, 12, count)
    likely = np.where(user % 2 == app % 2, 0.9, 0.1)
    columns = {"user": user, "app": app, "daytime": rng.integers(0, 3, count)}
    pq.write_table(pa.table(columns | {"label": (rng.random(count) < likely).astype(np.int8)}), path)


def test_a_labelled_table_trains_a_ranker_that_is_measured_on_rows_it_never_saw(tmp_path: Path) -> None:
    """The best that can be known here is AUC .9; again, nothing is trained twice."""
    write_rows(tmp_path / "train.parquet", 4_000, seed=0)
    write_rows(tmp_path / "valid.parquet", 2_000, seed=1)
    config, place = tmp_path / "shortlist.toml", ["--data-dir", str(tmp_path / "data")]
    config.write_text(CONFIG, "utf-8")
    run("train", "--config", str(config), "--threads", "1", *place)
    assert "auc" in run("evaluate", *place).output
    report = orjson.loads((tmp_path / "data" / "evaluation" / "report.json").read_bytes())
    assert report["num_rows"] == 1_000
    found = report["labelled"]
    assert 0.85 < found["auc"]["value"] <= 0.93
    assert found["auc"]["low"] < found["auc"]["value"] < found["auc"]["high"]
    assert found["logloss"]["high"] < found["logloss_constant"]["value"]
    assert "done before" in run("train", "--config", str(config), *place).output


def test_the_interval_of_the_auc_is_that_of_resampled_rows() -> None:
    """Of four rows some resamples have no positive or no negative: no interval. Of 400 it holds the share of pairs in
    order, and is not wider than the standard error's upper bound allows."""
    scores, labels = np.array([0.1, 0.5, 0.5, 0.9], np.float32), np.array([False, True, False, True])
    assert np.isnan(auc_interval(scores, labels, seed=0).low)
    rng = np.random.default_rng(3)
    clicks = rng.random(400) < 0.3
    many = (clicks + rng.normal(0, 1, 400)).astype(np.float32)
    found = auc_interval(many, clicks, seed=0)
    wins = (many[clicks][:, None] > many[~clicks][None]).mean()
    assert found.value == pytest.approx(wins)
    spread = np.sqrt(wins * (1 - wins) / min(clicks.sum(), (~clicks).sum()))  # an upper bound of the standard error
    assert found.low < wins < found.high
    assert found.high - found.low < 4 * spread


def test_ratings_are_measured_by_the_root_of_the_mean_squared_error() -> None:
    scores, labels = np.array([3.0, 4.0, 5.0], np.float32), np.array([3.0, 5.0, 3.0], np.float32)
    report = evaluate_labelled(scores, labels, squared=True, training_key="key")
    assert isinstance(report.metrics["rmse"], Interval)
    assert report.metrics["rmse"].value == pytest.approx(np.sqrt((0 + 1 + 4) / 3))
