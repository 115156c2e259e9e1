"""A ranker on the test rows of a labelled table."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.bootstrap import NUM_RESAMPLES, Interval, mean_interval
from models.score_metrics import auc, constant_log_loss, log_losses


@dataclass(frozen=True, slots=True)
class LabelledReport:
    """metrics: auc, logloss and the logloss_constant of the share of positives, or rmse, each with its bootstrap
    interval over rows (the constant's is itself)."""

    num_rows: int
    metrics: dict[str, Interval]
    training_key: str

    def to_json(self) -> bytes:
        """`{"num_rows", "training_key", "labelled": {metric: {"value", "low", "high"}}}`."""
        labelled = {name: asdict(interval) for name, interval in self.metrics.items()}
        plain: dict[str, Any] = {"num_rows": self.num_rows, "training_key": self.training_key, "labelled": labelled}
        return orjson.dumps(plain, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def evaluate_labelled(
    scores: NDArray[np.float32], labels: NDArray[np.float32], *, squared: bool, training_key: str, seed: int = 0
) -> LabelledReport:
    """scores: float32 [n], logits, or with `squared` predicted numbers.  labels: float32 [n]."""
    if squared:
        errors = np.square(scores.astype(np.float64) - labels)
        mean = mean_interval(errors, seed)
        metrics = {"rmse": Interval(*(float(np.sqrt(value)) for value in (mean.value, mean.low, mean.high)))}
        return LabelledReport(len(labels), metrics, training_key)
    clicked = labels > 0
    metrics = {
        "auc": auc_interval(scores, clicked, seed),
        "logloss": mean_interval(log_losses(scores, clicked), seed),
        "logloss_constant": Interval(*[constant_log_loss(clicked)] * 3),
    }
    return LabelledReport(len(labels), metrics, training_key)


def auc_interval(
    scores: NDArray[np.floating], labels: NDArray[np.bool_], seed: int, num_resamples: int = NUM_RESAMPLES
) -> Interval:
    """Bootstrap over rows; the sorting is done once, a resample only counts how often each row was drawn."""
    order = np.argsort(scores, kind="stable")
    positive = labels[order].astype(np.float64)
    new = np.r_[True, np.diff(scores[order]) != 0]
    group = np.cumsum(new) - 1  # rows of one score
    rng, drawn = np.random.default_rng(seed), np.empty(num_resamples)
    for number in range(num_resamples):
        counts = np.bincount(rng.integers(0, len(order), len(order)), minlength=len(order)).astype(np.float64)
        ups = np.bincount(group, counts * positive)
        downs = np.bincount(group, counts * (1.0 - positive))
        below = np.cumsum(downs) - downs
        pairs = ups.sum() * downs.sum()
        drawn[number] = (ups @ (below + 0.5 * downs)) / pairs if pairs else np.nan
    return Interval.of(auc(scores, labels), drawn)
