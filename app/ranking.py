"""Ranking: the features of each call, and one run of the graphs for all calls of a batch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.call import Call, features_of
from models.contract.candidates import Candidates
from models.contract.features import cross_features
from models.contract.kernels.chosen import kernels


def rank(calls: Sequence[Call]) -> None:
    """Give every call the ranking scores of its candidates. All calls are of one engine and have candidates."""
    engine = calls[0].engine
    candidates = [call.candidates for call in calls if call.candidates is not None]
    scores = engine.rank(
        [call.history for call in calls],
        [features_of(call) for call in calls],
        [found.items for found in candidates],
        [_cross(call, found) for call, found in zip(calls, candidates, strict=True)],
    )
    for call, ranked in zip(calls, scores, strict=True):
        if np.isfinite(ranked).any() or not len(ranked):
            call.scores, call.served_by = ranked, "ranking"
        else:
            call.degraded.append("ranking")


def _cross(call: Call, found: Candidates) -> NDArray[np.float32]:
    """float32 [n, c]; a ranker that learned from interactions alone takes none."""
    ranking = call.engine.bundle.manifest.ranking
    if ranking is None or not ranking.cross_features:
        return np.zeros((len(found), 0), np.float32)
    return cross_features(found.items, found.scores, call.history, call.engine.tables, call.now_ms)


def best_first(scores: NDArray[np.float32], keep: NDArray[np.bool_], limit: int) -> NDArray[np.int64]:
    """Positions int64 [at most limit] of the best scores to keep: one that is not finite stands below every finite one;
    equal ones keep their order."""
    ranked = scores.astype(np.float64)
    ranked[~np.isfinite(scores)] = -np.inf
    return kernels.best_first(np.arange(len(scores)), ranked, keep, limit)


def finite(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scores with those that are not finite lowered to the lowest that is, or to 0 where none is."""
    good = np.isfinite(scores)
    if good.all():
        return scores
    return np.where(good, scores, scores[good].min() if good.any() else np.float32(0)).astype(np.float32)
