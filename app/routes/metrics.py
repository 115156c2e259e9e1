"""GET /metrics."""

import asyncio

from fastapi import APIRouter, Request, Response

from app.metrics import CONTENT_TYPE
from app.openapi import ERRORS
from app.service import Service

router = APIRouter(tags=["operations"])


@router.get(
    "/metrics", summary="All workers' figures for Prometheus", response_class=Response,
    responses=ERRORS | {200: {"content": {"text/plain": {}}}},
)  # fmt: skip
async def get_metrics(request: Request) -> Response:
    service: Service = request.app.state.service
    service.metrics.in_work.set(service.gate.in_work)
    settings = service.settings
    text = await asyncio.to_thread(service.metrics.merged, settings.run_dir, settings.workers)
    return Response(text, media_type=CONTENT_TYPE.decode())
