"""Metrics of a ranker's scores against what happened: order (AUC), probability (log-loss) and calibration.

logits float [n], labels bool [n]. Probability is the sigmoid of the logit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Reliability of probabilities in bins of about equal mass, ascending; empty bins are left out.

    counts int64 [b], predicted float64 [b] mean probability, actual float64 [b] share of positives.
    """

    counts: NDArray[np.int64]
    predicted: Floats
    actual: Floats

    @property
    def error(self) -> float:
        """Expected calibration error: mean of |predicted - actual| over the bins, weighted by their counts."""
        return float(np.average(np.abs(self.predicted - self.actual), weights=self.counts))

    @property
    def ratio(self) -> float:
        """Predicted over actual number of positives; NaN if there are none."""
        positives = float(self.actual @ self.counts)
        return float(self.predicted @ self.counts) / positives if positives else float("nan")


def auc(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """Chance that a positive scores above a negative, a tie counting half (Mann-Whitney U); NaN without both."""
    return float(grouped_auc(scores, labels, np.zeros(len(scores), np.int64))[0]) if len(scores) else float("nan")


def grouped_auc(scores: NDArray[np.floating], labels: NDArray[np.bool_], groups: NDArray[np.int64]) -> Floats:
    """AUC within each group, float64 [groups.max() + 1]; NaN for a group without both a positive and a negative."""
    _check_finite(scores)
    num_groups = int(groups.max(initial=-1)) + 1
    sizes = np.bincount(groups, minlength=num_groups)
    positives = np.bincount(groups, weights=labels, minlength=num_groups)
    rank_sums = np.bincount(groups, weights=_ranks(scores, groups, sizes) * labels, minlength=num_groups)
    pairs = positives * (sizes - positives)
    wins = rank_sums - positives * (positives + 1) / 2
    result: Floats = np.divide(wins, pairs, out=np.full(num_groups, np.nan), where=pairs > 0)
    return result


def log_loss(logits: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """Mean of -log of the probability given to what happened, exact for logits of any size."""
    return float(np.mean(log_losses(logits, labels)))


def log_losses(logits: NDArray[np.floating], labels: NDArray[np.bool_]) -> Floats:
    """What the log-loss is the mean of, float64 [n]."""
    _check_finite(logits)
    wide = logits.astype(np.float64)
    return np.asarray(np.logaddexp(0.0, wide) - labels * wide, np.float64)


def constant_log_loss(labels: NDArray[np.bool_]) -> float:
    """Log-loss of the constant probability equal to the share of positives: the entropy of the labels, in nats."""
    shares = np.array([labels.mean(), 1.0 - labels.mean()])
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def sigmoid(logits: NDArray[np.floating]) -> Floats:
    """Probabilities float64 [n]; no overflow for logits of any size."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -logits.astype(np.float64))), np.float64)


def calibration(probabilities: Floats, labels: NDArray[np.bool_], num_bins: int = 10) -> Calibration:
    """Reliability table over bins of equal mass (Nguyen & O'Connor 2015).

    Equal probabilities share the bin of their middle rank, so the table does not depend on the order of the rows.
    """
    _check_finite(probabilities)
    if not len(probabilities):
        raise ValueError("no rows to calibrate on; score at least one candidate")
    everyone = np.zeros(len(probabilities), np.int64)
    middles = _ranks(probabilities, everyone, np.array([len(probabilities)])) - 0.5
    bins = np.floor(middles * num_bins / len(probabilities)).astype(np.int64)
    counts = np.bincount(bins, minlength=num_bins)
    kept = counts > 0
    predicted = np.bincount(bins, weights=probabilities, minlength=num_bins)[kept] / counts[kept]
    actual = np.bincount(bins, weights=labels, minlength=num_bins)[kept] / counts[kept]
    return Calibration(counts[kept], predicted, actual)


def _ranks(scores: NDArray[np.floating], groups: NDArray[np.int64], sizes: NDArray[np.int64]) -> Floats:
    """Ascending ranks from 1 within each group, equal scores sharing their mean rank, float64 [n]."""
    order = np.lexsort((scores, groups))
    score, group = scores[order], groups[order]
    starts = np.ones(len(order), np.bool_)
    starts[1:] = (score[1:] != score[:-1]) | (group[1:] != group[:-1])
    first = np.flatnonzero(starts)
    lengths = np.diff(np.append(first, len(order)))
    group_start = np.cumsum(sizes) - sizes
    mean_rank = first - group_start[group[first]] + (lengths + 1) / 2
    ranks = np.empty(len(order), np.float64)
    ranks[order] = np.repeat(mean_rank, lengths)
    return ranks


def _check_finite(scores: NDArray[np.floating]) -> None:
    if not np.isfinite(scores).all():
        raise ValueError(f"score of row {int(np.argmin(np.isfinite(scores)))} is not finite; the ranker is broken")
