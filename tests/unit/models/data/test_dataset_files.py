"""Opening a prepared dataset: a damaged one is refused with the name of the file."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest

from models.data.config import load_config
from models.data.dataset import load_dataset
from models.data.errors import DatasetError
from models.data.prepare import prepare_dataset

TOML = """[interactions]
path = "log.csv"
context = ["store"]
[items]
path = "items.csv"
features = [{name = "genre", kind = "categorical"}, {name = "price", kind = "numeric"}]
returned = ["genre"]
filterable = ["genre"]
[features]
context = ["store"]
[split]
test_days = 10
valid_days = 9
ranker_windows = 1
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared once; every test damages a copy."""
    source = tmp_path_factory.mktemp("shop")
    log = ["user_id,item_id,timestamp,store", *(f"u{i % 2},i{i // 2 % 2},2024-01-{i + 1:02d},s" for i in range(30))]
    (source / "log.csv").write_text("\n".join(log))
    (source / "items.csv").write_text("item_id,genre,price\ni0,a,1\ni1,b,2\n")
    (source / "shortlist.toml").write_text(TOML)
    return prepare_dataset(load_config(source / "shortlist.toml"), source / "data").folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "prepared"))


Change = Callable[[np.ndarray], np.ndarray]


@pytest.mark.parametrize(
    ("file", "change", "complaint"),
    [
        ("interactions/user_index.npy", lambda a: a[::-1], "interactions: not sorted"),
        ("interactions/time_ms.npy", lambda a: a[::-1], "interactions: not sorted"),
        ("interactions/user_index.npy", lambda a: a.astype(np.int64), r"interactions/user_index: int32 \[30\]"),
        ("interactions/value.npy", lambda a: a[:-1], r"interactions/value: float32 \[30\] expected, found .*\[29\]"),
        ("interactions/item_index.npy", lambda a: a + 9, "interactions/item_index.npy: values from 0 to 1"),
        ("interactions/event_type.npy", lambda a: a + 1, "interactions/event_type.npy: values from 0 to 0"),
        ("interactions/context/store.npy", lambda a: a + 1, "interactions/context/store.npy: values from 0 to 1"),
        ("interactions/part.npy", lambda a: a + 1, "interactions/part.npy: values from 0 to 2"),
        ("items/hashes.npy", lambda a: a[::-1], "items/hashes.npy: not strictly ascending"),
        ("items/categorical.npy", lambda a: a + 1, "items/categorical.npy column 0: values from 0 to 2"),
        ("items/categorical.npy", lambda a: a[:, :0], r"items/categorical.npy: int32 \[2, 1\] expected"),
        ("items/numeric.npy", lambda a: a * np.nan, "items/numeric.npy: has values that are not finite"),
        ("items/ids.offsets.npy", lambda a: a[::-1], "items/ids: offsets do not match"),
        ("items/ids.offsets.npy", lambda a: np.array([0, 9, a[-1]]), "items/ids: offsets do not match"),
        ("items/ids.offsets.npy", lambda a: np.array([1, 2, a[-1]]), "items/ids: offsets do not match"),
        ("items/ids.offsets.npy", lambda a: a[:-1], "items/ids: 2 strings expected, found 1"),
        ("items/fields/genre.offsets.npy", lambda a: a + 1, "items/fields/genre: offsets do not match"),
        ("items/filters/genre.npy", lambda a: a - 2, "items/filters/genre.npy: values from -1 to 1"),
        ("users/ids.data.npy", lambda a: a[1:], "users/ids: offsets do not match"),
        ("users/categorical.npy", lambda a: a[1:], r"users/categorical.npy: int32 \[2, 0\] expected"),
    ],
)
def test_a_damaged_array_is_named(folder: Path, file: str, change: Change, complaint: str) -> None:
    array = np.load(folder / file)
    np.save(folder / file, change(array))
    with pytest.raises(DatasetError, match=complaint) as caught:
        load_dataset(folder)
    assert str(folder) in str(caught.value)


def test_every_file_is_needed(folder: Path) -> None:
    """One file at a time is taken away and named."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "input.sha256")
    assert len(files) == 23
    for path in files:
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(DatasetError, match=path.name):
            load_dataset(folder)
        path.write_bytes(content)
    assert load_dataset(folder).num_items == 2


def test_a_pickle_is_refused(folder: Path) -> None:
    np.save(folder / "items/hashes.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"hashes\.npy: cannot be read"):
        load_dataset(folder)


def test_another_format_version_is_refused(folder: Path) -> None:
    head = orjson.loads((folder / "dataset.json").read_bytes())
    (folder / "dataset.json").write_bytes(orjson.dumps(head | {"format_version": 1}))
    with pytest.raises(DatasetError, match="not format version 3; prepare the data again"):
        load_dataset(folder)


@pytest.mark.parametrize("key", ["schema", "splits", "fingerprint", "report", "context"])
def test_an_incomplete_head_is_refused(folder: Path, key: str) -> None:
    head = orjson.loads((folder / "dataset.json").read_bytes())
    del head[key]
    (folder / "dataset.json").write_bytes(orjson.dumps(head))
    with pytest.raises(DatasetError, match=rf"dataset\.json: incomplete .*{key}"):
        load_dataset(folder)


def test_no_dataset_says_which_command_makes_one(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"dataset\.json: cannot be read .* run `shortlist prepare`"):
        load_dataset(tmp_path)
