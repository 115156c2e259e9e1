"""`shortlist train --nproc`: what cannot be shared or trained is told once, before any process is started."""

from pathlib import Path
from typing import Any

import pytest
from planted import write_planted
from typer.testing import CliRunner

from cli.main import app
from models.options import TrainSection
from models.train_checks import check_processes


def options(**ranker: Any) -> TrainSection:
    return TrainSection.model_validate({"ranker": ranker})


def test_a_process_without_a_user_is_refused() -> None:
    check_processes(options(), 4, num_users=4)
    with pytest.raises(ValueError, match=r"^5 processes: there are 4 users, and every process needs some of its own"):
        check_processes(options(), 5, num_users=4)


def test_a_process_without_a_row_of_a_batch_is_refused() -> None:
    check_processes(options(batch_size=4), 4)
    with pytest.raises(ValueError, match=r"^5 processes: \[train\.ranker\] batch_size = 4 gives a process nothing"):
        check_processes(options(batch_size=4), 5)


def test_batch_norm_is_for_one_process() -> None:
    check_processes(options(batch_norm=True), 1)
    check_processes(options(batch_norm=True, model="none"), 2)
    with pytest.raises(ValueError, match=r"^2 processes: \[train\.ranker\] batch_norm = true takes its mean"):
        check_processes(options(batch_norm=True), 2)


def told(config: Path, data_dir: Path) -> str:
    """What the command that is refused says on stderr."""
    result = CliRunner().invoke(app, ["train", "--config", str(config), "--data-dir", str(data_dir), "--nproc", "2"])
    assert result.exit_code == 2
    assert not (data_dir / "train").exists()
    return result.stderr


def test_data_without_a_window_for_the_ranker_are_told_once(tmp_path: Path) -> None:
    config = write_planted(tmp_path).config
    config.write_text(config.read_text("utf-8").replace("ranker_windows = 3", "ranker_windows = 0"), "utf-8")
    assert told(config, tmp_path / "data").count("the data have no window for the ranker to learn from") == 1


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [("log_loss", "the labels of the validation part are not 0 and 1"), ("bpr", "compares within a list")],
)
def test_a_table_that_cannot_be_learned_from_is_told_once(tmp_path: Path, loss: str, sentence: str) -> None:
    for name, labels in (("train", (0, 1)), ("valid", (1, 1))):
        rows = [f"u{label},i{number},{label}" for number, label in enumerate(labels)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["user,item,label", *rows]) + "\n", "utf-8")
    config = tmp_path / "shortlist.toml"
    parts = 'train = "train.csv"\nvalid = "valid.csv"\nuser = ["user"]\nitem = ["item"]'
    config.write_text(f'[labelled]\n{parts}\n[train.ranker]\nmodel = "fm"\nloss = "{loss}"\n', "utf-8")
    assert told(config, tmp_path / "data").count(sentence) == 1
