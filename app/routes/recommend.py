"""POST /recommend and GET /recommend."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.openapi import ERRORS, body
from app.service import Service
from app.wire import Recommendation, RecommendQuery, RecommendRequest, parse

router = APIRouter(tags=["recommend"])


async def recommend(service: Service, raw: bytes) -> bytes:
    """The handler of POST /recommend, called without a detour through the router (see app/http.py)."""
    return await _answer(service, parse(RecommendRequest, raw))


async def _answer(service: Service, request: RecommendRequest) -> bytes:
    found = await service.recommender.recommend(request)
    service.metrics.recommendation(found.served_by, found.degraded)
    return found.body


@router.post(
    "/recommend", summary="The list for a user, or for an anonymous history", response_model=Recommendation,
    responses=ERRORS, openapi_extra=body(RecommendRequest),
)  # fmt: skip
async def post_recommend(request: Request) -> Response:
    return Response(await recommend(request.app.state.service, await request.body()), media_type="application/json")


@router.get("/recommend", summary="The same for simple callers", response_model=Recommendation, responses=ERRORS)
async def get_recommend(request: Request, query: Annotated[RecommendQuery, Query()]) -> Response:
    answer = await _answer(request.app.state.service, RecommendRequest(**query.model_dump()))
    return Response(answer, media_type="application/json")
