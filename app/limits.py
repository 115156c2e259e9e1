"""Bounds on what a caller may send, and on how much is in work at once."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, MutableMapping
from types import coroutine
from typing import Any, Self

from app.errors import BodyTooLarge, BodyTooSlow, Overloaded

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024
MAX_EVENTS_BODY = 1024 * 1024
MAX_REQUEST = 16 * MAX_EVENTS_BODY  # beyond this not even the rest of what was refused is read
HEAD_TIMEOUT_S = 5  # from its first byte
BODY_TIMEOUT_S = 5.0
IDLE_S = 75  # longer than balancers keep theirs, so that it is they who close an idle connection
LINGER_S = 2  # for a caller to read why it was refused


class Disconnected(Exception):
    """The caller went away before the whole request was here; nobody reads an answer."""


class Gate:
    """At most `limit` requests in work; events are let in up to twice as many, so they are shed last."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.in_work = 0

    def admit(self, is_events: bool) -> Self:
        """`with gate.admit(False):` holds a place for the block. Raises Overloaded at once when there is none."""
        if self.in_work >= (2 * self._limit if is_events else self._limit):
            raise Overloaded("too many requests are in work here; try again in a second")
        self.in_work += 1
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.in_work -= 1


def check_length(headers: Iterable[tuple[bytes, bytes]], limit: int) -> None:
    """Refuse a body by its announced length, before a byte of it is read. Raises BodyTooLarge."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and (len(value) > 18 or int(value) > limit):
            raise _too_large(limit)


def bounded(receive: Receive, limit: int) -> Receive:
    """The same stream, which raises BodyTooLarge once more than `limit` bytes have come."""
    total = 0

    async def receive_bounded() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > limit:
            raise _too_large(limit)
        return message

    return receive_bounded


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body, at most `limit` bytes. Raises BodyTooLarge from the first byte over, Disconnected when the caller
    goes away first, BodyTooSlow after BODY_TIMEOUT_S."""
    reading = _whole(receive, limit)
    try:
        waits_for = reading.send(None)
    except StopIteration as end:  # the body was here already, as nearly always: a timeout costs more than reading it
        whole: bytes = end.value
        return whole
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _go_on(reading, waits_for)
    except TimeoutError:
        raise BodyTooSlow(f"the body did not come within {BODY_TIMEOUT_S:g} s") from None


def replayed(body: bytes, receive: Receive) -> Receive:
    """The stream of a request whose body was read already: that body once, then what else comes."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return first.pop() if first else await receive()

    return receive_again


async def _whole(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return b"".join(parts) if len(parts) > 1 else parts[0]


@coroutine
def _go_on(reading: Coroutine[Any, Any, bytes], waits_for: Any) -> Generator[Any, Any, bytes]:
    """Await a coroutine that was begun by hand.  waits_for: what it yielded, which the event loop must see."""
    try:
        yield waits_for
        whole: bytes = yield from reading
        return whole
    finally:
        reading.close()


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {limit // 1024} KiB")
