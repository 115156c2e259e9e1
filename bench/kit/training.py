"""How fast models learn: sequences a second of SASRec, rows a second of DeepFM, on a world's data with its options.

    python -m bench.kit.training .shortlist/bench/60k --seconds 10 --threads 2

prints one line of JSON. What counts is a whole step: batches drawn and gathered, negatives sampled, loss, gradients,
the optimizer.
"""

import argparse
import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson
import torch

from models.data.config import load_config
from models.data.dataset import Dataset, load_dataset
from models.fitting import Fit
from models.options import SasRecOptions, TrainSection
from models.ranker_lists import ranker_lists
from models.ranking.train import fit_ranker
from models.retrieval.sasrec_training import fit
from models.run_log import Silent

SKIPPED = 3  # first steps, which allocate


class EnoughSeen(Exception):
    """The time for one model is over."""


class Steps:
    """A log that counts seconds between steps, and ends the training after its time.

    durations_s: of whole steps; one in which the model was validated is left out.
    """

    def __init__(self, seconds: float) -> None:
        self.durations_s: list[float] = []
        self._seconds = seconds
        self._begun_s = self._last_s = time.perf_counter()

    def start(self, stage: str, total: int, done: int = 0) -> None:
        self._begun_s = self._last_s = time.perf_counter()

    def step(self, stage: str, done: int, figures: Mapping[str, float]) -> None:
        now_s = time.perf_counter()
        if "validation" not in figures:
            self.durations_s.append(now_s - self._last_s)
        self._last_s = now_s
        if now_s - self._begun_s > self._seconds and len(self.durations_s) > SKIPPED:
            raise EnoughSeen

    def finish(self, stage: str, note: str) -> None:
        pass

    @property
    def step_s(self) -> float:
        return float(np.median(self.durations_s[SKIPPED:]))


def sequences_per_s(dataset: Dataset, options: SasRecOptions, seconds: float) -> float:
    """Of SASRec, with `options.moments` moments learned of each."""
    log, until_ms = Steps(seconds), dataset.splits.valid_start_ms
    with TemporaryDirectory() as folder:
        run = Fit("throughput", "throughput", 0, until_ms, Path(folder, "throughput.npz"))
        with contextlib.suppress(EnoughSeen):
            fit(dataset, options.model_copy(update={"max_steps": 100_000, "max_epochs": 10_000}), run, log)
    return options.batch_size / log.step_s


def rows_per_s(dataset: Dataset, options: TrainSection, train_folder: Path, seconds: float) -> float:
    """Of the ranker: candidates of lists. The lists are made before; their making is not counted."""
    ranker = options.ranker.model_copy(update={"epochs": 100})
    options = options.model_copy(update={"ranker": ranker})
    lists, log = ranker_lists(dataset, options, train_folder, Silent()), Steps(seconds)
    with TemporaryDirectory() as folder, contextlib.suppress(EnoughSeen):
        fit_ranker(dataset, *lists, options, log, Path(folder, "ranker.npz"), "throughput")
    rows_per_list = len(lists.train.labels) / (len(lists.train.offsets) - 1)
    return ranker.batch_size * rows_per_list / log.step_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path, help="of a world, see bench/kit/worlds.py")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each model")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    dataset = load_dataset(given.data_dir / "prepared")
    options = load_config(given.data_dir / "shop" / "shortlist.toml").train
    assert isinstance(options.retrieval, SasRecOptions)
    found = {
        "sequences_per_s": sequences_per_s(dataset, options.retrieval, given.seconds),
        "rows_per_s": rows_per_s(dataset, options, given.data_dir / "train", given.seconds),
    }
    print(orjson.dumps(found).decode())


if __name__ == "__main__":
    main()
