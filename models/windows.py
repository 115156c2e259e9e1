"""Windows of time in training: which ones the ranker learns from, and what retrieval therefore may not know."""

import sys

from models.data.dataset import Dataset
from models.options import TrainSection


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
    windows = options.ranker.windows or sys.maxsize if learns_from_windows(options) else 0
    return max(splits.ranker_start_ms, splits.valid_start_ms - windows * (splits.test_start_ms - splits.valid_start_ms))


def learns_from_windows(options: TrainSection) -> bool:
    """Whether there is a ranker of candidates, not one of interactions."""
    return options.ranker.model != "none" and options.ranker.learn_from == "candidates"
