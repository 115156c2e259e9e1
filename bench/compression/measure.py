"""How good the rankers are, all on the same candidates of the test window."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.compress.run import OPTIONS
from models.compress.size import parameters
from models.data.dataset import Dataset
from models.options import TrainSection
from models.ranking.lists import list_ndcg, predict
from models.ranking.samples import LabelWindow, RankerSamples, ranker_samples
from models.run_log import RunLog
from models.score_metrics import auc, log_loss
from models.train import first_retrieval_at, load_trained


class Figures(NamedTuple):
    """parameters: of the ranker.  auc, log_loss: of every candidate.  ndcg: at 10, of the lists."""

    parameters: int
    auc: float
    log_loss: float
    ndcg: float


def lists_of_test(dataset: Dataset, folder: Path, log: RunLog) -> RankerSamples:
    """Candidates that the retrieval model of the folder brings at the start of the test window, and what was taken."""
    options, splits = _options(folder), dataset.splits
    (retrieval,) = first_retrieval_at(dataset, options, folder, [splits.test_start_ms])
    window = LabelWindow(splits.test_start_ms, splits.end_ms, retrieval)
    return ranker_samples(dataset, [window], 0, options.seed, log, "test lists", options.ranker.history_read)


def figures(dataset: Dataset, folder: Path, lists: RankerSamples) -> Figures:
    """Raises ValueError for models without a ranker, CheckpointError for models that are not there."""
    ranker = load_trained(dataset, _options(folder), folder, for_test=True).ranker
    if ranker is None:
        raise ValueError(f"{folder}: has no ranker to measure")
    logits, taken = predict(ranker, dataset, lists), lists.labels > 0
    return Figures(parameters(ranker), auc(logits, taken), log_loss(logits, taken), list_ndcg(lists, logits))


def mean(rows: list[Figures]) -> Figures:
    """Over seeds."""
    return Figures(round(float(np.mean([row.parameters for row in rows]))), *np.mean([row[1:] for row in rows], 0))


def _options(folder: Path) -> TrainSection:
    return TrainSection.model_validate_json((folder / OPTIONS).read_bytes())
