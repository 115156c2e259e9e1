"""The description of the API. Bodies are read by hand (see wire.parse), so their schemas are put in here."""

import sys
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.errors import ErrorAnswer
from app.wire import EventsRequest, RecommendRequest

REF = "#/components/schemas/{model}"
BODIES: tuple[type[BaseModel], ...] = (RecommendRequest, EventsRequest)

_MEANING = {
    400: "The body is not JSON, a parameter not UTF-8, or the request not HTTP/1.1",
    401: "No API key, or one that is not known",
    403: "The API key does not have the scope",
    404: "There is no such item, bundle or route",
    408: "The head or the body did not come in time",
    409: "The bundle is refused, or another activation is under way",
    413: "The body is too large",
    422: "A field cannot be accepted; `details` names it",
    431: "The request line and the headers are too large",
    500: "Something went wrong here; the log has it under the request id",
    503: "Too many requests in work, or what the call needs is down; see `code` and Retry-After",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text} for status, text in _MEANING.items()
}


def body(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route whose JSON body is this model."""
    schema = {"$ref": REF.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def describe(api: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the service, the same for every deployment."""
    document = get_openapi(title=api.title, version=api.version, description=api.description, routes=api.routes)
    _, definitions = models_json_schema([(model, "validation") for model in BODIES], ref_template=REF)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(definitions["$defs"])
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which no call here answers with
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = {
        "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "Bearer": {"type": "http", "scheme": "bearer"},
    }
    document["security"] = [{"ApiKey": []}, {"Bearer": []}, {}]
    return document


def document_text(api: FastAPI) -> str:
    """docs/openapi.json, byte for byte."""
    return orjson.dumps(describe(api), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode() + "\n"


if __name__ == "__main__":  # python -m app.openapi > docs/openapi.json
    from app.main import create_api

    sys.stdout.write(document_text(create_api()))
