"""GET /bundles, POST /bundles/{version}/activate, POST /bundles/rollback."""

import asyncio
from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Request, Response

from app.openapi import ERRORS
from app.service import Service
from app.wire import Activation, Bundles

router = APIRouter(tags=["bundles"])


@router.get("/bundles", summary="The bundles there are, and which is served", response_model=Bundles, responses=ERRORS)
async def get_bundles(request: Request) -> Response:
    service: Service = request.app.state.service
    listed = await asyncio.to_thread(service.lifecycle.bundles)
    return Response(orjson.dumps(listed), media_type="application/json")


@router.post(
    "/bundles/rollback", summary="Serve the bundle that was active before", response_model=Activation, responses=ERRORS
)
async def post_rollback(request: Request) -> Response:
    service: Service = request.app.state.service
    return Response(orjson.dumps(await service.lifecycle.rollback()), media_type="application/json")


@router.post("/bundles/{version}/activate", summary="Serve another bundle", response_model=Activation, responses=ERRORS)
async def post_activate(request: Request, version: Annotated[str, Path(min_length=1)]) -> Response:
    service: Service = request.app.state.service
    return Response(orjson.dumps(await service.lifecycle.activate(version)), media_type="application/json")
