"""Bad rows are counted by reason, and too many of them fail the run."""

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import DAYS, LOG, Prepare, Shop

from models.data.config import load_config
from models.data.errors import BadRowsError, SourceError

LONG = "x" * 129
LENIENT = "[limits]\nmax_bad_share = 0.5\n"


def test_each_bad_row_is_counted_under_its_reason(shop: Shop, prepared: Prepare) -> None:
    """One row a reason; a row with two faults counts once; an id of 128 characters is fine."""
    bad = [
        ",i0,2024-01-05,1",
        f"{LONG},i0,2024-01-05,1",
        "u0,,2024-01-05,1",
        f"u0,{LONG},2024-01-05,1",
        "u0,i0,yesterday,1",
        "u0,i0,,1",
        "u0,i0,1969-12-31,1",
        "u0,i0,2100-01-02,1",
        "u0,i0,infinity,1",
        "u0,i0,2024-01-05,nan",
        "u0,i0,2024-01-05,-inf",
        "u0,i0,2024-01-05,1e39",
        "u0,i0,2024-01-05,a lot",
        ",i0,yesterday,nan",
    ]
    log = [LOG[0] + ",money", *(line + ",2" for line in LOG[1:]), *bad, f"{LONG[1:]},i0,2024-01-05,"]
    dataset = prepared(shop(log, 'value = "money"\n' + LENIENT))
    report = dataset.report.sources["interactions"]
    assert report.rows == 45
    assert report.bad == {
        "item_id is missing": 1,
        "item_id over 128 characters": 1,
        "timestamp missing, not readable as ISO 8601 (for numbers set time_unit), or not in 1970 to 2100": 5,
        "user_id is missing": 2,
        "user_id over 128 characters": 1,
        "value is not a finite number": 4,
    }
    assert report.missing == {"money": 1}
    assert len(dataset.interactions) == 31
    assert dataset.interactions.value.tolist().count(0.0) == 1


def test_a_further_number_that_is_none_makes_its_row_bad_and_a_missing_one_is_0(shop: Shop, prepared: Prepare) -> None:
    """As for `value`. A row with two faults counts once, and one of too small a value is a bad row first."""
    log = [LOG[0] + ",money,price,weight", *(line + ",5,1,1" for line in LOG[1:])]
    log += [f"u0,i0,2024-01-05,5,{numbers}" for numbers in ("2,", ",3", " ,4")]
    log += [f"u0,i0,2024-01-05,5,{price},1" for price in ("abc", '"1,5"', "inf", "nan")]
    log += [f"u0,i0,2024-01-05,5,1,{weight}" for weight in ("1e39", "-inf", "nan")]
    log += [f"u0,i0,2024-01-05,{numbers}" for numbers in ("5,abc,inf", "0,abc,1", "0,1,1")]
    toml = 'value = "money"\nmin_value = 1\nnumeric = ["price", "weight"]\n'
    with pytest.raises(
        BadRowsError, match=r"log\.csv: 9 of 43 rows .*: price is not a finite number: 6; weight is not"
    ):
        prepared(shop(log, toml))
    dataset = prepared(shop(log, toml + LENIENT))
    report = dataset.report.sources["interactions"]
    assert report.bad == {"price is not a finite number": 6, "weight is not a finite number": 3}
    assert (report.missing, report.left_out) == ({"price": 2, "weight": 1}, {"value below 1.0": 1})
    kept = dataset.interactions.numeric
    assert sorted(kept["price"].tolist()) == [0.0, 0.0, *[1.0] * 30, 2.0]
    assert sorted(kept["weight"].tolist()) == [0.0, *[1.0] * 30, 3.0, 4.0]


def test_nan_in_parquet_is_a_missing_further_number(tmp_path: Path, prepared: Prepare) -> None:
    """As in items and users: pandas writes a missing number so. Infinity is none, and neither is a word."""
    days = [datetime.fromisoformat(day) for day in DAYS]
    table = {"user_id": ["u"] * 30, "item_id": ["i"] * 30, "timestamp": days}
    table |= {"price": [float("nan"), None, float("inf"), *[1.0] * 27], "size": ["", None, "1", "big", *["1"] * 26]}
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    toml = '[interactions]\npath = "log.parquet"\nnumeric = ["price", "size"]\n' + LENIENT
    (tmp_path / "shortlist.toml").write_text(toml + "[split]\ntest_days = 10\nvalid_days = 9\nranker_windows = 1\n")
    dataset = prepared(load_config(tmp_path / "shortlist.toml"))
    report = dataset.report.sources["interactions"]
    assert report.bad == {"price is not a finite number": 1, "size is not a finite number": 1}
    assert report.missing == {"price": 2, "size": 2}
    assert {name: values.tolist() for name, values in dataset.interactions.numeric.items()} == {
        name: [0.0, 0.0, *[1.0] * 26] for name in ("price", "size")
    }


def test_more_bad_rows_than_the_limit_fail_the_run_with_reasons_and_counts(shop: Shop, prepared: Prepare) -> None:
    """Thirty good rows and one bad one are 3.2 %."""
    with pytest.raises(BadRowsError) as caught:
        prepared(shop([*LOG, ",i0,2024-01-05"]))
    message = str(caught.value)
    assert "log.csv: 1 of 31 rows (3.23%) are bad, more than limits.max_bad_share = 1.00%" in message
    assert "user_id is missing: 1" in message


def test_exactly_the_limit_passes(shop: Shop, prepared: Prepare) -> None:
    """Two bad rows of 32 are 6.25 %."""
    log = [*LOG, ",i0,2024-01-05", ",i0,2024-01-06"]
    assert len(prepared(shop(log, "[limits]\nmax_bad_share = 0.0625\n")).interactions) == 30
    with pytest.raises(BadRowsError, match="more than"):
        prepared(shop(log, "[limits]\nmax_bad_share = 0.0624\n"))


def test_equal_rows_are_kept(shop: Shop, prepared: Prepare) -> None:
    assert len(prepared(shop([*LOG, LOG[3], LOG[3]])).interactions) == 32


def test_an_empty_input_is_an_error(shop: Shop, prepared: Prepare) -> None:
    with pytest.raises(BadRowsError, match=r"log\.csv: has no rows"):
        prepared(shop(LOG[:1]))


def test_only_bad_rows_are_an_error_even_when_all_may_be_bad(shop: Shop, prepared: Prepare) -> None:
    with pytest.raises(BadRowsError, match=r"has no good row: user_id is missing: 1"):
        prepared(shop([LOG[0], ",i0,2024-01-05"], "[limits]\nmax_bad_share = 1\n"))


def test_a_missing_column_is_named_with_the_closest_one(shop: Shop, prepared: Prepare) -> None:
    with pytest.raises(SourceError, match=r"log\.csv: no column 'userid'; did you mean 'user_id'\?"):
        prepared(shop(toml='user_id = "userid"\n'))


def test_a_missing_file_is_named(shop: Shop, prepared: Prepare) -> None:
    with pytest.raises(SourceError, match=r"items\.csv: no such file"):
        prepared(shop(toml='[items]\npath = "items.csv"\n'))


@pytest.mark.parametrize("line", ["u0,i0,2024-01-05,and,more", "u0,i0"])
def test_a_torn_csv_is_an_error_that_names_file_and_line(shop: Shop, prepared: Prepare, line: str) -> None:
    """Left to itself, DuckDB takes the 31 lines before it for a preamble and skips them."""
    with pytest.raises(SourceError, match=r"log\.csv: cannot be read: .*CSV Error on Line: 32"):
        prepared(shop([*LOG, line]))


def test_a_semicolon_csv_with_quoted_line_breaks(shop: Shop, prepared: Prepare) -> None:
    log = [LOG[0].replace(",", ";"), *(f'u0;"a;""{i % 2}\n";{line.split(",")[2]}' for i, line in enumerate(LOG[1:]))]
    dataset = prepared(shop(log))
    assert sorted(dataset.item_ids[i] for i in range(dataset.num_items)) == [b'a;"0\n', b'a;"1\n']


def test_an_empty_id_in_parquet(tmp_path: Path, prepared: Prepare) -> None:
    """CSV cannot tell empty from missing; Parquet can."""
    days = [datetime.fromisoformat(day) for day in DAYS]
    log = {"user_id": ["u"] * 29 + [""], "item_id": ["i"] * 30, "timestamp": days}
    pq.write_table(pa.table(log), tmp_path / "log.parquet")
    (tmp_path / "shortlist.toml").write_text('[interactions]\npath = "log.parquet"\n')
    with pytest.raises(BadRowsError, match="user_id is empty: 1"):
        prepared(load_config(tmp_path / "shortlist.toml"))


def test_a_torn_parquet_file_is_named(tmp_path: Path, prepared: Prepare) -> None:
    """The footer is whole, so the file opens; its pages are not."""
    days = [datetime.fromisoformat(day) for day in DAYS]
    log = pa.table({"user_id": ["u"] * 30, "item_id": ["i"] * 30, "timestamp": days})
    pq.write_table(log, tmp_path / "log.parquet", compression="zstd")
    content = bytearray((tmp_path / "log.parquet").read_bytes())
    content[4:200] = bytes(196)
    (tmp_path / "log.parquet").write_bytes(content)
    (tmp_path / "shortlist.toml").write_text('[interactions]\npath = "log.parquet"\n')
    with pytest.raises(SourceError, match=r"log\.parquet: cannot be read: "):
        prepared(load_config(tmp_path / "shortlist.toml"))


def test_an_unknown_kind_of_file(shop: Shop, prepared: Prepare) -> None:
    with pytest.raises(SourceError, match=r"shortlist\.toml: unknown kind of file"):
        prepared(shop(toml='[items]\npath = "shortlist.toml"\n'))


def test_an_unknown_seen_type(shop: Shop, prepared: Prepare) -> None:
    with pytest.raises(
        SourceError, match=r"events\.seen: 'loan' is not an event type of .*log\.csv \(purchase, view\)"
    ):
        prepared(shop(toml='[events]\nseen = ["loan"]\ntypes = ["view"]\n'))
