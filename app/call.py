"""One request on its way through the service, and the first stages: what it asks for, resolved against one bundle."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.engine import Engine
from app.filters import NONE_ALLOWED, NOTHING, Allowed, allowed_items, check_filter, check_names
from app.wire import Degraded, RecommendRequest, ServedBy
from models.contract.candidates import Candidates
from models.contract.features import UserFeatures, user_features
from models.contract.history import EMPTY, History, find_items, read_history
from models.contract.state import UserState

NO_SCORES: NDArray[np.float32] = np.empty(0, np.float32)


@dataclass(slots=True)
class Call:
    """Filled from top to bottom as the flow goes on. The engine is the one bundle that answers all of it.

    started_s, deadline_s: on the monotonic clock; no deadline is infinity.  session, excluded: item indices int64 [n].
    user_vector: float32 [d].  scores: float32 [n], of the candidates, by the last stage that ran.
    """

    request: RecommendRequest
    engine: Engine
    now_ms: int
    started_s: float
    deadline_s: float = math.inf
    session: NDArray[np.int64] = field(default_factory=lambda: NOTHING)
    excluded: NDArray[np.int64] = field(default_factory=lambda: NOTHING)
    degraded: list[Degraded] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    state: UserState | None = None
    history: History = EMPTY
    allowed: Allowed = NONE_ALLOWED
    features: UserFeatures | None = None
    user_vector: NDArray[np.float32] | None = None
    candidates: Candidates | None = None
    scores: NDArray[np.float32] = field(default_factory=lambda: NO_SCORES)
    served_by: ServedBy = "popular"


def check_request(request: RecommendRequest, engine: Engine) -> None:
    """Raise InvalidRequest for a name that the bundle does not know, with those it does."""
    schema = engine.bundle.schema
    check_names("fields", request.fields, schema.returned)
    check_names("context", list(request.context), [feature.name for feature in schema.context_features])
    if request.filter is not None:
        check_filter(request.filter, schema.filterable)


def resolve_items(call: Call) -> None:
    """Turn the request's item ids into item indices; those the bundle does not know are skipped with a warning."""
    request = call.request
    if request.history:
        call.session = _known(call, "history", request.history)
    if request.exclude:
        call.excluded = _known(call, "exclude", request.exclude)


def _known(call: Call, name: str, item_ids: Sequence[str]) -> NDArray[np.int64]:
    indices = call.engine.bundle.items.item_indices(item_ids)
    unknown = [item_ids[position] for position in np.flatnonzero(indices < 0)[:3].tolist()]
    if unknown:
        count = int(np.count_nonzero(indices < 0))
        call.warnings.append(f"{name}: {count} items are unknown to the bundle and were skipped: {', '.join(unknown)}")
    return indices[indices >= 0]


def read_user(call: Call) -> None:
    """The user's history, as the models read it, and what may be on the list."""
    items, state, request = call.engine.bundle.items, call.state, call.request
    stored = read_history(state, items.hashes) if state is not None else EMPTY
    call.history = stored.extended(call.session.tolist(), call.now_ms)
    if state is not None:
        _warn_of_expired(call, state)
    found = call.engine.masks.find(request.filter) if request.filter is not None else None
    removed = [call.excluded]
    if not request.include_seen:
        removed += [call.session, find_items(items.hashes, state.seen_hashes) if state is not None else NOTHING]
    call.allowed = allowed_items(call.engine.marks, found, removed)


def features_of(call: Call) -> UserFeatures:
    """The user's features, made once, by the first stage that reads them: the user tower or the ranking."""
    if call.features is None:
        schema, request = call.engine.bundle.schema, call.request
        call.features = user_features(schema, call.state, call.history, request.context, call.now_ms)
    return call.features


def _warn_of_expired(call: Call, state: UserState) -> None:
    ttl_s = call.engine.bundle.schema.feature_ttl_s
    if ttl_s is None:
        return
    expired = [name for name, (_, at_ms) in state.features.items() if at_ms < call.now_ms - ttl_s * 1000]
    if expired:
        call.warnings.append(f"user features past their time to live count as missing: {', '.join(sorted(expired))}")
