"""The same input gives the same bytes, and a run that fails leaves what was there."""

import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import LOG, Prepare, Shop
from planted import write_planted

from models.data.config import load_config
from models.data.dataset import load_dataset
from models.data.errors import BadRowsError, DataError
from models.data.prepare import STEPS, prepare_dataset
from models.data.write import exclusive


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file but the one that names the input."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != "input.sha256"}


@pytest.mark.parametrize("kind", ["time", "leave-last-out", "random"])
def test_permuted_lines_give_identical_bytes(tmp_path: Path, kind: str) -> None:
    """All three files shuffled, the log cut into three files: every array, the report and the fingerprint are equal."""
    truth = write_planted(tmp_path / "shop")
    log = pq.read_table(tmp_path / "shop/interactions.parquet")
    # Lines equal in all but the value, in all but the store, and in all: every key of the order decides somewhere.
    twins = log.slice(0, 500).set_column(log.schema.get_field_index("price"), "price", pa.array([9.5] * 500))
    moved = log.slice(500, 500).set_column(log.schema.get_field_index("store"), "store", pa.array(["a"] * 500))
    log = pa.concat_tables([log, twins, moved, log.slice(0, 100)])
    pq.write_table(log, tmp_path / "shop/interactions.parquet")
    text = truth.config.read_text().replace("[split]", f'[split]\nkind = "{kind}"')
    if kind == "random":
        text = text.replace("ranker_windows = 3\n", "")
    truth.config.write_text(text)
    first = prepare_dataset(load_config(truth.config), tmp_path / "first").folder

    shuffler = random.Random(7)
    for name in ("interactions", "items", "users"):
        table = pq.read_table(tmp_path / f"shop/{name}.parquet")
        lines = list(range(len(table)))
        shuffler.shuffle(lines)
        pq.write_table(table.take(lines), tmp_path / f"shop/{name}.parquet")
    shuffled = pq.read_table(tmp_path / "shop/interactions.parquet")
    for part in range(3):
        pq.write_table(shuffled.slice(part * 5000, 5000), tmp_path / f"shop/log-{part}.parquet")
    assert len(shuffled) > 15_000
    pq.write_table(shuffled.slice(15_000), tmp_path / "shop/log-3.parquet")
    truth.config.write_text(text.replace("interactions.parquet", "log-*.parquet"))
    second = prepare_dataset(load_config(truth.config), tmp_path / "second").folder

    assert files_of(first) == files_of(second)
    assert load_dataset(first).fingerprint == load_dataset(second).fingerprint


def test_another_value_gives_another_fingerprint(shop: Shop, prepared: Prepare) -> None:
    first = prepared(shop()).fingerprint
    assert prepared(shop([*LOG[:-1], LOG[-1].replace("i", "j")], "[limits]\nmin_users = 0\n")).fingerprint != first


def test_the_same_input_again_does_nothing(tmp_path: Path, shop: Shop) -> None:
    """Not even when the files were written anew, or lie elsewhere, or only [train] changed."""
    first = prepare_dataset(shop(), tmp_path / "data")
    steps: list[str] = []
    again = prepare_dataset(shop(toml="[train.retrieval]\nmax_steps = 7\n"), tmp_path / "data", steps.append)
    assert (first.reused, again.reused, steps) == (False, True, [])
    assert again.report == first.report
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("log.csv", "shortlist.toml"):
        shutil.copy(tmp_path / name, moved / name)
    assert prepare_dataset(load_config(moved / "shortlist.toml"), tmp_path / "data").reused


@pytest.mark.parametrize("change", ["a line", "the configuration", "a damaged file"])
def test_a_change_prepares_again(tmp_path: Path, shop: Shop, change: str) -> None:
    folder = prepare_dataset(shop(), tmp_path / "data").folder
    config = shop([*LOG, "u1,i1,2024-01-30"]) if change == "a line" else shop()
    if change == "the configuration":
        config = shop(toml="[limits]\nmin_users = 0\n")
    if change == "a damaged file":
        (folder / "users/numeric.npy").write_bytes(b"")
    steps: list[str] = []
    assert not prepare_dataset(config, tmp_path / "data", steps.append).reused
    assert steps == list(STEPS)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".prepare.lock", "prepared"]


def test_a_failed_run_leaves_the_old_dataset_and_no_rubbish(tmp_path: Path, shop: Shop) -> None:
    folder = prepare_dataset(shop(), tmp_path / "data").folder
    before = files_of(folder)
    with pytest.raises(BadRowsError):
        prepare_dataset(shop([*LOG, ",i0,2024-01-05"]), tmp_path / "data")
    assert files_of(folder) == before
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".prepare.lock", "prepared"]


def test_what_a_killed_run_left_is_cleared(tmp_path: Path, shop: Shop) -> None:
    (tmp_path / "data/.prepare/prepared/items").mkdir(parents=True)
    (tmp_path / "data/.prepare/prepared/items/old.npy").write_bytes(b"")
    (tmp_path / "data/.prepared.old").mkdir()
    folder = prepare_dataset(shop(), tmp_path / "data").folder
    assert load_dataset(folder).num_items == 2
    assert not (folder / "items/old.npy").exists()
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".prepare.lock", "prepared"]


def test_two_runs_at_once_are_refused(tmp_path: Path, shop: Shop) -> None:
    (tmp_path / "data").mkdir()
    with (
        exclusive(tmp_path / "data/.prepare.lock", "another `shortlist prepare`"),
        pytest.raises(DataError, match="another `shortlist prepare` is running there"),
    ):
        prepare_dataset(shop(), tmp_path / "data")
