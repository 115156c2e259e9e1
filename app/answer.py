"""The end of the flow: the best k candidates as the answer that goes out."""

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import orjson
from numpy.typing import NDArray

from app.call import Call
from app.engine import Engine
from app.ranking import best_first, finite
from app.ulid import ulid
from app.wire import Recommendation, RecommendedItem, Source
from models.contract.candidates import SOURCES, Candidates, reasons
from models.contract.kernels.chosen import kernels

SOURCE_NAMES: tuple[Source, ...] = get_args(Source)
assert SOURCE_NAMES == SOURCES


def top_k(call: Call, candidates: Candidates) -> tuple[Candidates, NDArray[np.float32]]:
    """The k best candidates and their scores. What is allowed is checked once more: some FAISS versions have ignored
    what they were told to leave out (faiss #5504), and a list must not show what the caller ruled out."""
    order = best_first(call.scores, call.allowed[candidates.items], call.request.k)
    return candidates.take(order), finite(call.scores)[order]


def answer(call: Call, reason_threshold: float) -> Recommendation:
    """The answer, but for the time it took, which the caller knows."""
    assert call.candidates is not None
    chosen, scores = top_k(call, call.candidates)
    _warn_if_short(call, len(chosen))
    because = reasons(chosen.items, call.history, call.engine.tables, reason_threshold)
    return Recommendation(
        recommendation_id=ulid(call.now_ms),
        bundle=call.engine.version,
        items=_items(call, chosen, scores, because),
        served_by=call.served_by,
        degraded=list(dict.fromkeys(call.degraded)),
        warnings=list(dict.fromkeys(call.warnings)),
        took_ms=0.0,
    )


def fields_of(engine: Engine, item: int, names: Sequence[str]) -> dict[str, Any]:
    """The item's returned columns; they are JSON in the bundle already, so they are not read here."""
    return {name: orjson.Fragment(engine.bundle.items.fields[name][item]) for name in names}


def _items(
    call: Call, chosen: Candidates, scores: NDArray[np.float32], because: NDArray[np.int64]
) -> list[RecommendedItem]:
    table, names = call.engine.bundle.items, call.request.fields
    listed: list[RecommendedItem] = kernels.listed(
        chosen.items, scores, chosen.sources, because, table.item_ids, SOURCE_NAMES
    )
    if names:
        for row, item in zip(listed, chosen.items.tolist(), strict=True):
            row["fields"] = fields_of(call.engine, item, names)
    return listed


def _warn_if_short(call: Call, found: int) -> None:
    request = call.request
    if found >= request.k:
        return
    causes = [
        text
        for text, applies in (
            ("the filter", request.filter is not None),
            ("exclude", len(call.excluded) > 0),
            (
                "include_seen being false",
                not request.include_seen and (call.state is not None or len(call.session) > 0),
            ),
        )
        if applies
    ]
    because = f" after {', '.join(causes)}" if causes else ""
    call.warnings.append(f"the list has {found} of {request.k} items: the bundle has no more{because}")
