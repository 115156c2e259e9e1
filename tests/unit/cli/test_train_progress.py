"""What training tells the terminal and TensorBoard, and the traces of `--profile`."""

import io
from pathlib import Path

import orjson
import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.autograd.profiler import record_function
from typer.testing import CliRunner

from cli.main import app
from cli.profiling import TRACED, WAIT, WARM_UP, Profiled
from cli.progress import TrainProgress
from models.run_log import FIGURES_EVERY, Silent

LOOKED = {"loss": 2.0, "learning_rate": 1e-3, "gradient_norm": 3.0, "embedding_norm/items.features.tables.0": 0.5}


def test_tensorboard_has_every_figure_and_the_terminal_loss_and_validation(tmp_path: Path) -> None:
    """A step is 0.1 s by the clock; from step 20 to the validation at 30 that is 10 steps a second."""
    text, clock = io.StringIO(), [0.0]
    console = Console(file=text, width=100, force_terminal=True)
    with TrainProgress(tmp_path, console, now_s=lambda: clock[0]) as progress:
        progress.start("retrieval", 1_000_000)
        for step in range(1, 31):
            clock[0] += 0.1
            looked = LOOKED if step % FIGURES_EVERY == 0 else {"loss": 2.0}
            progress.step("retrieval", step, looked | ({"validation": 0.25} if step == 30 else {}))
    lines = text.getvalue().splitlines()
    assert any("loss 2.0000  validation 0.2500" in line for line in lines)
    assert not any("gradient" in line or "…" in line for line in lines)
    written = EventAccumulator(str(tmp_path)).Reload()
    found = {tag: [(e.step, round(e.value, 4)) for e in written.Scalars(tag)] for tag in written.Tags()["scalars"]}
    assert found == {
        "retrieval/loss": [(20, 2.0), (30, 2.0)],
        "retrieval/learning_rate": [(20, 1e-3)],
        "retrieval/gradient_norm": [(20, 3.0)],
        "retrieval/embedding_norm/items.features.tables.0": [(20, 0.5)],
        "retrieval/validation": [(30, 0.25)],
        "retrieval/steps_per_second": [(20, 10.0), (30, 10.0)],
    }


def learn(log: Profiled, stage: str, steps: int) -> None:
    log.start(stage, steps)
    weight = torch.ones(8, 8, requires_grad=True)
    for step in range(1, steps + 1):
        with record_function("loss"):
            loss = (weight @ weight).mean()
        with record_function("backward"):
            loss.backward()
        log.step(stage, step, {"loss": float(loss.detach())})
    log.finish(stage, "")


def test_some_steps_of_a_stage_are_traced_after_the_first_ones(tmp_path: Path) -> None:
    log = Profiled(Silent(), tmp_path)
    learn(log, "labelled ranker", WAIT + WARM_UP + TRACED + 5)
    trace = orjson.loads((tmp_path / "labelled_ranker.json").read_bytes())
    names = [event.get("name") for event in trace["traceEvents"]]
    assert names.count("loss") == TRACED
    assert "aten::mm" in names
    (table,) = log.tables
    assert table.startswith(f"labelled ranker: {tmp_path / 'labelled_ranker.json'}\n")
    phases = [line.split()[1].rstrip(",") for line in table.splitlines()[2:4]]
    assert phases == ["loss", "backward"]
    assert f"{3:6}  aten::mm\n" in table  # forward, and backward for each factor
    assert [path.name for path in tmp_path.iterdir()] == ["labelled_ranker.json"]


def test_a_stage_that_ends_before_or_learns_without_gradients_has_no_trace(tmp_path: Path) -> None:
    log = Profiled(Silent(), tmp_path / "profile")
    learn(log, "short", WAIT)
    log.start("ease", 30)
    for step in range(1, 31):
        log.step("ease", step, {"validation": 0.1})
    log.finish("ease", "")
    assert (log.tables, (tmp_path / "profile").exists()) == ([], False)
    learn(log, "long", WAIT + WARM_UP + TRACED + 1)
    assert [path.name for path in (tmp_path / "profile").iterdir()] == ["long.json"]


def test_a_device_that_is_not_there_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = tmp_path / "shortlist.toml"
    config.write_text('[interactions]\npath = "nowhere.csv"\n')
    result = CliRunner().invoke(app, ["train", "--config", str(config), "--device", "cuda"])
    assert (result.exit_code, result.stderr) == (
        2,
        "--device cuda: torch finds no GPU here; use --device auto or cpu\n",
    )
