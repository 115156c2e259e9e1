"""/livez and /readyz, with the names that other systems know them by."""

import orjson
from fastapi import APIRouter, Request, Response

from app.errors import NotReady
from app.feature_store.errors import FeatureStoreUnavailable
from app.openapi import ERRORS
from app.service import Service
from app.wire import Health

router = APIRouter(tags=["operations"])


@router.get("/livez", summary="The process answers", response_model=Health)
@router.get("/healthz", include_in_schema=False)
@router.get("/v2/health/live", include_in_schema=False)
async def livez() -> Response:
    return _health(Health(status="ok"))


@router.get(
    "/readyz",
    summary="Requests may be sent here",
    response_model=Health,
    responses={503: ERRORS[503] | {"model": Health}},
)
@router.get("/v2/health/ready", include_in_schema=False)
async def readyz(request: Request) -> Response:
    """Ready with a bundle, whether or not Redis answers: lists are made without it, and the body says so."""
    service: Service = request.app.state.service
    if service.draining:
        return _health(Health(status="draining"), 503)
    try:
        version = service.lifecycle.current().version
    except NotReady:
        return _health(Health(status="loading"), 503)
    try:
        await service.store.ping()
    except FeatureStoreUnavailable:
        return _health(Health(status="ready", bundle=version, feature_store="unavailable"))
    return _health(Health(status="ready", bundle=version, feature_store="ok"))


def _health(body: Health, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
