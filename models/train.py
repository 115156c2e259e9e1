"""The stages of training, each skipped when it was done before with the same data and settings:

retrieval      up to the first ranker window; validated on that window
ranker         on the ranker windows, with candidates of that retrieval model; validated on the validation window
retrieval_test the retrieval model goes on with everything before the test window: for evaluation
retrieval_last the retrieval model goes on with everything: for serving

Without a ranker (model = "none") retrieval is trained up to the validation window and validated on it.

With refit_share = 0 the last two only take the weights over; popularity, neighbours and histories are still of their
own moment. Where baskets repeat, going on can lose: the model remembers what the very histories it will be asked about
led to, which these users now have (docs/decisions/13-refit.md).
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models import checkpoint
from models.compress.record import read_record
from models.data.dataset import Dataset
from models.distributed import is_first, total, wait
from models.exposure import PositionModel
from models.fitting import Fit
from models.hardware import CPU, Hardware
from models.offline import Retrieval
from models.options import SasRecOptions, TrainSection, TwoTowerOptions
from models.ranking.interactions import fit_interactions
from models.ranking.pieces import Ranker
from models.ranking.samples import LabelWindow, RankerSamples, ranker_samples
from models.ranking.shown import fit_positions, shown_pairs
from models.ranking.train import build_ranker, fit_ranker
from models.retrieval.model import RetrievalModel
from models.retrieval.snapshot import snapshot
from models.retrieval.train import build_model, fit
from models.retrieval.validate import validator
from models.run_log import RunLog
from models.targets import Mode, Window

RETRIEVAL, RANKER, RETRIEVAL_TEST, RETRIEVAL_LAST = "retrieval", "ranker", "retrieval_test", "retrieval_last"
MODEL_VERSION = 5  # raised when a change of the models makes old checkpoints worthless


@dataclass(frozen=True, slots=True)
class Trained:
    """Models for serving or evaluation: trained on everything before until_ms.

    ranker: None where the retrieval order is served.  key: of the data and the settings.  figures: what validation
    said of the ranker.  compression: what was done to make "retrieval" and "ranking" smaller, a sentence a step; empty
    for models as they were trained.
    """

    retrieval: RetrievalModel
    ranker: Ranker | None
    until_ms: int
    key: str
    figures: dict[str, float]
    options: TrainSection
    compression: dict[str, list[str]] = field(default_factory=dict)


def train(dataset: Dataset, options: TrainSection, folder: Path, log: RunLog, hardware: Hardware = CPU) -> None:
    """Run all stages that are not done. Raises ValueError for data that cannot be trained on, before any of them where
    a model cannot be built from it."""
    check_can_be_built(dataset, options)
    stages = Stages(dataset, options, folder, log, hardware)
    stages.retrieval()
    if options.ranker.model != "none":
        stages.ranker()
    stages.refit(RETRIEVAL_TEST, RETRIEVAL, dataset.splits.test_start_ms)
    stages.refit(RETRIEVAL_LAST, RETRIEVAL_TEST, dataset.splits.end_ms)


def check_can_be_built(dataset: Dataset, options: TrainSection) -> None:
    """Raises ValueError for what a model needs and the data have not: now, not after hours of the stage before it."""
    check_has_what_it_asks_for(dataset, options)
    build_model(dataset, options, ranker_start_ms(dataset, options))
    if options.ranker.model != "none":
        build_ranker(dataset, options)


def check_has_what_it_asks_for(dataset: Dataset, options: TrainSection) -> None:
    """Raises ValueError for a ranker that asks for windows or impressions which the data have not."""
    splits = dataset.splits
    if _learns_from_windows(options) and splits.ranker_start_ms == splits.valid_start_ms:
        raise ValueError(
            "the data have no window for the ranker to learn from: set split.ranker_windows to 1 or more and prepare "
            'again, or set [train.ranker] model = "none" or learn_from = "interactions"'
        )
    asked = options.ranker.asks_for_impressions
    if asked and dataset.impressions is None:
        raise ValueError(
            f"[train.ranker] {asked} needs logged impressions, and the data have none: name their file in a section "
            f"[impressions] and prepare again, or leave {asked} out"
        )


def check_processes(options: TrainSection, size: int, num_users: int | None = None) -> None:
    """Raises ValueError where `size` processes cannot share the batches or the users."""
    if size > 1 and options.ranker.model != "none" and options.ranker.batch_norm:
        raise ValueError(
            f"{size} processes: [train.ranker] batch_norm = true takes its mean and variance over a whole batch, and a "
            "process has only a part of one; set it to false, or train with one process"
        )
    if num_users is not None and num_users < size:
        raise ValueError(
            f"{size} processes: there are {num_users} users, and every process needs some of its own; use fewer "
            "processes"
        )
    for name, section in (("retrieval", options.retrieval), ("ranker", options.ranker)):
        batch_size = getattr(section, "batch_size", size)
        if batch_size < size:
            raise ValueError(
                f"{size} processes: [train.{name}] batch_size = {batch_size} gives a process nothing; raise "
                "batch_size, or use fewer processes"
            )


def given_up(dataset: Dataset, options: TrainSection, folder: Path) -> list[Path]:
    """Checkpoints of unfinished runs on other data, of another model or with other settings: `train` starts anew."""
    stages = Stages(dataset, options, folder, None)
    paths = {stage: stages.checkpoint(stage) for stage in (RETRIEVAL, RANKER, RETRIEVAL_TEST, RETRIEVAL_LAST)}
    return [path for stage, path in paths.items() if checkpoint.has_another_key(path, stages.stage_key(stage))]


def load_trained(dataset: Dataset, options: TrainSection, folder: Path, *, for_test: bool) -> Trained:
    """The models for evaluation on the test window, or for serving. Raises CheckpointError when a stage is missing."""
    stages = Stages(dataset, options, folder, None)
    until = dataset.splits.test_start_ms if for_test else dataset.splits.end_ms
    retrieval = build_model(dataset, options, until)
    stages.restore(retrieval, RETRIEVAL_TEST if for_test else RETRIEVAL_LAST)
    if options.ranker.model == "none":
        return Trained(retrieval.eval(), None, until, stages.key, {}, options, stages.compression)
    ranker = build_ranker(dataset, options)
    figures = stages.restore(ranker, RANKER)
    return Trained(retrieval.eval(), ranker.eval(), until, stages.key, figures, options, stages.compression)


def load_first_retrieval(dataset: Dataset, options: TrainSection, folder: Path) -> RetrievalModel:
    """The retrieval model as its own training left it, before any later data. Raises CheckpointError."""
    stages = Stages(dataset, options, folder, None)
    model = build_model(dataset, options, stages.ranker_start_ms)
    stages.restore(model, RETRIEVAL)
    return model.eval()


def first_retrieval_at(
    dataset: Dataset, options: TrainSection, folder: Path, moments_ms: list[int]
) -> Iterator[Retrieval]:
    """That model as candidate generation saw it at each moment, its tables as of then. Raises CheckpointError."""
    trained = checkpoint.weights(load_first_retrieval(dataset, options, folder))
    for moment in moments_ms:
        model = build_model(dataset, options, moment)
        checkpoint.set_weights(model, trained)
        yield snapshot(dataset, model, moment)


def ranker_windows(dataset: Dataset, options: TrainSection) -> list[tuple[int, int]]:
    """Windows [start, end) that the ranker learns from, the oldest first."""
    splits = dataset.splits
    length = splits.test_start_ms - splits.valid_start_ms
    newest = splits.valid_start_ms - (options.ranker.windows or sys.maxsize) * length
    starts = range(max(splits.ranker_start_ms, newest), splits.valid_start_ms - length + 1, length)
    return [(start, start + length) for start in starts]


def ranker_start_ms(dataset: Dataset, options: TrainSection) -> int:
    """Where the ranker's windows begin, which retrieval first learns nothing of; without one the validation window."""
    splits = dataset.splits
    windows = options.ranker.windows or sys.maxsize if _learns_from_windows(options) else 0
    return max(splits.ranker_start_ms, splits.valid_start_ms - windows * (splits.test_start_ms - splits.valid_start_ms))


def retrieval_mode(options: TrainSection) -> Mode:
    """What retrieval is validated on: a model that is not taught repeats is not asked for them."""
    retrieval = options.retrieval
    return "all" if isinstance(retrieval, SasRecOptions | TwoTowerOptions) and retrieval.repeat_weight else "new"


def training_key(dataset: Dataset, options: TrainSection) -> str:
    """Names the data and the settings that models were trained with."""
    return _key(dataset, options.model_dump_json())


def _key(dataset: Dataset, settings: str) -> str:
    told = f"{MODEL_VERSION}:{dataset.fingerprint}:{settings}:{dataset.splits}"
    return sha256(told.encode()).hexdigest()


def _learns_from_windows(options: TrainSection) -> bool:
    return options.ranker.model != "none" and options.ranker.learn_from == "candidates"


class RankerLists(NamedTuple):
    """Candidate lists: what a ranker learns from, and those of the validation window."""

    train: RankerSamples
    valid: RankerSamples


Learn = Callable[[Fit], RetrievalModel]  # one run of a retrieval model -> the model with its best weights


class Stages:
    """The stages one by one; each is kept in `folder`. log: None where nothing is trained.

    In a folder of compressed models (`models.compress`) the record beside them is part of the key. Raises
    CheckpointError where they were made from models that are no longer there.
    """

    def __init__(
        self, dataset: Dataset, options: TrainSection, folder: Path, log: RunLog | None, hardware: Hardware = CPU
    ) -> None:
        self.dataset, self.options, self.folder = dataset, options, folder
        self._log, self._hardware = log, hardware
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

    @property
    def log(self) -> RunLog:
        assert self._log is not None
        return self._log

    def retrieval(self, learn: Learn | None = None) -> None:
        """learn: in place of the options' own training."""
        start = self.ranker_start_ms
        if self.done(RETRIEVAL):
            return
        window = Window("retrieval validation", start, start + self._window_ms())
        validate = validator(self.dataset, window, retrieval_mode(self.options), self._length())
        run = self._fit(RETRIEVAL, start, validate=validate)
        model = (learn or self._learn)(run)
        self.finish(RETRIEVAL, checkpoint.weights(model), {})

    def ranker(self, lists: RankerLists | None = None) -> None:
        """lists: what `ranker_lists` gives, where that was made before."""
        if self.done(RANKER):
            return
        if self.options.ranker.learn_from == "interactions":
            self._ranker_of_interactions()
            return
        train_samples, valid_samples = lists or self.ranker_lists()
        path = self.checkpoint(RANKER)
        fitted = fit_ranker(
            self.dataset, train_samples, valid_samples, self.options, self.log, path, self.key, self._hardware
        )
        figures = {"ndcg@10": fitted.validation, "retrieval_ndcg@10": fitted.validation_retrieval}
        self.finish(RANKER, checkpoint.weights(fitted.model), figures)

    def ranker_lists(self) -> RankerLists:
        splits, ranker = self.dataset.splits, self.options.ranker
        positions = fit_positions(self.dataset, splits.valid_start_ms) if ranker.propensity == "position" else None
        windows = ranker_windows(self.dataset, self.options)
        train_samples = self._samples(windows, "ranker samples", ranker.negatives, positions, ranker.impressions)
        validation = [(splits.valid_start_ms, splits.test_start_ms)]
        return RankerLists(train_samples, self._samples(validation, "validation samples", 0, positions))

    def _ranker_of_interactions(self) -> None:
        until_ms, validation = self.dataset.splits.valid_start_ms, Window.validation(self.dataset)
        path, retrieval = self.checkpoint(RANKER), None
        if self.options.ranker.hard_share:
            trained = load_first_retrieval(self.dataset, self.options, self.folder)
            retrieval = snapshot(self.dataset, trained, until_ms)
        model, best = fit_interactions(
            self.dataset,
            until_ms,
            validation,
            self.options,
            self.log,
            path,
            self.stage_key(RANKER),
            retrieval,
            self._hardware,
        )
        self.finish(RANKER, checkpoint.weights(model), {"ndcg@10 among all items": best})

    def refit(self, stage: str, after: str, until_ms: int, learn: Learn | None = None) -> None:
        """Go on from an earlier stage with the data up to until_ms. There is nothing later to validate on."""
        if self.done(stage):
            return
        weights, _ = self.result(after)
        with checkpoint.named(self.folder / f"{after}.npz"):  # later, nothing would know which file they are of
            checkpoint.set_weights(build_model(self.dataset, self.options, until_ms), weights)
        if self.options.refit_share:
            run = self._fit(stage, until_ms, budget=self.options.refit_share, weights=weights)
            weights = checkpoint.weights((learn or self._learn)(run))
        self.finish(stage, weights, {})

    def result(self, stage: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Weights and header of a finished stage."""
        path = self.folder / f"{stage}.npz"
        weights, header = checkpoint.load(path, {"key": str, "figures": dict})
        if header["key"] != self.stage_key(stage):
            raise checkpoint.CheckpointError(
                f"{path}: was trained on other data or with other settings; run `shortlist train` again"
            )
        return weights, header

    def restore(self, model: nn.Module, stage: str) -> dict[str, float]:
        """Give the model the weights of a finished stage -> what validation said of it. Raises CheckpointError."""
        weights, header = self.result(stage)
        with checkpoint.named(self.folder / f"{stage}.npz"):
            checkpoint.set_weights(model, weights)
        figures: dict[str, float] = header["figures"]
        return figures

    def _samples(
        self,
        windows: list[tuple[int, int]],
        stage: str,
        num_sampled: int,
        positions: PositionModel | None,
        with_refused: bool = False,
    ) -> RankerSamples:
        length = self.options.ranker.history_read
        found = first_retrieval_at(self.dataset, self.options, self.folder, [start for start, _ in windows])
        label_windows = []
        for (start, end), retrieval in zip(windows, found, strict=True):
            shown = None
            if positions or with_refused:
                shown = shown_pairs(self.dataset, start, end, positions, self.options.ranker.max_weight)
            label_windows.append(LabelWindow(start, end, retrieval, shown, with_refused))
        return ranker_samples(self.dataset, label_windows, num_sampled, self.options.seed, self.log, stage, length)

    def _learn(self, run: Fit) -> RetrievalModel:
        return fit(self.dataset, self.options, run, self.log)

    def _fit(self, stage: str, until_ms: int, **more: Any) -> Fit:
        path = self.checkpoint(stage)
        return Fit(stage, self.stage_key(stage), self.options.seed, until_ms, path, hardware=self._hardware, **more)

    def stage_key(self, stage: str) -> str:
        return self.key if stage == RANKER else self.retrieval_key

    def _length(self) -> int:
        return self.options.retrieval.history_length

    def _window_ms(self) -> int:
        return self.dataset.splits.test_start_ms - self.dataset.splits.valid_start_ms

    def done(self, stage: str) -> bool:
        """As the first process finds it: a later one may find what the first has just finished, and wait for nobody."""
        if not total(np.array([float(is_first() and self._is_kept(stage))]))[0]:
            return False
        self.log.start(stage, 1, 1)
        self.log.finish(stage, "done before")
        return True

    def _is_kept(self, stage: str) -> bool:
        try:
            self.result(stage)
        except checkpoint.CheckpointError:
            return False
        return True

    def finish(self, stage: str, weights: dict[str, NDArray[Any]], figures: dict[str, float]) -> None:
        """The first process keeps the result; the others wait until it is there."""
        if is_first():
            checkpoint.save(self.folder / f"{stage}.npz", weights, {"key": self.stage_key(stage), "figures": figures})
            self.checkpoint(stage).unlink(missing_ok=True)
        wait()

    def checkpoint(self, stage: str) -> Path:
        return self.folder / f"{stage}.checkpoint.npz"
