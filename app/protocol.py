"""uvicorn's HTTP/1.1 protocol with bounds on what is read, and with refusals that look like every other error."""

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.errors import HeadTooLarge, HeadTooSlow, MalformedRequest, ShortlistError
from app.limits import HEAD_TIMEOUT_S, IDLE_S, LINGER_S, MAX_HEAD, MAX_REQUEST
from app.one_write import OneWrite

TOO_LARGE = f"the request line and the headers are larger than {MAX_HEAD // 1024} KiB"
TOO_SLOW = f"the request line and the headers did not come within {HEAD_TIMEOUT_S} s"
UNREADABLE = "this cannot be read as a request in HTTP/1.1"


class Protocol(HttpToolsProtocol):
    """One connection. scope: of the request being read, with a method once its head is here; None between requests.

    cycle: the newest request and its answer.  pipeline: those that wait for the answer before theirs.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._answers = OneWrite(transport, self.loop)
        self._refused = False
        self._unfinished: Any = None  # the scope of a request that began in an earlier read
        self._more = 0  # the bytes of it that came in later ones
        self._head_fits = True  # a head that ends in this read cannot be too large
        self._seen: tuple[Any, Any, int] = (0, 0, 0)  # scope, cycle and limit that `tick` found, and how often again
        self._ticks = 0
        super().connection_made(self._answers)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._head_fits = self._unfinished is None and len(data) <= MAX_HEAD
        offered: int | None = None  # where an offer to upgrade ends
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as found:
                offered = found.args[0]
            if offered is not None:  # past the `except`, which would stand as the context of errors in there
                self._ignore_upgrade(memoryview(data)[offered:])
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, ShortlistError) else MalformedRequest(UNREADABLE))
            return
        if self.scope is None:
            self._unfinished = None
        else:
            self._bound(len(data))

    def _ignore_upgrade(self, rest: memoryview) -> None:
        """Read the head again without its Upgrade, which RFC 9110 (7.8) lets a server ignore, and then the rest, which
        the parser took for another protocol. It takes a new parser: to this one the connection may be over."""
        while True:
            method = self.parser.get_method()
            if method == b"CONNECT":
                raise httptools.HttpParserError
            lines = [b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())]
            lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
            self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as found:
                rest = rest[found.args[0] :]

    def _should_upgrade(self) -> bool:
        return True  # so that uvicorn passes over such a head, until `_ignore_upgrade` brings it again

    def on_headers_complete(self) -> None:
        if not self._head_fits:
            line = len(self.parser.get_method()) + len(self.url) + 12
            if line + sum(len(name) + len(value) + 4 for name, value in self.headers) + 2 > MAX_HEAD:
                raise HeadTooLarge(TOO_LARGE)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.scope = None  # type: ignore[assignment]

    def on_response_complete(self) -> None:
        """uvicorn's, without a timer for each answer: `tick` sees connections that nobody uses."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def eof_received(self) -> bool:  # type: ignore[override]
        """A caller that has sent all may close its side: the connection is kept until it has its last answer."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            self._answers.flush()
            return False
        self.cycle.keep_alive = self._answers.lingers = False
        return True

    def tick(self) -> None:
        """Called once a second: ends what comes to nothing."""
        patience = self._patience()
        limit_s, end = patience or (0, self._answers.abort)
        scope, cycle, seen_s = self._seen
        if patience is None or scope is not self.scope or cycle is not self.cycle or seen_s != limit_s:
            self._seen, self._ticks = (self.scope, self.cycle, limit_s), 0
            return
        self._ticks += 1
        if self._ticks >= limit_s:
            end()

    def _patience(self) -> tuple[int, Callable[[], None]] | None:
        """How long the connection may stay as it is, and how it ends then; None while an answer is in work."""
        if self._answers.ended:
            return LINGER_S, self._answers.abort
        if self._in_head() and not self._refused and not self.flow.read_paused:
            return HEAD_TIMEOUT_S, lambda: self._refuse(HeadTooSlow(TOO_SLOW))
        if self.cycle is not None and not self.cycle.response_complete and not self.flow.write_paused:
            return None
        return IDLE_S, self._answers.abort  # not `close`, which would wait for a caller that does not read

    def _in_head(self) -> bool:
        return self.scope is not None and "method" not in self.scope

    def _bound(self, size: int) -> None:
        """Refuse a request that goes on and on. size: of this read, which counts where it is surely the request's."""
        if self._unfinished is not self.scope:
            self._unfinished, self._more = self.scope, 0
            return
        self._more += size
        if self._in_head() and self._more > MAX_HEAD:
            self._refuse(HeadTooLarge(TOO_LARGE))
        elif self._more > MAX_REQUEST:  # the body's own bound was reached long ago, so there is an answer
            self._refused = True
            self.transport.close()

    def _refuse(self, error: ShortlistError) -> None:
        """Answer what came whole before, then this, and close. What else comes is not read."""
        self._refused = True
        self.flow.resume_reading()  # what comes is dropped; unread, it would make the kernel send a reset
        last, waits = self.cycle, self.cycle is not None and not self.cycle.response_complete
        if waits and last.more_body:  # the broken request itself, which gets this for its answer
            if self.pipeline:
                self.pipeline.popleft()
            elif last.response_started:  # and a part of it written
                self.transport.close()
                return
            else:
                last.disconnected, waits = True, False
                last.message_event.set()
        self._answers.lingers = True
        self.cycle = RequestResponseCycle(
            {"type": "http", "method": "", "headers": [], "refused": error},  # type: ignore[typeddict-item, typeddict-unknown-key]
            self._answers,
            self.flow,
            self.logger,
            self.access_logger,
            False,
            self.server_state.default_headers,
            asyncio.Event(),
            False,
            False,
            self.on_response_complete,
        )
        self.cycle.more_body = False
        if waits:
            self.pipeline.appendleft((self.cycle, self.app))
        else:
            self._start_asgi_task(self.cycle, self.app)
