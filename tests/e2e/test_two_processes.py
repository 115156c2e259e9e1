"""Two processes share each batch and train what one trains: the same losses, from any checkpoint, killed or not."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from models import checkpoint, fitting
from models.data.config import load_config
from models.data.prepare import prepare_dataset
from models.stage_files import RETRIEVAL
from tests import training_process
from tests.planted import write_planted
from tests.service_process import until

ROOT = Path(__file__).parents[2]
STEPS = {"dim": 8, "history_length": 20, "max_steps": 50, "max_epochs": 1000, "validations": 1, "batch_size": 37}
SASREC = {"model": "sasrec", **STEPS, "layers": 1, "moments": 8, "dropout": 0.0, "id_dropout": 0.0}
NONE = {"model": "none"}
SMALL_SHOP = """\
[interactions]
path = "log.csv"

[split]
test_days = 5
valid_days = 5
ranker_windows = 1

[train.retrieval]
model = "bpr"
max_steps = 10

[train.ranker]
model = "fm"
epochs = 1
"""
RANKER = {"dim": 4, "hidden": [16], "dropout": 0.0, "embedding_dropout": 0.0}


def options(retrieval: dict[str, Any], ranker: dict[str, Any] = NONE) -> dict[str, Any]:
    return {"refit_share": 0.0, "retrieval": retrieval, "ranker": ranker}


# without dropout, which each process draws for its own rows
CASES = {
    "softmax": options({**SASREC, "loss": "softmax"}, {"model": "deepfm", "windows": 1, "epochs": 1, **RANKER}),
    "gbce": options({**SASREC, "loss": "gbce", "negatives": 8}),
    "two_tower": options({"model": "two_tower", **STEPS, "hidden": [16], "dropout": 0.0, "id_dropout": 0.0}),
    "bpr": options({"model": "bpr", **STEPS}),
    "lightgcn": options({"model": "lightgcn", **STEPS, "layers": 2}),
    "gcn": options({"model": "gcn", **STEPS, "hidden": 16, "dropout": 0.0}),
    "interactions": options(
        {"model": "popularity"},
        {"model": "fm", "learn_from": "interactions", "loss": "bpr", "epochs": 1, "batch_size": 101, **RANKER},
    ),
}
# of so few users and pairs that a process has none to learn from, and none to validate on; each last batch has one row
FEW = {"max_steps": 6, "batch_size": 3}
SMALL = {
    "small_softmax": options({**SASREC, **FEW, "loss": "softmax"}, {"model": "deepfm", "epochs": 1, **RANKER}),
    "small_bpr": options({"model": "bpr", **STEPS, **FEW}),
    "small_interactions": options(
        {"model": "popularity"},
        {"model": "fm", "learn_from": "interactions", "loss": "bpr", "epochs": 1, "batch_size": 2, **RANKER},
    ),
}
TABLE = options({"model": "popularity"}, {"model": "fm", "epochs": 2, "batch_size": 8, **RANKER})
LONG = options({**SASREC, "loss": "sampled_softmax", "negatives": 64, "max_steps": 30})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    return prepare_dataset(load_config(write_planted(folder).config), folder / "data").folder


@pytest.fixture(scope="module")
def small_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four users take four items each; only the last one comes again, once in each window."""
    folder = tmp_path_factory.mktemp("small")
    rows = [(user, 4 * (user == 3) + item, 1 + item) for user in range(4) for item in range(4)]
    rows += [(3, 0, 12), (3, 1, 17), (3, 2, 22)]
    lines = [f"u{user},i{item},2024-01-{day:02}" for user, item, day in rows]
    (folder / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *lines]) + "\n")
    (folder / "shortlist.toml").write_text(SMALL_SHOP)
    return folder / "shortlist.toml"


@pytest.fixture(scope="module")
def small(small_config: Path) -> Path:
    return prepare_dataset(load_config(small_config), small_config.parent / "data").folder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """25 rows to learn from; one to validate on of each label."""
    folder = tmp_path_factory.mktemp("table")
    rows = [f"u{row % 5},i{row % 7},{row % 3 % 2}" for row in range(25)]
    for name, part in (("train", rows), ("valid", rows[:2])):
        (folder / f"{name}.csv").write_text("\n".join(["user,item,label", *part]) + "\n")
    return {
        "train": str(folder / "train.csv"), "valid": str(folder / "valid.csv"), "user": ["user"], "item": ["item"]
    }  # fmt: skip


def in_two(cases: dict[str, Any], out: Path, restarts: int = 0, **environment: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "cases.json").write_text(json.dumps(cases))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, f"--max-restarts={restarts}", "tests/training_process.py"]
    paths = [str(out / "cases.json"), str(out)]
    place = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    whole = os.environ | place | environment
    process = subprocess.Popen([*command, *paths], cwd=ROOT, env=whole)
    try:
        assert process.wait(timeout=240) == 0
    finally:  # whatever went wrong, no process stays: torchrun ends those it started when it is told to end
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def in_one(cases: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "SAVE_EVERY", training_process.SAVE_EVERY)
        training_process.train_all(cases, out)


def read(out: Path, case: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / f"{case}.json").read_text())
    return found


@pytest.fixture(scope="module")
def long(shop: Path) -> dict[str, Any]:
    return {"long": {"options": LONG, "data": str(shop)}}


@pytest.fixture(scope="module")
def both(
    long: dict[str, Any], shop: Path, small: Path, table: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """What one process trained, and what two did: killed at step 15 of the first case, they started again."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    cases = long | {name: {"options": case, "data": str(shop)} for name, case in CASES.items()}
    cases |= {name: {"options": case, "data": str(small)} for name, case in SMALL.items()}
    cases["table"] = {"options": TABLE, "table": table}
    in_one(cases, one)
    in_two(cases, two, restarts=1, KILL_AT="15")
    return one, two


@pytest.mark.parametrize("case", [*CASES, *SMALL, "table"])
def test_two_processes_have_the_losses_and_validations_of_one(case: str, both: tuple[Path, Path]) -> None:
    alone, shared = (read(out, case)["figures"] for out in both)
    assert alone.keys() == shared.keys()
    for stage in alone:
        losses, others = (np.array(figures[stage].get("loss", [])[:50]) for figures in (alone, shared))
        assert len(losses) == len(others)
        np.testing.assert_allclose(others, losses, rtol=0, atol=1e-4, err_msg=f"{case} {stage}")
        figures, expected = (found[stage].get("validation", []) for found in (shared, alone))
        np.testing.assert_allclose(figures, expected, rtol=0, atol=2e-3, err_msg=f"{case} {stage}")


def check_last_20(out: Path, alone: Path) -> None:
    """It went on from the checkpoint of step 10, with the losses of one process that nothing interrupted."""
    assert read(out, "long")["first_steps"][RETRIEVAL] == 10
    losses, expected = (read(folder, "long")["figures"][RETRIEVAL]["loss"] for folder in (out, alone))
    np.testing.assert_allclose(losses, expected[10:], rtol=0, atol=1e-4)


def test_a_killed_process_starts_again_from_the_last_checkpoint(both: tuple[Path, Path]) -> None:
    check_last_20(both[1], both[0])


def test_a_checkpoint_of_two_processes_is_gone_on_with_by_one(
    both: tuple[Path, Path], long: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "long").mkdir()
    shutil.copy(both[1] / "killed.npz", tmp_path / "long" / training_process.CHECKPOINT)
    assert checkpoint.load(both[1] / "killed.npz")[1]["step"] == 10
    in_one(long, tmp_path)
    check_last_20(tmp_path, both[0])


def test_the_command_trains_in_two_processes_and_is_known_by_one(small_config: Path, tmp_path: Path) -> None:
    """Each thing is said once, and all stages are there: run again by one process, none is learned anew."""
    config = ["--config", str(small_config), "--data-dir", str(tmp_path), "--device", "cpu"]
    command = [sys.executable, "-m", "cli.main", "train", *config, "--nproc", "2", "--threads", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Training on cpu") == done.stdout.count("Next: shortlist evaluate") == 1
    assert (tmp_path / "train" / "options.json").exists()
    again = CliRunner().invoke(app, ["train", *config])
    assert again.exit_code == 0, again.output
    assert again.output.count("done before") == 4


def test_a_stopped_command_leaves_no_process_and_nothing_else_trains_meanwhile(
    small_config: Path, tmp_path: Path
) -> None:
    config, data = small_config.with_name("long.toml"), tmp_path / "data"
    budget = "max_steps = 20000\nmax_epochs = 20000"  # a minute or two: whatever goes wrong, it ends by itself
    config.write_text(small_config.read_text("utf-8").replace("max_steps = 10", budget), "utf-8")
    place = ["--data-dir", str(data)]
    options = ["--config", str(config), *place, "--device", "cpu", "--threads", "1", "--nproc", "2"]
    command = [sys.executable, "-m", "cli.main", "train", *options]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        until((data / "train" / f"{RETRIEVAL}.checkpoint.npz").exists, "a checkpoint")
        again = ["train", "--config", str(small_config), *place]
        for refused in (again, [*again, "--nproc", "2"], ["compress", *place]):
            found = CliRunner().invoke(app, refused)
            assert (found.exit_code, "another `shortlist train`" in found.output) == (2, True), found.output
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)  # comes back when no process holds the pipe any more
    finally:
        with process, suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)  # torchrun among them, which ends those it started
    assert process.returncode == 128 + signal.SIGTERM
    assert "interrupted; run the same command again" in told
    assert checkpoint.load(data / "train" / f"{RETRIEVAL}.checkpoint.npz")[1]["step"] > 0


STOPPED_AT_ONCE = """\
import os, signal, subprocess
import typer
from cli.processes import run_processes

start = subprocess.Popen

def stopped(*arguments, **options):
    process = start(*arguments, **options)
    os.kill(os.getpid(), signal.SIGTERM)
    return process

subprocess.Popen = stopped
try:
    run_processes(2, 0, 1, ["--help"])
except typer.Exit as end:
    raise SystemExit(end.exit_code)
"""


def test_a_command_that_is_stopped_while_it_starts_leaves_no_process() -> None:
    command = [sys.executable, "-c", STOPPED_AT_ONCE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Usage:" in done.stdout) == (128 + signal.SIGTERM, False), done.stderr
