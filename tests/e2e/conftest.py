"""The planted shop, brought through every command as a user would: prepare, train, evaluate, export."""

from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from tests.planted import PlantedTruth, write_planted

TRAIN = """
[train.retrieval]
dim = 32
history_length = 50
layers = 1
horizon_days = 14
repeat_weight = 0.0
max_steps = 120
batch_size = 32
negatives = 256

[train.ranker]
windows = 2
learning_rate = 3e-3
epochs = 4
"""


@dataclass(frozen=True)
class World:
    """data_dir: where a bundle is active.  report: of `shortlist evaluate`, parsed."""

    data_dir: Path
    truth: PlantedTruth
    evaluated: Result
    exported: Result
    report: dict[str, object]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    data_dir, truth = folder / "data", write_planted(folder / "shop")
    truth.config.write_text(truth.config.read_text("utf-8") + TRAIN, "utf-8")
    place = ["--data-dir", str(data_dir)]
    run("train", "--config", str(truth.config), "--threads", "1", *place)  # two would wait for each other here
    evaluated = run("evaluate", "--baskets", *place)
    exported = run("export", "--shift-to-now", *place)
    report = orjson.loads((data_dir / "evaluation" / "report.json").read_bytes())
    return World(data_dir, truth, evaluated, exported, report)


def run(*arguments: str) -> Result:
    """One command of the CLI, which must end well."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result
