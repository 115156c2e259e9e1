"""A ranker of a labelled table as a stage: what its test part must be like, and files that are not its own."""

from pathlib import Path

import numpy as np
import pytest

from models import checkpoint
from models.checkpoint import CheckpointError
from models.data.labelled import LabelledTable, read_labelled
from models.data.sections import LabelledSection
from models.options import TrainSection
from models.ranking.options import RankerOptions
from models.run_log import Silent
from models.train_labelled import FILE, load_labelled, train_labelled

ROWS = ["u1,a,1", "u1,b,0", "u2,a,0", "u2,b,1"]
OPTIONS = TrainSection(ranker=RankerOptions(model="fm", dim=2, epochs=1))


def table(folder: Path, test: list[str]) -> LabelledTable:
    for name, rows in (("train", ROWS), ("valid", ROWS), ("test", test)):
        (folder / f"{name}.csv").write_text("\n".join(["user,item,label", *rows]) + "\n", "utf-8")
    paths = {name: str(folder / f"{name}.csv") for name in ("train", "valid", "test")}
    return read_labelled(LabelledSection.model_validate({**paths, "user": ["user"], "item": ["item"]}))


@pytest.mark.parametrize("label", ["5", "1", "0"])
def test_test_labels_that_no_auc_is_of_are_refused_before_training(tmp_path: Path, label: str) -> None:
    rows = table(tmp_path, test=[f"u1,a,{label}", f"u2,b,{label}"])
    with pytest.raises(ValueError, match="the labels of the test part are not 0 and 1, both present"):
        train_labelled(rows, OPTIONS, tmp_path / "train", Silent())
    assert not (tmp_path / "train").exists()


def test_ratings_too_large_to_be_squared_are_refused(tmp_path: Path) -> None:
    ratings = OPTIONS.model_copy(update={"ranker": OPTIONS.ranker.model_copy(update={"loss": "squared"})})
    with pytest.raises(ValueError, match=r"the labels of the test part reach 3e\+38, .*squared"):
        train_labelled(table(tmp_path, test=["u1,a,-3e38"]), ratings, tmp_path / "train", Silent())
    train_labelled(table(tmp_path, test=["u1,a,5"]), ratings, tmp_path / "train", Silent())


def test_a_file_without_its_header_or_with_other_weights_is_named(tmp_path: Path) -> None:
    rows, path = table(tmp_path, test=ROWS), tmp_path / FILE
    train_labelled(rows, OPTIONS, tmp_path, Silent())
    arrays, header = checkpoint.load(path)
    again = "; delete it and run `shortlist train` again"
    checkpoint.save(path, arrays, {})
    with pytest.raises(CheckpointError, match=rf"labelled\.npz: has no 'key'.*{again}"):
        load_labelled(rows, OPTIONS, tmp_path)
    checkpoint.save(path, arrays | {"more": np.zeros(1)}, header)
    with pytest.raises(CheckpointError, match=rf"labelled\.npz: the checkpoint has 'more'.*{again}"):
        load_labelled(rows, OPTIONS, tmp_path)
