"""The Complete Journey as the installed package has it."""

from pathlib import Path

import duckdb
import pytest

from models.contract.ids import hash_ids
from models.data.config import load_config
from models.data.dataset import Dataset, load_dataset
from models.data.demo import make_title, write_demo_sources
from models.data.prepare import prepare_dataset


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    prepare_dataset(load_config(write_demo_sources(folder)), folder)
    return folder


@pytest.fixture(scope="module")
def dataset(data_dir: Path) -> Dataset:
    return load_dataset(data_dir / "prepared")


def test_the_log_is_whole(data_dir: Path) -> None:
    """Every transaction of 2017, with its basket, store and discounts."""
    query = """SELECT count(*), count(DISTINCT household_id), count(DISTINCT product_id), count(DISTINCT basket_id),
        min(transaction_timestamp)::VARCHAR, max(transaction_timestamp)::VARCHAR,
        count(store_id) + count(sales_value) + count(retail_disc) + count(coupon_disc) + count(coupon_match_disc)
        FROM read_parquet(?)"""
    row = duckdb.execute(query, [str(data_dir / "demo/interactions.parquet")]).fetchone()
    assert row == (1_469_307, 2_469, 68_509, 155_848, "2017-01-01 11:53:26", "2018-01-01 04:01:20", 5 * 1_469_307)


def test_what_is_kept_and_what_is_left_out(dataset: Dataset) -> None:
    """Items of ten households before the last 28 days; three of them have no row in the product table."""
    report = dataset.report
    assert (dataset.num_items, dataset.num_users) == (16_344, 2_469)
    assert (report.items_sold, report.items_left_out) == (68_509, 68_509 - 16_344)
    assert (report.items_without_row, report.users_without_row) == (3, 2_469 - 801)
    assert report.num_interactions + report.interactions_left_out == 1_469_307
    assert sum(report.parts.values()) == report.num_interactions
    assert sum(source.num_bad for source in report.sources.values()) == 0
    assert dataset.splits.end_ms - dataset.splits.test_start_ms == 28 * 86_400_000


def test_columns_of_an_interaction(dataset: Dataset) -> None:
    assert list(dataset.interactions.context) == ["basket_id", "store_id"]
    assert [feature.name for feature in dataset.schema.context_features] == ["store_id"]
    assert list(dataset.interactions.numeric) == ["retail_disc", "coupon_disc", "coupon_match_disc"]
    assert dataset.schema.seen_types == ["purchase"]


def test_a_product_known_by_its_id(dataset: Dataset) -> None:
    """1029743 is a gallon of milk, among the products sold most."""
    item = int(dataset.item_hashes.searchsorted(hash_ids(["1029743"])[0]))
    assert dataset.item_ids[item] == b"1029743"
    assert dataset.item_fields["title"][item] == b'"Fluid Milk Products, Fluid Milk White Only, 1 ga"'
    codes, values = dataset.item_filters["department"]
    assert values[codes[item]] == "GROCERY"


def test_writing_the_sources_again_keeps_them_and_an_edited_configuration(data_dir: Path) -> None:
    """A configuration nobody edited follows the program's; an edited one stays."""
    folder = data_dir / "demo"
    config, original = folder / "shortlist.toml", folder / ".shortlist.toml.original"
    template = config.read_text()
    tables = {path: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    for path in (config, original):
        path.write_text("# of an older version")
    assert write_demo_sources(data_dir) == config
    assert config.read_text() == original.read_text() == template
    config.write_text(template.replace("test_days = 28", "test_days = 27"))
    assert load_config(write_demo_sources(data_dir)).split.test_days == 27
    assert {path: path.stat().st_mtime_ns for path in tables} == tables
    assert len(tables) == 3


@pytest.mark.parametrize(
    ("parts", "title"),
    [
        (("GROCERY", "CHEESE", "SHREDDED CHEESE", "8 OZ"), "Cheese, Shredded Cheese, 8 oz"),
        (("PASTRY", "BREAD", "BREAD:ITALIAN/FRENCH", None), "Bread: Italian/French"),
        (("GROCERY", "EGGS", "EGGS - X-LARGE", "1 DZ"), "Eggs - X-Large, 1 dz"),
        (
            ("GROCERY", "SOFT DRINKS", "SOFT DRINK BOTTLE NON-CARB (EX", "2 L"),
            "Soft Drinks, Soft Drink Bottle Non-Carb, 2 L",
        ),
        (("GROCERY", "MARGARINES", "MARGARINE  STICK", "L    16 OZ"), "Margarines, Margarine Stick, L 16 oz"),
        (("GROCERY", "SOFT DRINKS", "SFT 12/18&15PK", None), "Soft Drinks, Sft 12/18&15pk"),
        (("MISCELLANEOUS", None, None, None), "Miscellaneous"),
        (("COUPON", None, None, "12 OZ"), "Coupon, 12 oz"),
        (("MEAT", None, "LEAN", None), "Lean"),
        ((None, None, None, None), None),
    ],
)
def test_titles_read_well(parts: tuple[str | None, str | None, str | None, str | None], title: str | None) -> None:
    assert make_title(*parts) == title
