"""Every accepted form of a time becomes the same milliseconds."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import DAYS, LOG, Prepare, Shop

from models.data.config import Config, load_config
from models.data.errors import SourceError

TENTH_MS = 1_704_844_800_000  # 2024-01-10 00:00 UTC


def parquet_shop(folder: Path, times: pa.Array, toml: str = "") -> Config:
    """Thirty interactions of one user at these times."""
    ids = [1000 + i for i in range(len(times))]
    pq.write_table(pa.table({"user_id": ids, "item_id": ids, "timestamp": times}), folder / "log.parquet")
    text = f'[interactions]\npath = "log.parquet"\n{toml}[split]\ntest_days = 10\nvalid_days = 9\nranker_windows = 1\n'
    (folder / "shortlist.toml").write_text(text + "[limits]\nmin_users = 0\n")
    return load_config(folder / "shortlist.toml")


@pytest.mark.parametrize(
    ("text", "after_midnight_ms"),
    [
        ("2024-01-10", 0),
        ("2024-01-10 00:00:01", 1000),
        ("2024-01-10T00:00:01.789Z", 1789),
        ("2024-01-10T00:00:01.9996", 1999),
        ("2024-01-10T02:00:00+02:00", 0),
        ("2024-01-09T19:00:00-05:00", 0),
    ],
)
def test_iso_text_in_csv(shop: Shop, prepared: Prepare, text: str, after_midnight_ms: int) -> None:
    """UTC unless the text has an offset; what is finer than a millisecond is cut off."""
    dataset = prepared(shop([*LOG, f"only,i0,{text}"]))
    user = [dataset.user_ids[i] for i in range(dataset.num_users)].index(b"only")
    times = dataset.interactions.time_ms[dataset.interactions.user_index == user]
    assert times.tolist() == [TENTH_MS + after_midnight_ms]


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 1_000), ("us", 1_000_000)])
def test_numbers_with_a_unit(tmp_path: Path, prepared: Prepare, unit: str, per_second: int) -> None:
    seconds = [int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) for day in DAYS]
    times = pa.array([second * per_second for second in seconds])
    dataset = prepared(parquet_shop(tmp_path, times, f'time_unit = "{unit}"\n'))
    assert sorted(dataset.interactions.time_ms.tolist()) == [second * 1000 for second in seconds]


def test_numbers_with_a_unit_in_csv(shop: Shop, prepared: Prepare) -> None:
    """Half a second is kept: the column is read as a number, not as a whole number."""
    log = [LOG[0], *(f"u0,i0,{TENTH_MS / 1000 + i * 86_400}" for i in range(30)), "u0,i0,1704844800.5"]
    dataset = prepared(shop(log, 'time_unit = "s"\n'))
    assert dataset.interactions.time_ms[:2].tolist() == [TENTH_MS, TENTH_MS + 500]


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.timestamp("ms", "UTC"), pa.timestamp("ns"), pa.date32()])
def test_parquet_timestamps_and_dates(tmp_path: Path, prepared: Prepare, kind: pa.DataType) -> None:
    days: list[Any] = [date.fromisoformat(day) for day in DAYS]
    dataset = prepared(parquet_shop(tmp_path, pa.array(days).cast(pa.timestamp("ms")).cast(kind)))
    assert sorted(dataset.interactions.time_ms.tolist())[9] == TENTH_MS


def test_a_zone_other_than_utc_is_converted(tmp_path: Path, prepared: Prepare) -> None:
    """Arrow keeps the instant whatever zone the column shows."""
    days = [datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(milliseconds=7) for day in DAYS]
    dataset = prepared(parquet_shop(tmp_path, pa.array(days, pa.timestamp("ms", "Asia/Kolkata"))))
    assert sorted(dataset.interactions.time_ms.tolist())[9] == TENTH_MS + 7


def test_numbers_without_a_unit_are_refused(tmp_path: Path, prepared: Prepare) -> None:
    with pytest.raises(
        SourceError, match=r"log\.parquet: column 'timestamp' holds numbers; set interactions\.time_unit"
    ):
        prepared(parquet_shop(tmp_path, pa.array([1, 2])))


def test_integer_ids_become_text(tmp_path: Path, prepared: Prepare) -> None:
    dataset = prepared(parquet_shop(tmp_path, pa.array([datetime.fromisoformat(day) for day in DAYS])))
    assert dataset.user_ids[0] == b"1000"


def test_fractional_ids_are_refused(tmp_path: Path, prepared: Prepare) -> None:
    config = parquet_shop(tmp_path, pa.array([1, 2]), 'time_unit = "s"\n')
    pq.write_table(pa.table({"user_id": [1.5], "item_id": ["a"], "timestamp": [1]}), tmp_path / "log.parquet")
    with pytest.raises(SourceError, match="column 'user_id' is float64; ids are text or whole numbers"):
        prepared(config)
