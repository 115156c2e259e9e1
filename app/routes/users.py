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


@router.get(USER, summary="Everything stored of a user", response_model=dict[str, Any], responses=ERRORS)
async def get_user(request: Request, user_id: UserPath) -> Response:
    service: Service = request.app.state.service
    stored = await service.store.export_user(user_id, service.lifecycle.current().bundle.schema.event_types)
    return Response(orjson.dumps(stored), media_type="application/json")


@router.delete(USER, summary="Erase a user", response_model=Erased, responses=ERRORS)
async def delete_user(request: Request, user_id: UserPath) -> Response:
    service: Service = request.app.state.service
    erased = await service.store.erase_user(user_id)
    counts = Erased(
        user_id=user_id, states=erased.states, event_ids=erased.event_ids, stream_events=erased.stream_events
    )
    return Response(orjson.dumps(counts), media_type="application/json")
