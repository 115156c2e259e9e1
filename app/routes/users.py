"""GET and DELETE /users/{user_id}: what is stored of one user, and its erasure."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request, Response

from app.openapi import ERRORS
from app.routes.ids import ANY_ID
from app.service import Service
from app.wire import Erased
from models.contract.ids import MAX_ID_LENGTH

router = APIRouter(tags=["users"])
USER = f"/users/{{user_id:{ANY_ID}}}"
UserPath = Annotated[str, Path(min_length=1, max_length=MAX_ID_LENGTH)]


STORED = """
The state (history, seen items, counts, features) and the events that are not archived yet.

Seen items are kept as hashes: `items` are those that the active bundle, the history or the events name, and `unnamed`
is how many are left. Not in the answer: archived events, which are the rows with this `user_id` in `archive/*.parquet`
of the data directory; the ids of events of the last two days, kept to recognise repeats; the files that the data was
prepared from, and what was prepared.
""".strip()


@router.get(
    USER, summary="What the feature store holds of a user", description=STORED, response_model=dict[str, Any],
    responses=ERRORS,
)  # fmt: skip
async def get_user(request: Request, user_id: UserPath) -> Response:
    service: Service = request.app.state.service
    bundle = service.lifecycle.current().bundle
    stored = await service.store.export_user(user_id, bundle.schema.event_types, bundle.items)
    return Response(orjson.dumps(stored), media_type="application/json")


@router.delete(USER, summary="Erase a user", response_model=Erased, responses=ERRORS)
async def delete_user(request: Request, user_id: UserPath) -> Response:
    service: Service = request.app.state.service
    erased = await service.store.erase_user(user_id)
    counts = Erased(
        user_id=user_id, states=erased.states, event_ids=erased.event_ids, stream_events=erased.stream_events
    )
    return Response(orjson.dumps(counts), media_type="application/json")
