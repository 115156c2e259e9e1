"""The composition root. Importing this opens nothing; `create_app` puts the service together, starting it opens it."""

from functools import cache

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.errors import (
    Internal,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    ShortlistError,
    StoreDown,
    body_of,
    headers_of,
    invalid,
    status_of,
)
from app.feature_store.errors import FeatureStoreUnavailable
from app.http import Http
from app.openapi import describe
from app.routes import bundles, events, health, metrics, recommend, similar, users
from app.service import Service
from app.settings import Settings

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
ABOUT = "Personalised lists from one verified bundle, learning from each event within the session."


def create_app(settings: Settings) -> Http:
    """The ASGI application of one worker."""
    service, api = Service(settings), create_api()
    api.state.service = service
    return Http(api, service, fast={("POST", "/recommend"): recommend.recommend})


def create_api() -> FastAPI:
    """The routes, their errors and their description."""
    api = FastAPI(
        title="Shortlist",
        version="1",
        description=ABOUT,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would name whatever host the caller claims, in a form that no error has
    )
    for module in (recommend, events, similar, users, bundles, health, metrics):
        api.include_router(module.router)
    for kind in (ShortlistError, RequestValidationError, HTTPException, FeatureStoreUnavailable, Exception):
        api.add_exception_handler(kind, _failed)
    api.openapi = cache(lambda: describe(api))  # type: ignore[method-assign]
    return api


async def _failed(request: Request, error: Exception) -> Response:
    refused_method = isinstance(error, HTTPException) and error.status_code == 405
    known = MethodNotAllowed(_methods(request)) if refused_method else _translated(error)
    body = body_of(known, request.scope["exchange"].request_id)
    response = Response(body, status_of(known), media_type="application/json")
    for name, value in headers_of(known):
        response.headers[name.decode()] = value.decode()
    return response


def _methods(request: Request) -> list[str]:
    """What the routes of this path take; HEAD is answered where GET is (see app/http.py)."""
    scope = request.scope
    taken = {
        method
        for method in METHODS
        for route in request.app.routes
        if route.matches({**scope, "method": method})[0] is Match.FULL
    }
    return sorted(taken | {"HEAD"} if "GET" in taken else taken)


def _translated(error: Exception) -> ShortlistError:
    """What a library raised, as an error of ours."""
    if isinstance(error, ShortlistError):
        return error
    if isinstance(error, RequestValidationError):
        places = [{**found, "loc": found["loc"][1:]} for found in error.errors()]  # without "query" or "path"
        return invalid(places)
    if isinstance(error, FeatureStoreUnavailable):
        return StoreDown("the feature store does not answer; nothing is lost if you send this again with event ids")
    if isinstance(error, HTTPException) and error.status_code == 404:
        return NotFound("there is no such route; /docs lists them")
    if isinstance(error, HTTPException):
        return InvalidRequest("the request cannot be read")
    return Internal("something went wrong here; the log has it under this request id")
