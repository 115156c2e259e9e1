"""Which items and users are kept, and what a caller may filter on and get back."""

import datetime
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import LOG, Prepare, Shop

from models.contract.ids import hash_ids
from models.data.dataset import Dataset
from models.data.errors import BadRowsError, SourceError


def items_of(dataset: Dataset) -> list[str]:
    return [dataset.item_ids[i].decode() for i in range(dataset.num_items)]


def test_items_are_in_the_order_of_their_hashes_and_users_of_their_ids(shop: Shop, prepared: Prepare) -> None:
    log = [*LOG, *(f"user{i},item{i},2024-01-02" for i in range(20))]
    dataset = prepared(shop(log))
    expected = sorted([f"item{i}" for i in range(20)] + ["i0", "i1"], key=lambda item: int(hash_ids([item])[0]))
    assert items_of(dataset) == expected
    assert dataset.item_hashes.tolist() == sorted(hash_ids(expected).tolist())
    users = [dataset.user_ids[i].decode() for i in range(dataset.num_users)]
    assert users == sorted(["u0", "u1", *(f"user{i}" for i in range(20))])


def test_items_with_too_few_users_before_the_test_are_left_out_and_counted(shop: Shop, prepared: Prepare) -> None:
    """i5 has three users, but only one of them before the test; two lines of one user are one user."""
    extra = ["u0,i5,2024-01-02", "u0,i5,2024-01-03", "u1,i5,2024-01-25", "u2,i5,2024-01-25"]
    dataset = prepared(shop([*LOG, *extra], "[limits]\nmin_users = 2\n"))
    assert sorted(items_of(dataset)) == ["i0", "i1"]
    report = dataset.report
    assert (report.items_sold, report.items_left_out, report.interactions_left_out) == (3, 1, 4)
    assert dataset.num_users == 3  # u2 stays, without a history
    assert dataset.interactions.user_offsets(3).tolist() == [0, 15, 30, 30]
    assert ("items left out (under 2 users before the test split)", "1") in list(report.lines())


def test_no_item_left_is_an_error(shop: Shop, prepared: Prepare) -> None:
    with pytest.raises(BadRowsError, match=r"no item has 3 users before the test split; lower limits\.min_users"):
        prepared(shop(toml="[limits]\nmin_users = 3\n"))


def test_items_and_users_without_a_row_are_kept_with_nothing_known(shop: Shop, prepared: Prepare) -> None:
    toml = """[items]
path = "items.csv"
features = [{name = "genre", kind = "categorical"}, {name = "price", kind = "numeric"}]
returned = ["genre"]
filterable = ["genre"]
[users]
path = "users.csv"
features = [{name = "age", kind = "categorical"}]
"""
    dataset = prepared(shop(toml=toml, items=["item_id,genre,price", "i0,crime,3"], users=["user_id,age", "u1,30"]))
    bare = items_of(dataset).index("i1")
    assert dataset.item_categorical[bare].tolist() == [0]
    assert dataset.item_numeric[bare].tolist() == [0.0]
    assert dataset.item_fields["genre"][bare] == b"null"
    assert dataset.item_filters["genre"][0][bare] == -1
    assert dataset.user_categorical.tolist() == [[0], [1]]
    assert (dataset.report.items_without_row, dataset.report.users_without_row) == (1, 1)


def test_users_that_are_only_listed_are_kept(shop: Shop, prepared: Prepare) -> None:
    dataset = prepared(shop(toml='[users]\npath = "users.csv"\n', users=["user_id,age", "a,1", "u0,2", "z,3"]))
    assert dataset.num_users == 4
    assert dataset.report.users_active == 2


def test_listed_items_nobody_met_are_kept_only_with_min_users_0(shop: Shop, prepared: Prepare) -> None:
    toml, items = '[items]\npath = "items.csv"\n', ["item_id,genre", "i0,a", "i1,b", "new,c"]
    dataset = prepared(shop(toml=toml, items=items))
    assert (dataset.num_items, dataset.report.items_listed_left_out) == (2, 1)
    assert prepared(shop(toml=toml + "[limits]\nmin_users = 0\n", items=items)).num_items == 3


@pytest.mark.parametrize("name", ["items", "users"])
def test_an_id_with_two_rows_is_an_error(shop: Shop, prepared: Prepare, name: str) -> None:
    key = name.removesuffix("s") + "_id"
    lines = {name: [f"{key},genre", "b,1", "a,2", "b,3", "a,4", "c,5"]}
    with pytest.raises(SourceError, match=rf"{name}\.csv: 2 values of '{key}' have several rows, such as 'a', 'b'"):
        prepared(shop(toml=f'[{name}]\npath = "{name}.csv"\n', **lines))


def test_bad_rows_of_items_count_against_the_same_limit(shop: Shop, prepared: Prepare) -> None:
    toml, items = '[items]\npath = "items.csv"\n', ["item_id,genre", "i0,a", ",b", f"{'x' * 129},c"]
    with pytest.raises(BadRowsError, match=r"items\.csv: 2 of 3 rows .* item_id is missing: 1; item_id over 128"):
        prepared(shop(toml=toml, items=items))
    dataset = prepared(shop(toml=toml + "[limits]\nmax_bad_share = 0.9\n", items=items))
    assert dataset.report.sources["items"].bad == {"item_id is missing": 1, "item_id over 128 characters": 1}


def test_columns_keep_their_own_types(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    """Strings, numbers, booleans and lists come back as JSON; what can be filtered keeps its type too."""
    table = {
        "item_id": ["i0", "i1"],
        "name": ['say "ü"', None],
        "year": [1999, None],
        "price": [1.5, float("nan")],
        "own": [True, False],
        "tags": [["a", "b"], []],
        "day": [datetime.date(2024, 1, 2), None],
        "reason": ["a column may have any name", "id"],
    }
    pq.write_table(pa.table(table), tmp_path / "items.parquet")
    toml = '[items]\npath = "items.parquet"\nreturned = ["name", "year", "price", "own", "tags", "day", "reason"]\n'
    dataset = prepared(shop(toml=toml + 'filterable = ["name", "year", "price", "own", "day"]\n'))
    full, bare = items_of(dataset).index("i0"), items_of(dataset).index("i1")
    fields = {name: [orjson.loads(column[i]) for i in (full, bare)] for name, column in dataset.item_fields.items()}
    assert fields == {
        "name": ['say "ü"', None],
        "year": [1999, None],
        "price": [1.5, None],
        "own": [True, False],
        "tags": [["a", "b"], []],
        "day": ["2024-01-02", None],
        "reason": ["a column may have any name", "id"],
    }
    filters = {name: (codes[[full, bare]].tolist(), values) for name, (codes, values) in dataset.item_filters.items()}
    assert filters == {
        "name": ([0, -1], ['say "ü"']),
        "year": ([0, -1], [1999]),
        "price": ([0, -1], [1.5]),
        "own": ([1, 0], [False, True]),
        "day": ([0, -1], ["2024-01-02"]),
    }


def test_lists_can_be_neither_filtered_on_nor_categories(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    pq.write_table(pa.table({"item_id": ["i0", "i1"], "tags": [["a"], ["b"]]}), tmp_path / "items.parquet")
    source = '[items]\npath = "items.parquet"\n'
    with pytest.raises(SourceError, match=r"items\.filterable: column 'tags' is list"):
        prepared(shop(toml=source + 'filterable = ["tags"]\n'))
    with pytest.raises(SourceError, match="column 'tags' is array<string>; a categorical feature is text or a number"):
        prepared(shop(toml=source + 'features = [{name = "tags", kind = "categorical"}]\n'))
    with pytest.raises(SourceError, match="column 'tags' is array<string>; numbers are expected"):
        prepared(shop(toml=source + 'features = [{name = "tags", kind = "numeric"}]\n'))


def test_event_types_are_those_found_and_those_named(shop: Shop, prepared: Prepare) -> None:
    """Sorted; an empty type is the default one, and counted as missing."""
    log = [LOG[0] + ",what", *(f"{line},{('view', 'buy', '')[i % 3]}" for i, line in enumerate(LOG[1:]))]
    toml = 'event_type = "what"\ndefault_event_type = "other"\n[events]\ntypes = ["cart"]\nseen = ["buy"]\n'
    dataset = prepared(shop(log, toml))
    assert dataset.schema.event_types == ["buy", "cart", "other", "view"]
    assert np.bincount(dataset.interactions.event_type).tolist() == [10, 0, 10, 10]
    assert dataset.report.sources["interactions"].missing == {"what": 10}


def test_state_limits_reach_the_schema(shop: Shop, prepared: Prepare) -> None:
    schema = prepared(shop(toml="[state]\nhistory_limit = 7\nseen_limit = 9\nfeature_ttl_days = 0.5\n")).schema
    assert (schema.history_limit, schema.seen_limit, schema.feature_ttl_s) == (7, 9, 43_200)
