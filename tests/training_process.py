"""One of the processes of a shared training, as torchrun starts it; alone when imported.

    python -m torch.distributed.run --standalone --nproc-per-node 2 tests/training_process.py DATA CASES OUT

CASES is a JSON object of training options by name. Each is trained into OUT/<name>; OUT/<name>.json then has the losses
of every stage and its validations. With KILL_AT, the second process kills itself at that step of its first life.
Checkpoints are written every SAVE_EVERY steps.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models import fitting
from models.data.dataset import Dataset, load_dataset
from models.distributed import is_first, joined, world
from models.options import TrainSection
from models.run_log import Silent
from models.train import train

SAVE_EVERY = 10


class Recorder(Silent):
    def __init__(self, killed: Path, kill_at: int) -> None:
        self.figures: dict[str, dict[str, list[float]]] = {}
        self.first_steps: dict[str, int] = {}
        self._killed, self._kill_at = killed, kill_at

    def start(self, stage: str, total: int, done: int = 0) -> None:
        self.first_steps[stage] = done

    def step(self, stage: str, done: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self.figures.setdefault(stage, {}).setdefault(name, []).append(value)
        if done == self._kill_at and world().rank == 1 and not self._killed.exists():
            self._killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def train_all(dataset: Dataset, cases: dict[str, Any], out: Path, kill_at: int = 0) -> None:
    torch.set_num_threads(1)
    for name, options in cases.items():
        recorder = Recorder(out / "killed", kill_at)
        train(dataset, TrainSection.model_validate(options), out / name, recorder)
        if is_first():
            found = {"figures": recorder.figures, "first_steps": recorder.first_steps}
            (out / f"{name}.json").write_text(json.dumps(found))


def main() -> None:
    data, cases, out = map(Path, sys.argv[1:])
    fitting.SAVE_EVERY = SAVE_EVERY
    with joined():
        train_all(load_dataset(data), json.loads(cases.read_text()), out, int(os.environ.get("KILL_AT", "0")))


if __name__ == "__main__":
    main()
