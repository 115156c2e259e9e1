"""The ranker alone: its probabilities for the candidates it was given, against what the users then turned to."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models import score_metrics
from models.bootstrap import UNDEFINED, mean_interval
from models.report import CalibrationBin, RankerResult
from models.targets import Mode, Targets


@dataclass(frozen=True, slots=True)
class Scored:
    """Candidates of several users with their logits: user u has items[offsets[u]:offsets[u + 1]], each item once.

    offsets: int64 [U + 1].  items: int64 [n].  logits: float32 [n].
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int64]
    logits: NDArray[np.float32]


# (user indices int64 [U], mode) -> the candidates of each user with their logits
Ranker = Callable[[NDArray[np.int64], Mode], Scored]


def evaluate_ranker(scored: Scored, targets: Targets, seed: int) -> RankerResult:
    """How the logits of each user's candidates agree with the user's targets; ValueError without candidates."""
    if len(scored.offsets) != len(targets) + 1:
        raise ValueError(f"candidates for {len(scored.offsets) - 1} users; expected {len(targets)}, a row a user")
    rows = np.repeat(np.arange(len(targets)), np.diff(scored.offsets))
    wanted = np.repeat(np.arange(len(targets)), np.diff(targets.offsets))
    stride = 1 + max(int(scored.items.max(initial=0)), int(targets.items.max(initial=0)))
    labels = np.isin(rows * stride + scored.items, wanted * stride + targets.items, kind="sort")
    by_user = score_metrics.grouped_auc(scored.logits, labels, rows)
    by_user = by_user[np.isfinite(by_user)]
    table = score_metrics.calibration(score_metrics.sigmoid(scored.logits), labels)
    bins = zip(table.counts.tolist(), table.predicted.tolist(), table.actual.tolist(), strict=True)
    return RankerResult(
        num_candidates=len(labels),
        num_positives=int(labels.sum()),
        auc=score_metrics.auc(scored.logits, labels),
        user_auc=mean_interval(by_user, seed) if len(by_user) else UNDEFINED,
        num_users_auc=len(by_user),
        log_loss=score_metrics.log_loss(scored.logits, labels),
        log_loss_constant=score_metrics.constant_log_loss(labels),
        calibration_error=table.error,
        predicted_over_actual=table.ratio,
        bins=[CalibrationBin(count, predicted, actual) for count, predicted, actual in bins],
    )
