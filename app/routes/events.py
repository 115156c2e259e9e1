"""POST /events."""

from collections import Counter

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response

from app.openapi import ERRORS, body
from app.service import Service
from app.wire import EventAnswer, EventsAnswer, EventsRequest, parse

router = APIRouter(tags=["events"])
UNKNOWN_ITEM = "the active bundle does not know this item; the event is kept for the next training"


@router.post(
    "/events", summary="A batch of events, each accepted or refused with a reason", response_model=EventsAnswer,
    responses=ERRORS, openapi_extra=body(EventsRequest),
)  # fmt: skip
async def post_events(request: Request) -> Response:
    service: Service = request.app.state.service
    return Response(await store_events(service, await request.body()), media_type="application/json")


async def store_events(service: Service, raw: bytes) -> bytes:
    """Raises FeatureStoreUnavailable when Redis fails: then send the batch again, with event ids."""
    events = parse(EventsRequest, raw).events
    engine = service.lifecycle.current()
    bundle = engine.bundle
    results = await service.store.apply(events, bundle.schema, service.now_ms(), bundle.manifest.clock_shift_ms)
    unknown = bundle.items.item_indices([event.item_id for event in events]) < 0
    answers = [
        EventAnswer(
            index=index,
            status=result.status,
            code=result.code,
            message=result.message,
            warnings=[UNKNOWN_ITEM] if missing and result.status != "refused" else [],
        )
        for index, (result, missing) in enumerate(zip(results, np.asarray(unknown).tolist(), strict=True))
    ]
    counts = Counter(result.status for result in results)
    for status, count in counts.items():
        service.metrics.event(status, count)
    return orjson.dumps(
        EventsAnswer(
            accepted=counts["accepted"],
            duplicates=counts["duplicate"],
            refused=counts["refused"],
            durability=service.store.durability,
            results=answers,
        )
    )
