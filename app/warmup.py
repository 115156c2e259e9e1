"""Requests replayed on a newly loaded bundle before anyone is answered with it: alone and in a full batch, for a cold
user and for histories of real items, so that memory is mapped and graphs have allocated what they need."""

import math

import numpy as np

from app.call import Call
from app.engine import Engine
from app.flow import Flow
from app.settings import Settings
from app.wire import RecommendRequest
from models.contract.bundle import BundleError

HISTORIES = (0, 1, 10, 50)


def warm_up(engine: Engine, settings: Settings) -> None:
    """Raise BundleError if the bundle cannot answer: its hashes may hold and its graphs still not fit together."""
    flow = Flow(settings)
    try:
        for size in HISTORIES:
            flow.run([_call(engine, size)])
        answers = flow.run([_call(engine, HISTORIES[n % len(HISTORIES)]) for n in range(settings.max_batch)])
    except Exception as error:  # a broken bundle fails in as many ways as there are libraries
        raise BundleError("manifest.json", "the bundle does not answer requests; export it again") from error
    if any(not found["items"] for found in answers):
        raise BundleError("manifest.json", "the bundle answers with empty lists; export it again")


def _call(engine: Engine, size: int) -> Call:
    request = RecommendRequest(k=10, include_seen=True)
    items = np.linspace(0, engine.bundle.num_items - 1, min(size, engine.bundle.num_items)).astype(np.int64)
    return Call(request, engine, engine.bundle.manifest.as_of_ms, 0.0, math.inf, session=items)
