"""Candidate lists for the ranker, by the retrieval model that knows nothing of their windows."""

from pathlib import Path
from typing import NamedTuple

from models.data.dataset import Dataset
from models.exposure import PositionModel
from models.options import TrainSection
from models.ranking.samples import LabelWindow, RankerSamples, ranker_samples
from models.ranking.shown import fit_positions, shown_pairs
from models.run_log import RunLog
from models.trained import first_retrieval_at
from models.windows import ranker_windows


class RankerLists(NamedTuple):
    """Candidate lists: what a ranker learns from, and those of the validation window."""

    train: RankerSamples
    valid: RankerSamples


def ranker_lists(dataset: Dataset, options: TrainSection, folder: Path, log: RunLog) -> RankerLists:
    """folder: has the first stage of retrieval. Raises CheckpointError where it has not."""
    splits, ranker, seed, length = dataset.splits, options.ranker, options.seed, options.ranker.history_read
    positions = fit_positions(dataset, splits.valid_start_ms) if ranker.propensity == "position" else None
    windows = ranker_windows(dataset, options)
    asked = _label_windows(dataset, options, folder, windows, positions, ranker.impressions)
    train = ranker_samples(dataset, asked, ranker.negatives, seed, log, "ranker samples", length)
    validation = [(splits.valid_start_ms, splits.test_start_ms)]
    asked = _label_windows(dataset, options, folder, validation, positions, with_refused=False)
    return RankerLists(train, ranker_samples(dataset, asked, 0, seed, log, "validation samples", length))


def _label_windows(
    dataset: Dataset,
    options: TrainSection,
    folder: Path,
    windows: list[tuple[int, int]],
    positions: PositionModel | None,
    with_refused: bool,
) -> list[LabelWindow]:
    found = first_retrieval_at(dataset, options, folder, [start for start, _ in windows])
    label_windows = []
    for (start, end), retrieval in zip(windows, found, strict=True):
        shown = None
        if positions or with_refused:
            shown = shown_pairs(dataset, start, end, positions, options.ranker.max_weight)
        label_windows.append(LabelWindow(start, end, retrieval, shown, with_refused))
    return label_windows
