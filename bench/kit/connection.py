"""One keep-alive HTTP/1.1 connection of the load client: one request out, one answer back, as little Python as can be.

Only what the benchmark's services send is understood: an answer without Content-Length counts as none.
"""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

from bench.kit.result import LoadFailed

_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
# What Shortlist says of a list that it did not make in full, or without the ranker; a yardstick says nothing of it.
_SAYS, _COMPLETE, _RANKED = b'"degraded":[', b'"degraded":[]', b'"served_by":"ranking"'
OK = 200
BROKEN = 0  # the status of a request that was not answered


class Outcome(NamedTuple):
    """status: BROKEN where the connection ended before the answer.  degraded: whether the answer says that something
    was left out, or that the ranker did not make it."""

    status: int
    degraded: bool


class Connection(asyncio.Protocol):
    """on_answer: called with the connection when its request has ended, one way or the other.

    started_ns: when the request counts as begun.  open: whether another one may be sent.
    """

    def __init__(self, on_answer: Callable[["Connection", Outcome], None]) -> None:
        self.started_ns = 0
        self.open = False
        self._busy = False
        self._on_answer = on_answer
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._needed = 0  # bytes of the whole answer, once its head is there

    def send(self, request: bytes, started_ns: int) -> None:
        """request: head and body. Only when the answer to the one before has come, and `open`."""
        assert self._transport is not None
        self.started_ns, self._busy = started_ns, True
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.open = cast(asyncio.Transport, transport), True  # uvloop's derives from nothing

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        if not self._needed:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                self._received = received
                return
            length = _LENGTH.search(received, 0, end)
            if length is None or self._transport is None:
                self.close()
                return
            self._needed = end + 4 + int(length[1])
        if len(received) < self._needed:
            self._received = received
            return
        self._received, self._needed, self._busy = b"", 0, False
        status = int(received[9:12])
        if status != OK and _CLOSE.search(received):
            self.open = False
        self._on_answer(
            self, Outcome(status, _SAYS in received and not (_COMPLETE in received and _RANKED in received))
        )

    def connection_lost(self, error: Exception | None) -> None:
        self.open, self._received, self._needed = False, b"", 0
        if self._busy:
            self._busy = False
            self._on_answer(self, Outcome(BROKEN, False))


def read_requests(bodies: Path, host: str, port: int, path: str) -> list[bytes]:
    """Whole POST requests, one for each line of JSON. Raises LoadFailed where there is none."""
    lines = [line for line in bodies.read_bytes().splitlines() if line.strip()]
    if not lines:
        raise LoadFailed(f"{bodies}: holds no request; write one JSON body a line")
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: "
    return [head.encode() + b"%d\r\n\r\n" % len(line) + line for line in lines]
