"""`shortlist tune` on the planted shop: what it finds, refuses and writes."""

from pathlib import Path

import pytest
import torch
from click.testing import Result
from planted import write_planted
from typer.testing import CliRunner

from cli.main import app
from models.data.config import load_config

TRAIN = """
[train.retrieval]
model = "bpr"
dim = 8
batch_size = 1024
max_steps = 16
validations = 2
learning_rate = 0.00000001

[train.ranker]
model = "lr"
windows = 1
epochs = 1
"""
SPACE = """
[tune]
trials = {trials}
stage = "{stage}"

[tune.space]
learning_rate = {rates}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_planted(folder)
    return folder


def write(shop: Path, tmp_path: Path, stage: str, rates: str, trials: int) -> Path:
    """A shortlist.toml for the shop's files."""
    text = (shop / "shortlist.toml").read_text().replace('path = "', f'path = "{shop}/')
    path = tmp_path / "shortlist.toml"
    path.write_text(text + TRAIN + SPACE.format(stage=stage, rates=rates, trials=trials))
    return path


def tune(path: Path, *more: str) -> Result:
    threads = torch.get_num_threads()
    try:
        return CliRunner().invoke(
            app, ["tune", "--config", str(path), "--data-dir", str(path.parent / "data"), "--threads", "1", *more]
        )
    finally:
        torch.set_num_threads(threads)


def test_of_a_good_and_an_absurd_learning_rate_the_good_one_is_found(shop: Path, tmp_path: Path) -> None:
    """The first trial is the absurd one of the configuration. best.toml is a section for shortlist.toml; with it the
    search goes on where it was, and with another budget of each trial it begins anew."""
    path = write(shop, tmp_path, "retrieval", "[0.00000001, 0.03]", 4)
    result = tune(path)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "data" / "tune"
    assert {found.name for found in folder.iterdir()} >= {"best.toml", "plot.png", "report.md", "studies.db"}
    best = (folder / "best.toml").read_text()
    assert "learning_rate = 0.03\n" in best
    assert "over the configuration as it stood when the search began" in " ".join(result.output.split())

    text = path.read_text()
    start, end = text.index("[train.retrieval]"), text.index("[train.ranker]")
    path.write_text(text[:start] + best + text[end:])
    options = load_config(path).train.retrieval
    assert options.model == "bpr"
    assert (options.dim, options.max_steps, options.learning_rate) == (8, 16, 0.03)
    result = tune(path)
    assert "The search has its 4 trials: --trials 14 goes on." in result.output

    path.write_text(path.read_text().replace("max_steps = 16", "max_steps = 8"))
    result = tune(path, "--trials", "1")
    assert "options have changed since the last search: a new one begins" in " ".join(result.output.split())
    shown = tune(path, "--show")
    assert (shown.exit_code, shown.output.count("complete")) == (0, 1)


def test_rankers_are_searched_on_one_retrieval_model(shop: Path, tmp_path: Path) -> None:
    """It stays for the search to go on with; nothing is written where `shortlist train` keeps its models."""
    path = write(shop, tmp_path, "ranker", "[0.00000001, 0.03]", 2)
    result = tune(path)
    assert result.exit_code == 0, result.output
    assert [found.name for found in (tmp_path / "data" / "tune" / "work").iterdir()] == ["retrieval.npz"]
    assert "[train.ranker]" in (tmp_path / "data" / "tune" / "best.toml").read_text()
    assert not (tmp_path / "data" / "train").exists()


@pytest.mark.parametrize(
    ("stage", "rates", "message"),
    [
        ("retrieval", "[0.1, 7.0]", "tune.space.learning_rate: Input should be less than or equal to 1, not 7.0"),
        ("retrieval", "{ low = 0, high = 1, log = true }", "tune.space.learning_rate: log = true needs low above 0"),
        ("rankre", "[0.1, 0.2]", "tune.stage: Input should be 'retrieval' or 'ranker', not 'rankre'"),
    ],
)
def test_a_space_is_refused_before_anything_is_written(
    shop: Path, tmp_path: Path, stage: str, rates: str, message: str
) -> None:
    result = tune(write(shop, tmp_path, stage, rates, 2))
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "data").exists()


def test_show_without_a_search_says_what_to_do(tmp_path: Path) -> None:
    result = tune(tmp_path / "shortlist.toml", "--show")
    assert (result.exit_code, "run `shortlist tune` without --show" in result.stderr) == (2, True)
