"""Candidate generation: several sources, each with its share; without a user vector, what is popular."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.call import Call, features_of
from models.contract.candidates import POPULAR, USER_VECTOR, Candidates, first_allowed, from_history, merge

MARGIN = 50


def retrieve(calls: Sequence[Call], num_ranked: int) -> None:
    """User vectors in one run, then each call's candidates. All calls are of one engine and have a history.

    num_ranked: candidates of a call, but for one that asks for so many items that it needs more.
    """
    engine = calls[0].engine
    features = [features_of(call) for call in calls] if engine.tower_reads_features else []
    vectors = engine.user_vectors([call.history for call in calls], features)
    good = np.all(np.isfinite(vectors), axis=1)
    for call, vector, is_good in zip(calls, vectors, good.tolist(), strict=True):
        if is_good:
            call.user_vector = vector
        else:
            call.degraded.append("retrieval")
    found = [call for call in calls if call.user_vector is not None]
    limits = [max(num_ranked, call.request.k + MARGIN) for call in found]
    nearest = engine.nearest(vectors[good], [call.allowed for call in found], limits)
    for call, near, limit in zip(found, nearest, limits, strict=True):
        call.candidates = personal_candidates(call, near, limit)
        call.scores, call.served_by = call.candidates.scores, "retrieval"


def personal_candidates(call: Call, nearest: NDArray[np.int64], limit: int) -> Candidates:
    """Candidates of a user with a user vector: allowed items only, and as many as wanted where there are that many.

    nearest: allowed items by nearness to the user vector, int64 [at most limit].
    """
    engine = call.engine
    sources = from_history(
        call.history, engine.tables, engine.bundle.popular, call.allowed, call.request.include_seen, limit, call.now_ms
    )
    return merge([*sources, (USER_VECTOR, nearest)], call.user_vector, engine.bundle.item_vectors, limit)


def popular_candidates(call: Call) -> Candidates:
    """The popular items that are allowed, best first, made up to k by allowed items that nobody has taken yet.

    The score of the n-th is 1 / n.
    """
    popular, k = call.engine.bundle.popular, call.request.k
    items = first_allowed(popular, call.allowed, k)
    if len(items) < k:
        rest = np.setdiff1d(call.allowed.items(), popular, assume_unique=True)
        items = np.concatenate([items, rest[: k - len(items)]])
    scores = (1.0 / np.arange(1, len(items) + 1)).astype(np.float32)
    return Candidates(items, scores, np.full(len(items), POPULAR, np.uint8))
