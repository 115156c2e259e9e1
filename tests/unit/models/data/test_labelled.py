"""A ready-made labelled table: codes by train's vocabulary, numbers standardised on train, and what is refused."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.data.config import load_config
from models.data.errors import ConfigError, SourceError
from models.data.labelled import LabelledTable, read_labelled
from models.data.prepare import prepare_dataset
from models.data.sections import LabelledSection

HEADER = "who,day,film,seconds,stars"
TRAIN = ["u2,mon,f07,10,1", "u1,tue,f3,30,0", "u1,mon,f3,20,0", "u9,tue,f10,20,1"]
VALID = ["u1,mon,f3,40,1", "u7,sun,f99,20,0"]
COLUMNS = {"user": ["who", "day"], "item": ["film"], "cross": ["seconds"], "label": "stars"}


def section(
    folder: Path, train: list[str] = TRAIN, valid: list[str] = VALID, header: str = HEADER, **changes: Any
) -> LabelledSection:
    for name, rows in (("train", train), ("valid", valid)):
        (folder / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n", "utf-8")
    paths = {"train": str(folder / "train.csv"), "valid": str(folder / "valid.csv")}
    return LabelledSection.model_validate({**paths, **COLUMNS, **changes})


def equal(one: LabelledTable, other: LabelledTable) -> bool:
    pairs = ((one.train, other.train), (one.valid, other.valid))
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for a, b in pairs for name in a.__slots__)


def test_codes_and_numbers_worked_by_hand(tmp_path: Path) -> None:
    """Rows are sorted by user, day, film. seconds: mean 20, standard deviation sqrt((100 + 0 + 100 + 0) / 4)."""
    table = read_labelled(section(tmp_path))
    assert table.user_sizes == {"who": 4, "day": 3}
    assert table.item_sizes == {"film": 4}
    assert table.cross == ["seconds"]
    # who: u1, u2, u9; day: mon, tue; film: f07, f10, f3
    assert table.train.user_categorical.tolist() == [[1, 1], [1, 2], [2, 1], [3, 2]]
    assert table.train.item_categorical.tolist() == [[3], [3], [1], [2]]
    spread = np.float32(np.sqrt(50))
    assert table.train.cross == pytest.approx(np.array([[0], [10], [-10], [0]]) / spread)
    assert table.train.labels.tolist() == [0, 0, 1, 1]
    assert table.valid.user_categorical.tolist() == [[1, 1], [0, 0]]
    assert table.valid.item_categorical.tolist() == [[3], [0]]
    assert table.valid.cross == pytest.approx(np.array([[20], [0]]) / spread)
    assert table.test is None
    assert table.train.user_categorical.dtype == table.train.item_categorical.dtype == np.int64
    assert table.train.cross.dtype == table.train.labels.dtype == np.float32
    assert table.train.user_numeric.shape == table.train.item_numeric.shape == (4, 0)


def test_a_number_that_is_always_the_same_becomes_zero(tmp_path: Path) -> None:
    train = [line.replace(",10,", ",20,").replace(",30,", ",20,") for line in TRAIN]
    table = read_labelled(section(tmp_path, train=train))
    assert not table.train.cross.any()
    assert table.valid.cross.tolist() == [[20], [0]]


def test_no_cross_columns(tmp_path: Path) -> None:
    assert read_labelled(section(tmp_path, cross=[])).train.cross.shape == (4, 0)


def test_a_missing_category_is_unknown_and_an_id_keeps_its_zeros(tmp_path: Path) -> None:
    table = read_labelled(section(tmp_path, train=[*TRAIN, ",mon,007,20,1"], valid=["u1,,7,20,0"]))
    assert table.item_sizes == {"film": 5}
    assert table.train.user_categorical[:, 0].tolist() == [1, 1, 2, 3, 0]
    assert (table.valid.user_categorical.tolist(), table.valid.item_categorical.tolist()) == ([[1, 0]], [[0]])


def test_a_category_is_the_text_of_the_csv(tmp_path: Path) -> None:
    """7 stays 7 beside 7.5: had each file's column a type of its own, it would be 7.0 in valid and so unknown."""
    table = read_labelled(section(tmp_path, train=["u1,mon,7,20,1"], valid=["u1,mon,7,20,1", "u1,mon,7.5,20,0"]))
    assert table.valid.item_categorical.tolist() == [[1], [0]]


def test_parquet_and_csv_in_any_order_of_lines_are_the_same_table(tmp_path: Path) -> None:
    first = read_labelled(section(tmp_path))
    columns = dict(zip(HEADER.split(","), zip(*(line.split(",") for line in TRAIN), strict=True), strict=True))
    typed = columns | {name: pa.array([int(value) for value in columns[name]]) for name in ("seconds", "stars")}
    pq.write_table(pa.table(typed), tmp_path / "train.parquet")
    shuffled = random.Random(3).sample(VALID, 2)
    again = read_labelled(section(tmp_path, valid=shuffled, train=TRAIN[::-1]))
    parquet = read_labelled(section(tmp_path, valid=VALID[::-1]).model_copy(update={"train": f"{tmp_path}/*.parquet"}))
    other = read_labelled(section(tmp_path, train=[TRAIN[0].replace("10", "11"), *TRAIN[1:]]))
    assert equal(first, again)
    assert equal(first, parquet)
    assert first.fingerprint == again.fingerprint == parquet.fingerprint != other.fingerprint


def test_valid_is_halved_by_the_seed_alone(tmp_path: Path) -> None:
    """Of 41 rows 20 stop the training and 21 are the test, each once, whatever the order of the lines."""
    rows = [f"u1,mon,f3,{seconds},{seconds % 2}" for seconds in range(41)]
    plain = {"cross": [], "item": ["film", "seconds"]}
    train = [f"u1,mon,f3,{seconds:d},1" for seconds in range(41)]
    zero, again, one = (
        read_labelled(section(tmp_path, train=train, valid=valid, valid_halved_seed=seed, **plain))
        for valid, seed in ((rows, 0), (rows[::-1], 0), (rows, 1))
    )
    assert zero.test is not None
    assert (len(zero.valid), len(zero.test)) == (20, 21)
    codes = [part.item_categorical[:, 1].tolist() for part in (zero.valid, zero.test)]
    assert sorted(codes[0] + codes[1]) == list(range(1, 42))
    assert codes[0] != list(range(1, 21))
    assert equal(zero, again)
    assert not equal(zero, one)


def test_a_test_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text(f"{HEADER}\nu9,tue,f07,20,1\n")
    test = read_labelled(section(tmp_path, test=str(tmp_path / "test.csv"))).test
    assert test is not None
    assert (test.user_categorical.tolist(), test.item_categorical.tolist()) == ([[3, 2]], [[1]])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"valid": []}, r"valid\.csv: has no rows"),
        ({"train": ["u1,mon,f3,,1"]}, r"train\.csv: column 'seconds' is missing or no finite number in 1 of 1 rows"),
        (
            {"valid": [*VALID, "u1,mon,f3,nan,1"]},
            r"valid\.csv: column 'seconds' .* in 1 of 3 rows; fill it in or leave",
        ),
        (
            {"train": [*TRAIN, "u1,mon,f3,3,inf"]},
            r"train\.csv: column 'stars' is missing or no finite number in 1 of 5",
        ),
        ({"valid": [*VALID, "u1,mon,f3,3,good"]}, r"valid\.csv: column 'stars' is missing or no finite number"),
        ({"item": ["flim"]}, r"train\.csv: no column 'flim'; did you mean 'film'\?"),
        ({"label": "star"}, r"train\.csv: no column 'star'; did you mean 'stars'\?"),
        ({"valid": VALID[:1], "valid_halved_seed": 0}, r"valid\.csv: has 1 row, which cannot be halved"),
    ],
)
def test_what_cannot_be_learnt_from_is_named(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence):
        read_labelled(section(tmp_path, **changes))


TABLE = '[labelled]\ntrain = "t.csv"\nvalid = "v.csv"\nuser = ["u"]\nitem = ["i"]\n'


def test_paths_are_relative_to_the_configuration(tmp_path: Path) -> None:
    text = TABLE.replace("v.csv", "/data/v.parquet") + 'test = "e.csv"\n'
    (tmp_path / "shortlist.toml").write_text(text)
    labelled = load_config(tmp_path / "shortlist.toml").labelled
    assert labelled is not None
    paths = (str(tmp_path / "t.csv"), "/data/v.parquet", str(tmp_path / "e.csv"))
    assert (labelled.train, labelled.valid, labelled.test) == paths


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[train]\nseed = 1\n", "interactions is missing (or labelled, for a ready-made table of a ranking model)"),
        (
            f'{TABLE}[interactions]\npath = "log.csv"\n[items]\npath = "i.csv"\n',
            "labelled has its features in the table itself; leave out interactions, items",
        ),
        (TABLE.replace('["i"]', '["i", "u"]'), "labelled: u stands twice in label, user, item and cross"),
        (TABLE + 'test = "e.csv"\nvalid_halved_seed = 1\n', "labelled: test and valid_halved_seed both name a test"),
        (TABLE.replace('["i"]', "[]"), "labelled.item: List should have at least 1 item"),
        (
            TABLE + '[train.ranker]\nlearn_from = "interactions"\n',
            'train.ranker.learn_from = "interactions" is of a log; leave it out',
        ),
        (
            TABLE + '[train.ranker]\nmodel = "none"\n',
            'train.ranker.model = "none" leaves nothing to train on a labelled table; set it to lr, fm, ',
        ),
        (TABLE + 'croos = ["x"]\n', "unknown key 'labelled.croos'; did you mean 'cross'?"),
    ],
)
def test_a_mistake_in_the_section_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "shortlist.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: {sentence}")


def test_a_labelled_table_is_nothing_to_prepare(tmp_path: Path) -> None:
    (tmp_path / "shortlist.toml").write_text(TABLE)
    with pytest.raises(ConfigError, match=r"\[labelled\] is a table to train a ranking model on, and no log"):
        prepare_dataset(load_config(tmp_path / "shortlist.toml"), tmp_path / "data")
