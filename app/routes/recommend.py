"""POST /recommend and GET /recommend."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request, Response

from app.openapi import ERRORS, body
from app.service import Service
from app.wire import MAX_K, Recommendation, RecommendRequest, parse, parse_values

router = APIRouter(tags=["recommend"])


async def recommend(service: Service, raw: bytes) -> bytes:
    """The handler of POST /recommend, called without a detour through the router (see app/http.py)."""
    return await _answer(service, parse(RecommendRequest, raw))


async def _answer(service: Service, request: RecommendRequest) -> bytes:
    found = await service.recommender.recommend(request)
    service.metrics.recommendation(found["served_by"], found["degraded"])
    return orjson.dumps(found)


@router.post(
    "/recommend", summary="The list for a user, or for an anonymous history", response_model=Recommendation,
    responses=ERRORS, openapi_extra=body(RecommendRequest),
)  # fmt: skip
async def post_recommend(request: Request) -> Response:
    return Response(await recommend(request.app.state.service, await request.body()), media_type="application/json")


@router.get("/recommend", summary="The same for simple callers", response_model=Recommendation, responses=ERRORS)
async def get_recommend(
    request: Request,
    user_id: Annotated[str | None, Query(description="whose state to read")] = None,
    k: Annotated[int, Query(ge=1, le=MAX_K, description="items wanted")] = 20,
    include_seen: Annotated[bool, Query(description="whether items the user has seen may be on the list")] = False,
    fields: Annotated[list[str] | None, Query(description="item columns to return; give it once for each")] = None,
) -> Response:
    values = {"user_id": user_id, "k": k, "include_seen": include_seen, "fields": fields or []}
    answer = await _answer(request.app.state.service, parse_values(RecommendRequest, values))
    return Response(answer, media_type="application/json")
