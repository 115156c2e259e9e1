"""What is kept of each stage of training: its files, and the key by which they are known to be of these data and
settings."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import nn

from models import checkpoint
from models.compress.record import read_record
from models.data.dataset import Dataset
from models.distributed import is_first, wait
from models.options import TrainSection
from models.windows import ranker_start_ms

RETRIEVAL, RANKER, RETRIEVAL_TEST, RETRIEVAL_LAST = "retrieval", "ranker", "retrieval_test", "retrieval_last"
MODEL_VERSION = 5  # raised when a change of the models makes old checkpoints worthless


def training_key(dataset: Dataset, options: TrainSection) -> str:
    """Names the data and the settings that models were trained with."""
    return _key(dataset, options.model_dump_json())


def given_up(dataset: Dataset, options: TrainSection, folder: Path) -> list[Path]:
    """Checkpoints of unfinished runs on other data, of another model or with other settings: `train` starts anew."""
    files = StageFiles(dataset, options, folder)
    paths = {stage: files.checkpoint(stage) for stage in (RETRIEVAL, RANKER, RETRIEVAL_TEST, RETRIEVAL_LAST)}
    return [path for stage, path in paths.items() if checkpoint.has_another_key(path, files.stage_key(stage))]


class StageFiles:
    """The stages of one training in `folder`, by the name of each: finished ones, and checkpoints of begun ones.

    key: of the ranker, and of the training as a whole.  retrieval_key: of the stages of retrieval.
    In a folder of compressed models (`models.compress`) the record beside them is part of the key, and compression says
    what was done. Raises CheckpointError where they were made from models that are no longer there.
    """

    def __init__(self, dataset: Dataset, options: TrainSection, folder: Path) -> None:
        self.dataset, self.options, self.folder = dataset, options, folder
        self.key = training_key(dataset, options)
        self.ranker_start_ms = ranker_start_ms(dataset, options)
        # another ranker needs no other retrieval model, unless it learns from other windows
        retrieval = options.model_dump_json(exclude={"ranker"})
        self.retrieval_key = _key(dataset, f"{retrieval}:{self.ranker_start_ms}")
        record = read_record(folder)
        self.compression: dict[str, list[str]] = {}
        if record is not None:
            record.check_teachers(folder)
            self.compression = record.compression
            self.key = _key(dataset, f"{self.key}:{record.key}")
            if record.retrieval:
                self.retrieval_key = _key(dataset, f"{self.retrieval_key}:{record.key}")

    def stage_key(self, stage: str) -> str:
        return self.key if stage == RANKER else self.retrieval_key

    def finished(self, stage: str) -> Path:
        return self.folder / f"{stage}.npz"

    def checkpoint(self, stage: str) -> Path:
        return self.folder / f"{stage}.checkpoint.npz"

    def result(self, stage: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Weights and header of a finished stage. Raises CheckpointError."""
        path = self.finished(stage)
        weights, header = checkpoint.load(path, {"key": str, "figures": dict})
        if header["key"] != self.stage_key(stage):
            raise checkpoint.CheckpointError(
                f"{path}: was trained on other data or with other settings; run `shortlist train` again"
            )
        return weights, header

    def restore(self, model: nn.Module, stage: str) -> dict[str, float]:
        """Give the model the weights of a finished stage -> what validation said of it. Raises CheckpointError."""
        weights, header = self.result(stage)
        with checkpoint.named(self.finished(stage)):
            checkpoint.set_weights(model, weights)
        figures: dict[str, float] = header["figures"]
        return figures

    def is_finished(self, stage: str) -> bool:
        try:
            self.result(stage)
        except checkpoint.CheckpointError:
            return False
        return True

    def finish(self, stage: str, weights: dict[str, NDArray[Any]], figures: dict[str, float]) -> None:
        """The first process keeps the result; the others wait until it is there."""
        if is_first():
            checkpoint.save(self.finished(stage), weights, {"key": self.stage_key(stage), "figures": figures})
            self.checkpoint(stage).unlink(missing_ok=True)
        wait()


def _key(dataset: Dataset, settings: str) -> str:
    told = f"{MODEL_VERSION}:{dataset.fingerprint}:{settings}:{dataset.splits}"
    return sha256(told.encode()).hexdigest()
