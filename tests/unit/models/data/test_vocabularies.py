"""Codes and standardised numbers; what they learn, and from when."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import LOG, Prepare, Shop

from models.contract.schema import CategoricalFeature, NumericFeature
from models.data.dataset import Dataset
from models.data.errors import BadRowsError

# i0 and i1 sell from the start; i2 only in the test window; i3 is listed and never sold.
LATE = [*LOG, "u0,i2,2024-01-25", "late,i0,2024-01-26"]
ITEMS = ["item_id,genre,price", "i0,crime,10", "i1,poetry,20", "i2,travel,99", "i3,comics,1"]
USERS = ["user_id,age", "u0,30", "u1,50", "late,99"]
FEATURES = '[{name = "genre", kind = "categorical"}, {name = "price", kind = "numeric"}]'
TOML = f"""[items]
path = "items.csv"
features = {FEATURES}
[users]
path = "users.csv"
features = [{{name = "age", kind = "numeric"}}]
[limits]
min_users = 0
"""


def of_item(dataset: Dataset, name: bytes) -> int:
    return [dataset.item_ids[i] for i in range(dataset.num_items)].index(name)


def test_values_are_learnt_from_before_the_test_split_only(shop: Shop, prepared: Prepare) -> None:
    """travel and comics are unknown values; mean 15 and spread 5 come from i0 and i1 alone."""
    dataset = prepared(shop(LATE, TOML, ITEMS, USERS))
    assert dataset.num_items == 4
    assert dataset.schema.item_features == [
        CategoricalFeature(name="genre", vocabulary=["crime", "poetry"]),
        NumericFeature(name="price", mean=15.0, std=5.0),
    ]
    codes = {name: int(dataset.item_categorical[of_item(dataset, name), 0]) for name in (b"i0", b"i1", b"i2", b"i3")}
    assert codes == {b"i0": 1, b"i1": 2, b"i2": 0, b"i3": 0}
    assert dataset.item_numeric[of_item(dataset, b"i2"), 0] == np.float32((99 - 15) / 5)


def test_user_features_do_not_learn_from_users_who_came_later(shop: Shop, prepared: Prepare) -> None:
    dataset = prepared(shop(LATE, TOML, ITEMS, USERS))
    assert dataset.schema.user_features == [NumericFeature(name="age", mean=40.0, std=10.0)]
    assert dataset.user_numeric[:, 0].tolist() == pytest.approx([5.9, -1.0, 1.0])  # late, u0, u1


def test_context_features_do_not_learn_later_values(shop: Shop, prepared: Prepare) -> None:
    """store B appears only in the test; rare C, twice before the test, shares code 0 with it."""
    stores = ["A"] * 25 + ["B"] * 5
    stores[3] = stores[4] = "C"
    log = [
        LOG[0] + ",store,till",
        *(f"{line},{store},{i}" for i, (line, store) in enumerate(zip(LOG[1:], stores, strict=True))),
    ]
    toml = 'context = ["store", "till"]\n[features]\ncontext = ["store"]\ncontext_min_count = 3\n'
    dataset = prepared(shop(log, toml))
    assert dataset.schema.context_features == [CategoricalFeature(name="store", vocabulary=["A"])]
    assert dataset.schema.event_context == ["store", "till"]
    assert np.bincount(dataset.interactions.context["store"]).tolist() == [7, 23]
    assert sorted(dataset.interactions.context["till"].tolist()) == list(range(1, 31))
    assert dataset.report.rare_values == {"store": 1}


def test_rare_values_share_code_zero(shop: Shop, prepared: Prepare) -> None:
    """Of crime x2 and poetry x1 only crime has two items."""
    items = ["item_id,genre", "i0,crime", "i1,poetry", "i2,crime"]
    toml = '[items]\npath = "items.csv"\nfeatures = [{name = "genre", kind = "categorical", min_count = 2}]\n'
    dataset = prepared(shop([*LOG, "u0,i2,2024-01-02"], toml, items))
    assert dataset.schema.categorical("item")[0].vocabulary == ["crime"]
    assert dataset.item_categorical[of_item(dataset, b"i1"), 0] == 0
    assert dataset.report.rare_values == {"genre": 1}


def test_vocabularies_are_in_the_order_of_code_points(shop: Shop, prepared: Prepare) -> None:
    items = ["item_id,genre", "i0,ähnlich", "i1,Zebra", "i2,apple", "i3,10", "i4,9"]
    toml = '[items]\npath = "items.csv"\nfeatures = [{name = "genre", kind = "categorical"}]\n'
    dataset = prepared(shop([*LOG, *(f"u0,i{i},2024-01-02" for i in range(5))], toml, items))
    assert dataset.schema.categorical("item")[0].vocabulary == ["10", "9", "Zebra", "apple", "ähnlich"]


def test_a_missing_number_is_the_mean_and_one_that_is_none_makes_its_row_bad(shop: Shop, prepared: Prepare) -> None:
    """Missing becomes 0, the mean of the others: (10 + 20) / 2. A column of numbers alone is typed by the reader, one
    with a word in it stays text."""
    items = ["item_id,price,size", "i0,10,1", "i1,20,2", "i2,nan,1", "i3,,1", "i4,cheap,1", "i5,inf,1"]
    items += ["i6,1e39,1", "i7,10,nan", "i8,10,-inf", "i9,10,", "i10, ,2"]
    toml = """[items]
path = "items.csv"
features = [{name = "price", kind = "numeric"}, {name = "size", kind = "numeric"}]
"""
    log = [*LOG, *(f"u0,i{i},2024-01-02" for i in range(2, 11))]
    reasons = "price is not a finite number: 4; size is not a finite number: 2"
    with pytest.raises(BadRowsError, match=rf"items\.csv: 6 of 11 rows .*: {reasons}\. Correct them"):
        prepared(shop(log, toml, items))
    dataset = prepared(shop(log, toml + "[limits]\nmax_bad_share = 0.6\n", items))
    report = dataset.report.sources["items"]
    assert report.bad == {"price is not a finite number": 4, "size is not a finite number": 2}
    assert report.missing == {"price": 2, "size": 1}
    means = {feature.name: feature.mean for feature in dataset.schema.numeric("item")}
    assert means == {"price": 40 / 3, "size": 1.5}  # of 10, 20, 10, and of 1, 2, 1, 2
    assert np.count_nonzero(dataset.item_numeric[:, 0]) == 3


def test_nan_in_parquet_is_a_missing_number_and_infinity_is_none(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    """pandas writes a missing number as NaN; nothing writes infinity for it."""
    ages = [30.0, float("nan"), None, float("inf")]
    pq.write_table(pa.table({"user_id": ["u0", "u1", "u2", "u3"], "age": ages}), tmp_path / "users.parquet")
    toml = '[users]\npath = "users.parquet"\nfeatures = [{name = "age", kind = "numeric"}]\n'
    with pytest.raises(BadRowsError, match=r"users\.parquet: 1 of 4 rows .* age is not a finite number: 1"):
        prepared(shop(toml=toml))
    report = prepared(shop(toml=toml + "[limits]\nmax_bad_share = 0.5\n")).report.sources["users"]
    assert (report.bad, report.missing) == ({"age is not a finite number": 1}, {"age": 2})


def test_a_constant_number_has_spread_one(shop: Shop, prepared: Prepare) -> None:
    items = ["item_id,price", "i0,10", "i1,10"]
    toml = '[items]\npath = "items.csv"\nfeatures = [{name = "price", kind = "numeric"}]\n'
    dataset = prepared(shop(toml=toml, items=items))
    assert dataset.schema.item_features == [NumericFeature(name="price", mean=10.0, std=1.0)]
