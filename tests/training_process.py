"""One of the processes of a shared training, as torchrun starts it; alone when imported.

    python -m torch.distributed.run --standalone --nproc-per-node 2 tests/training_process.py CASES OUT

CASES is a JSON object by name: {"options": those of training, "data": a prepared folder}, or "table", a section
[labelled], in place of the data. Each is trained into OUT/<name>; OUT/<name>.json then has the losses of every stage
and its validations. With KILL_AT, the second process kills itself at that step of its first life, and the checkpoint it
then leaves is kept as OUT/killed.npz. Checkpoints are written every SAVE_EVERY steps.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models import fitting
from models import train as training
from models.data.dataset import load_dataset
from models.data.labelled import read_labelled
from models.data.sections import LabelledSection
from models.distributed import is_first, joined, world
from models.options import TrainSection
from models.run_log import Silent
from models.train import Stages, train
from models.train_labelled import train_labelled

SAVE_EVERY = 10
CHECKPOINT = "retrieval.checkpoint.npz"


class Recorder(Silent):
    def __init__(self, checkpoint: Path, killed: Path, kill_at: int) -> None:
        self.figures: dict[str, dict[str, list[float]]] = {}
        self.first_steps: dict[str, int] = {}
        self._checkpoint, self._killed, self._kill_at = checkpoint, killed, kill_at

    def start(self, stage: str, total: int, done: int = 0) -> None:
        self.first_steps[stage] = done

    def step(self, stage: str, done: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self.figures.setdefault(stage, {}).setdefault(name, []).append(value)
        if done == self._kill_at and world().rank == 1 and not self._killed.exists():
            shutil.copy(self._checkpoint, self._killed)
            os.kill(os.getpid(), signal.SIGKILL)


def train_all(cases: dict[str, Any], out: Path, kill_at: int = 0) -> None:
    torch.set_num_threads(1)
    for name, case in cases.items():
        recorder = Recorder(out / name / CHECKPOINT, out / "killed.npz", kill_at)
        options = TrainSection.model_validate(case["options"])
        if "table" in case:
            table = read_labelled(LabelledSection.model_validate(case["table"]))
            train_labelled(table, options, out / name, recorder)
        else:
            train(load_dataset(Path(case["data"])), options, out / name, recorder)
        if is_first():
            found = {"figures": recorder.figures, "first_steps": recorder.first_steps}
            (out / f"{name}.json").write_text(json.dumps(found))


class LateStages(Stages):
    """The second process comes to each stage when the first may have ended it."""

    def done(self, stage: str) -> bool:
        time.sleep(0.05 * world().rank)
        return super().done(stage)


def main() -> None:
    cases, out = map(Path, sys.argv[1:])
    fitting.SAVE_EVERY = SAVE_EVERY
    training.Stages = LateStages  # type: ignore[misc]
    with joined():
        train_all(json.loads(cases.read_text()), out, int(os.environ.get("KILL_AT", "0")))


if __name__ == "__main__":
    main()
