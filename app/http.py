"""What happens to every request around its route, as one plain ASGI application in front of FastAPI's.

Request id, API key, the body within its limits, a place in the gate; then POST /recommend takes the short way, straight
to its handler, and everything else goes through FastAPI's router. Both ways use the same handlers and the same errors.
"""

import logging
import random
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from fastapi import FastAPI
from starlette.requests import ClientDisconnect

from app.auth import authorise, presented_key
from app.errors import Internal, ShortlistError, body_of, headers_of, status_of
from app.limits import (
    MAX_BODY,
    MAX_EVENTS_BODY,
    Disconnected,
    Message,
    Receive,
    Send,
    bounded,
    check_length,
    read_body,
    replayed,
)
from app.logs import log
from app.service import Service
from app.url import check_query, exact_path
from models.contract.bundle import BundleError

Scope = MutableMapping[str, Any]
Handler = Callable[[Service, bytes], Awaitable[bytes]]

JSON = (b"content-type", b"application/json")
WITH_BODY = frozenset({"/recommend", "/events"})
OPEN = frozenset({"/livez", "/readyz", "/healthz", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"})
_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class Http:
    """The application that uvicorn runs. api: FastAPI's, which also describes everything in OpenAPI.

    fast: handlers of the short way by method and path; they take the body and return the answer's JSON.
    """

    def __init__(self, api: FastAPI, service: Service, fast: dict[tuple[str, str], Handler]) -> None:
        self.api = api
        self.service = service
        self._keys = service.settings.api_keys
        self._fast = fast

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        started_s = self.service.clock()
        exchange = Exchange(scope, send, self.service.draining)
        try:
            await self._handle(scope, receive, exchange)
        except ShortlistError as error:
            await exchange.fail(error)
        except (Disconnected, ClientDisconnect):
            exchange.status = 499  # nobody is there to read an answer; the name is nginx's
        except Exception as error:  # noqa: BLE001  the last line of defence: logged here, told to the caller without detail
            log("request failed", logging.ERROR, exc_info=error, request_id=exchange.request_id, route=exchange.route)
            await exchange.fail(Internal("something went wrong here; the log has it under this request id"))
        finally:
            self.service.metrics.request(exchange.route, exchange.status, self.service.clock() - started_s)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Open the service when the server starts and close it when it stops; a bad bundle is one line in the log."""
        await receive()
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self.service.running())
            except BundleError as error:
                log("bundle refused", logging.ERROR, error=str(error))
                await send({"type": "lifespan.startup.failed", "message": ""})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _handle(self, scope: Scope, receive: Receive, exchange: "Exchange") -> None:
        if "refused" in scope:  # by app/protocol.py: there is no whole request
            raise scope["refused"]
        path: str = scope["path"]
        is_open = path in OPEN
        if self._keys and not is_open:
            authorise(self._keys, presented_key(scope["headers"]), scope_of(path))
        is_events = path == "/events"
        limit = MAX_EVENTS_BODY if is_events else MAX_BODY
        check_length(scope["headers"], limit)
        if is_open or path == "/metrics":
            await self._route(scope, bounded(receive, limit), exchange)
            await exchange.release()
            return
        if path in WITH_BODY:
            exchange.route = path
        # Before a place is taken: callers that never send their body would hold all of them.
        body = await read_body(receive, limit)
        with self.service.gate.admit(is_events):
            handler = self._fast.get((scope["method"], path))
            if handler is not None:
                answer = await handler(self.service, body)
            else:
                await self._route(scope, replayed(body, receive), exchange)
        # The place is given back before: a caller may be slow to read.
        if handler is not None:
            await exchange.answer(200, answer)
        else:
            await exchange.release()

    async def _route(self, scope: Scope, receive: Receive, exchange: "Exchange") -> None:
        scope = {**scope, "exchange": exchange}
        if scope["method"] == "HEAD":  # what GET would answer; the server leaves the body out
            scope["method"] = "GET"
        scope["path"] = exact_path(scope["path"], scope["raw_path"])
        check_query(scope["query_string"])
        try:
            await self.api(scope, receive, exchange.send)
        finally:
            exchange.route = getattr(scope.get("route"), "path_format", "unknown")


class Exchange:
    """One request and its answer: the request id, the route for the metrics, and what was sent."""

    __slots__ = ("_closing", "_kept", "_send", "_started", "request_id", "route", "status")

    def __init__(self, scope: Scope, send: Send, closing: bool) -> None:
        self.request_id = _request_id(scope["headers"])
        self.route = "unknown"
        self.status = 500
        self._send = send
        self._closing = closing
        self._kept: list[Message] = []
        self._started = False

    async def send(self, message: Message) -> None:
        """Take what a route sends, with this exchange's headers, and keep it until `release`."""
        if message["type"] == "http.response.start":
            self._started = True
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._headers()]
        self._kept.append(message)

    async def release(self) -> None:
        while self._kept:
            await self._send(self._kept.pop(0))

    async def answer(self, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """The whole answer as JSON."""
        self._started, self.status = True, status
        head = [JSON, (b"content-length", b"%d" % len(body)), *headers, *self._headers()]
        await self._send({"type": "http.response.start", "status": status, "headers": head})
        await self._send({"type": "http.response.body", "body": body})

    def _headers(self) -> list[tuple[bytes, bytes]]:
        own = [(b"x-request-id", self.request_id.encode())]
        if self._closing:  # so that callers open their next connection elsewhere
            own.append((b"connection", b"close"))
        return own

    async def fail(self, error: ShortlistError) -> None:
        """The error as the answer, unless there is one: the router answers an unexpected error and raises it again."""
        if self._started:
            await self.release()
        else:
            await self.answer(status_of(error), body_of(error, self.request_id), headers_of(error))


def scope_of(path: str) -> str:
    """The scope that a key needs: users' data and bundles are the administrator's."""
    return "admin" if path.startswith(("/users/", "/bundles")) else "serve"


def _request_id(headers: list[tuple[bytes, bytes]]) -> str:
    """The caller's x-request-id where it is short and harmless in a log, else one of our own."""
    for name, value in headers:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            return value.decode()
    return f"{random.getrandbits(64):016x}"
