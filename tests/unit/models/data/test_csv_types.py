"""Columns of an items CSV get the type that all their values have."""

import gzip
from pathlib import Path

import orjson
import pytest
from conftest import LOG, Prepare, Shop

from models.data.errors import SourceError

COLUMNS = ["whole", "fraction", "flag", "zeros", "mixed", "nothing", "huge", "day"]
TOML = f'[items]\npath = "items.csv"\nreturned = {orjson.dumps(COLUMNS).decode()}\n'
ITEMS = [
    "item_id," + ",".join(COLUMNS),
    "i0,7,7,true,007,7,,9223372036854775808,2024-01-05",
    "i1,-3,1.5,False,010,x,,1,2024-01-06",
    "i9,,,,,,,,",
]


def test_a_type_is_what_all_values_allow(shop: Shop, prepared: Prepare) -> None:
    """Leading zeros make text, one word makes text, a missing value decides nothing, 2^63 is no int64."""
    dataset = prepared(shop(items=ITEMS, toml=TOML))
    item = [dataset.item_ids[i] for i in range(2)].index(b"i1")
    values = {name: orjson.loads(dataset.item_fields[name][item]) for name in COLUMNS}
    assert values == {
        "whole": -3,
        "fraction": 1.5,
        "flag": False,
        "zeros": "010",
        "mixed": "x",
        "nothing": None,
        "huge": 1.0,
        "day": "2024-01-06",
    }
    assert type(values["whole"]) is int
    assert type(values["huge"]) is float


def test_several_gzipped_files_with_a_byte_order_mark(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    config = shop()
    (tmp_path / "log.csv").unlink()
    for name, lines in (("a", LOG[1:16]), ("b", LOG[16:])):
        with gzip.open(tmp_path / f"log-{name}.csv.gz", "wt", encoding="utf-8-sig") as file:
            file.write("\n".join([LOG[0], *lines]))
    section = config.log.model_copy(update={"path": str(tmp_path / "log-*.csv.gz")})
    assert len(prepared(config.model_copy(update={"interactions": section})).interactions) == 30


def test_files_with_different_headers_are_refused(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    """Read by position, user ids would become item ids."""
    config = shop(toml="")
    (tmp_path / "log2.csv").write_text("item_id,user_id,timestamp\ni0,u0,2024-01-05\n")
    section = config.log.model_copy(update={"path": str(tmp_path / "log*.csv")})
    with pytest.raises(SourceError, match=r"log2\.csv: has other columns than log\.csv"):
        prepared(config.model_copy(update={"interactions": section}))
