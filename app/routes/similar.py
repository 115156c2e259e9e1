"""GET /items/{item_id}/similar."""

from typing import Annotated

import numpy as np
import orjson
from fastapi import APIRouter, Path, Query, Request, Response

from app.answer import fields_of
from app.engine import Engine
from app.errors import NotFound
from app.filters import check_names
from app.openapi import ERRORS
from app.routes.ids import ANY_ID
from app.service import Service
from app.wire import SimilarItem, SimilarItems, SimilarQuery
from models.contract.ids import MAX_ID_LENGTH

router = APIRouter(tags=["recommend"])


@router.get(
    f"/items/{{item_id:{ANY_ID}}}/similar", summary="Item to item", response_model=SimilarItems, responses=ERRORS
)
async def get_similar(
    request: Request,
    item_id: Annotated[str, Path(min_length=1, max_length=MAX_ID_LENGTH)],
    query: Annotated[SimilarQuery, Query()],
) -> Response:
    service: Service = request.app.state.service
    found = similar_items(service.lifecycle.current(), item_id, query.k, query.fields)
    return Response(orjson.dumps(found), media_type="application/json")


def similar_items(engine: Engine, item_id: str, k: int, fields: list[str]) -> SimilarItems:
    """The item's neighbours in the bundle. Raises NotFound for an item that it does not know."""
    bundle = engine.bundle
    check_names("fields", fields, bundle.schema.returned)
    index = int(bundle.items.item_indices([item_id])[0])
    if index < 0:
        raise NotFound("the active bundle does not know this item")
    near = bundle.neighbours[index]
    kept = np.flatnonzero(near >= 0)[:k]
    items: list[SimilarItem] = []
    for rank, place in enumerate(kept.tolist(), 1):
        other = int(near[place])
        similarity = round(float(bundle.neighbours_similarity[index, place]), 6)
        row = SimilarItem(item_id=bundle.items.item_id(other), rank=rank, similarity=similarity)
        if fields:
            row["fields"] = fields_of(engine, other, fields)
        items.append(row)
    return SimilarItems(bundle=engine.version, item_id=item_id, items=items)
