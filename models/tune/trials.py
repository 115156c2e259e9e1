"""One trial: a model trained with some options on what came before the validation window, and its figure on it."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from models.checkpoint import CheckpointError
from models.data.dataset import Dataset
from models.fitting import Fit
from models.hardware import CPU, Hardware
from models.options import TrainSection
from models.ranker_lists import RankerLists, ranker_lists
from models.ranking.options import RankerOptions
from models.ranking.train import build_ranker
from models.retrieval.train import build_model, fit
from models.retrieval.validate import retrieval_mode, validator
from models.run_log import RunLog
from models.stage_files import RANKER, RETRIEVAL, StageFiles
from models.targets import Window
from models.train import Stages
from models.train_checks import check_has_what_it_asks_for

Train = Callable[[TrainSection, RunLog], float]


class RetrievalTrials:
    """Trains retrieval models on everything before the validation window -> NDCG@10 on it, of the weights that
    validated best.

    folder: of the checkpoint, by which the same options go on where they were interrupted.
    """

    def __init__(self, dataset: Dataset, folder: Path, hardware: Hardware = CPU) -> None:
        self._dataset, self._folder, self._hardware = dataset, folder, hardware

    def __call__(self, options: TrainSection, log: RunLog) -> float:
        alone = options.model_copy(update={"ranker": RankerOptions(model="none")})
        files = StageFiles(self._dataset, alone, self._folder)
        window = Window.validation(self._dataset)
        validate = validator(self._dataset, window, retrieval_mode(alone), alone.retrieval.history_length)
        path = self._folder / "trial.checkpoint.npz"
        run = Fit(RETRIEVAL, files.key, alone.seed, window.start_ms, path, validate=validate, hardware=self._hardware)
        model = fit(self._dataset, alone, run, log)
        with torch.inference_mode():
            return validate(model)

    def check(self, options: TrainSection) -> None:
        """Raises ValueError for data that no trial can be trained on."""
        build_model(self._dataset, options, self._dataset.splits.valid_start_ms)

    def clear(self) -> None:
        """After a trial has ended."""
        _clear(self._folder, "")


class RankerTrials:
    """Trains rankers, all on the candidates of one retrieval model -> NDCG@10 on the validation window.

    trained: folder of `shortlist train`, whose retrieval model is taken if it is of these data and options; it is
    trained otherwise, into `folder`.
    """

    def __init__(self, dataset: Dataset, folder: Path, trained: Path, hardware: Hardware = CPU) -> None:
        self._dataset, self._folder, self._trained, self._hardware = dataset, folder, trained, hardware
        self._lists: tuple[object, RankerLists] | None = None

    def __call__(self, options: TrainSection, log: RunLog) -> float:
        check_has_what_it_asks_for(self._dataset, options)
        build_ranker(self._dataset, options)  # refused before hours of retrieval
        stages = Stages(self._dataset, options, self._folder, log, self._hardware)
        self._take_retrieval(options)
        stages.retrieval()
        if options.ranker.learn_from == "interactions":
            stages.ranker()
        else:
            stages.ranker(self._lists_for(options, log))
        figure: float = next(iter(stages.files.result(RANKER)[1]["figures"].values()))
        return figure

    def check(self, options: TrainSection) -> None:
        """Raises ValueError for data that no trial can be trained on."""
        check_has_what_it_asks_for(self._dataset, options)
        build_ranker(self._dataset, options)

    def clear(self) -> None:
        """After a trial has ended; the retrieval model stays for the next."""
        _clear(self._folder, f"{RETRIEVAL}.npz")

    def _take_retrieval(self, options: TrainSection) -> None:
        trained = self._trained / f"{RETRIEVAL}.npz"
        try:
            StageFiles(self._dataset, options, self._trained).result(RETRIEVAL)
        except CheckpointError:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        beside = self._folder / f"{RETRIEVAL}.tmp"
        shutil.copyfile(trained, beside)
        beside.rename(self._folder / f"{RETRIEVAL}.npz")

    def _lists_for(self, options: TrainSection, log: RunLog) -> RankerLists:
        """Made once for the trials that do not differ in them: making them takes longer than many a ranker's steps."""
        ranker = options.ranker
        wanted = (ranker.negatives, ranker.impressions, ranker.history_read)
        if self._lists is None or self._lists[0] != wanted:
            self._lists = (wanted, ranker_lists(self._dataset, options, self._folder, log))
        return self._lists[1]


class TrialLog:
    """Passes a trial's progress on, and tells each validation of its main stage.

    judge: takes the eighth of the budget that is done (1 to 8), the steps and the figure of a validation; it may raise
    to end the trial. Trials are so compared at the same share of their budgets, whose learning rates have fallen as
    far, whatever their steps.
    """

    def __init__(self, log: RunLog, stage: str, judge: Callable[[int, int, float], None]) -> None:
        self._log, self._stage, self._judge = log, stage, judge
        self._total, self.steps = 1, 0

    def start(self, stage: str, total: int, done: int = 0) -> None:
        if stage == self._stage:
            self._total, self.steps = max(1, total), done
        self._log.start(stage, total, done)

    def step(self, stage: str, done: int, figures: Mapping[str, float]) -> None:
        self._log.step(stage, done, figures)
        if stage != self._stage:
            return
        self.steps = done
        if "validation" in figures and done < self._total:  # at the end there is nothing left to save
            self._judge(max(1, round(8 * done / self._total)), done, figures["validation"])

    def finish(self, stage: str, note: str) -> None:
        self._log.finish(stage, note)


def _clear(folder: Path, kept: str) -> None:
    for path in folder.glob("*.npz"):
        if path.name != kept:
            path.unlink()
