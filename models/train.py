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

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models import checkpoint
from models.data.dataset import Dataset
from models.distributed import is_first, total
from models.fitting import Fit
from models.hardware import CPU, Hardware
from models.options import TrainSection
from models.ranker_lists import RankerLists, ranker_lists
from models.ranking.interactions import fit_interactions
from models.ranking.train import fit_ranker
from models.retrieval.model import RetrievalModel
from models.retrieval.snapshot import snapshot
from models.retrieval.train import build_model, fit
from models.retrieval.validate import retrieval_mode, validator
from models.run_log import RunLog
from models.stage_files import RANKER, RETRIEVAL, RETRIEVAL_LAST, RETRIEVAL_TEST, StageFiles
from models.targets import Window
from models.train_checks import check_can_be_built
from models.trained import load_first_retrieval


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


Learn = Callable[[Fit], RetrievalModel]  # one run of a retrieval model -> the model with its best weights


class Stages:
    """The stages one by one; files: where each is kept. Raises CheckpointError as `StageFiles` does."""

    def __init__(
        self, dataset: Dataset, options: TrainSection, folder: Path, log: RunLog, hardware: Hardware = CPU
    ) -> None:
        self.dataset, self.options, self.log = dataset, options, log
        self.files = StageFiles(dataset, options, folder)
        self._hardware = hardware

    def retrieval(self, learn: Learn | None = None) -> None:
        """learn: in place of the options' own training."""
        if self.done(RETRIEVAL):
            return
        start, splits = self.files.ranker_start_ms, self.dataset.splits
        window = Window("retrieval validation", start, start + splits.test_start_ms - splits.valid_start_ms)
        mode, length = retrieval_mode(self.options), self.options.retrieval.history_length
        run = self._fit(RETRIEVAL, start, validate=validator(self.dataset, window, mode, length))
        model = (learn or self._learn)(run)
        self.files.finish(RETRIEVAL, checkpoint.weights(model), {})

    def ranker(self, lists: RankerLists | None = None) -> None:
        """lists: what `ranker_lists` gives, where that was made before."""
        if self.done(RANKER):
            return
        if self.options.ranker.learn_from == "interactions":
            self._ranker_of_interactions()
            return
        files = self.files
        train_samples, valid_samples = lists or ranker_lists(self.dataset, self.options, files.folder, self.log)
        path = files.checkpoint(RANKER)
        fitted = fit_ranker(
            self.dataset, train_samples, valid_samples, self.options, self.log, path, files.key, self._hardware
        )
        figures = {"ndcg@10": fitted.validation, "retrieval_ndcg@10": fitted.validation_retrieval}
        files.finish(RANKER, checkpoint.weights(fitted.model), figures)

    def _ranker_of_interactions(self) -> None:
        until_ms, validation = self.dataset.splits.valid_start_ms, Window.validation(self.dataset)
        files, retrieval = self.files, None
        if self.options.ranker.hard_share:
            trained = load_first_retrieval(self.dataset, self.options, files.folder)
            retrieval = snapshot(self.dataset, trained, until_ms)
        model, best = fit_interactions(
            self.dataset,
            until_ms,
            validation,
            self.options,
            self.log,
            files.checkpoint(RANKER),
            files.key,
            retrieval,
            self._hardware,
        )
        files.finish(RANKER, checkpoint.weights(model), {"ndcg@10 among all items": best})

    def refit(self, stage: str, after: str, until_ms: int, learn: Learn | None = None) -> None:
        """Go on from an earlier stage with the data up to until_ms. There is nothing later to validate on."""
        if self.done(stage):
            return
        weights, _ = self.files.result(after)
        with checkpoint.named(self.files.finished(after)):  # later, nothing would know which file they are of
            checkpoint.set_weights(build_model(self.dataset, self.options, until_ms), weights)
        if self.options.refit_share:
            run = self._fit(stage, until_ms, budget=self.options.refit_share, weights=weights)
            weights = checkpoint.weights((learn or self._learn)(run))
        self.files.finish(stage, weights, {})

    def done(self, stage: str) -> bool:
        """As the first process finds it: a later one may find what the first has just finished, and wait for nobody."""
        if not total(np.array([float(is_first() and self.files.is_finished(stage))]))[0]:
            return False
        self.log.start(stage, 1, 1)
        self.log.finish(stage, "done before")
        return True

    def _learn(self, run: Fit) -> RetrievalModel:
        return fit(self.dataset, self.options, run, self.log)

    def _fit(self, stage: str, until_ms: int, **more: Any) -> Fit:
        key, path = self.files.stage_key(stage), self.files.checkpoint(stage)
        return Fit(stage, key, self.options.seed, until_ms, path, hardware=self._hardware, **more)
