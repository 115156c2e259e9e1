"""GETs on one connection, sent together after a turn of the loop and answered in turn: redis-py's cost for a call is
several times that of the exchange itself. Only what serving reads in every request goes this way; all else is
redis-py's.

docs/decisions/22-redis-reads.md has the figures.
"""

import asyncio
from collections import deque
from typing import Any, NamedTuple, Self

import hiredis
from redis.asyncio.connection import UnixDomainSocketConnection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

MAX_REPLY = 16 << 20  # bytes; a state with the largest limits of a schema takes under 2 MB
LAST_READ_S = 0.001  # any time at all: before a timer that is set now is due, the loop reads its sockets
UNDERSTOOD = frozenset({"host", "port", "path", "db", "username", "password", "connection_class"})

Value = bytes | None


class Address(NamedTuple):
    """Where the server is and how to be let in.  path: of a unix socket, else None."""

    host: str
    port: int
    path: str | None
    greeting: tuple[tuple[str, ...], ...]

    @classmethod
    def parse(cls, url: str) -> Self | None:
        """None for a URL that asks for more than this protocol does: TLS, or options of redis-py."""
        options: Any = parse_url(url)
        kind = options.get("connection_class")
        if not options.keys() <= UNDERSTOOD or kind not in (None, UnixDomainSocketConnection):
            return None
        user, password, database = options.get("username"), options.get("password"), options.get("db") or 0
        greeting = []
        if user or password:
            greeting.append(("AUTH", user, password or "") if user else ("AUTH", password))
        if database:
            greeting.append(("SELECT", str(database)))
        return cls(options.get("host", "localhost"), options.get("port", 6379), options.get("path"), tuple(greeting))


class Pipeline:
    """Reads strings by key; connects at the first call and again after a failure. Used by one event loop.

    timeout_s bounds connecting, and the wait for each reply from when its command was sent. Past that the connection
    is closed, so that a late reply can reach nobody; whoever waits on it fails as well, since replies come in turn.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._loop = asyncio.get_running_loop()
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: list[tuple[str, asyncio.Future[Value]]] = []  # for the connection

    def get(self, key: str) -> asyncio.Future[Value]:
        """The key's bytes, None where there is no such key. Fails with a RedisError, OSError or TimeoutError."""
        future: asyncio.Future[Value] = self._loop.create_future()
        if self._connection is not None and self._connection.is_open:
            self._connection.ask(("GET", key), future)
        else:
            self._waiting.append((key, future))
            if self._connecting is None:
                self._connecting = self._loop.create_task(self._connect())
        return future

    async def aclose(self) -> None:
        """Whoever still waits is told."""
        closed = RedisConnectionError("the feature store is closed")
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
            self._connecting = None
        self._refuse(closed)
        if self._connection is not None:
            self._connection.fail(closed)

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                self._connection = await self._greeted()
        except Exception as error:  # noqa: BLE001  whatever it is, it is the callers' to judge
            self._refuse(error)
        else:
            for key, future in self._waiting:
                self._connection.ask(("GET", key), future)
            self._waiting.clear()
        finally:
            self._connecting = None

    async def _greeted(self) -> "_Connection":
        host, port, path, greeting = self._address
        made = _Connection(self._loop, self._timeout_s)
        if path is not None:
            await self._loop.create_unix_connection(lambda: made, path)
        else:
            await self._loop.create_connection(lambda: made, host, port)
        try:
            for command in greeting:
                future: asyncio.Future[Value] = self._loop.create_future()
                made.ask(command, future)
                await future
        except BaseException as error:
            made.fail(RedisConnectionError("Redis did not let this service in"))
            raise error
        return made

    def _refuse(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(error)


class _Connection(asyncio.Protocol):
    """The futures of the replies that are still to come, in the order of their commands; a cancelled one keeps its
    place until its reply came."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        self._loop, self._timeout_s = loop, timeout_s
        self._reader = hiredis.Reader(replyError=ResponseError)
        self._replies: deque[tuple[asyncio.Future[Value], float]] = deque()
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._unsent: list[tuple[bytes, asyncio.Future[Value]]] = []
        self._unread = 0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, command: tuple[str, ...], future: asyncio.Future[Value]) -> None:
        if not self._unsent:
            self._loop.call_soon(self._send)
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # the stub means any tuple
        self._unsent.append((packed, future))

    def fail(self, error: Exception) -> None:
        """Close, and tell everyone who still waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        waiting = [*(future for future, _ in self._replies), *(future for _, future in self._unsent)]
        self._replies.clear()
        self._unsent.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(RedisConnectionError("Redis closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._unread = 0
                future, _ = self._replies.popleft()
                if future.done():
                    continue
                if isinstance(reply, Exception):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except (hiredis.ProtocolError, IndexError):  # not Redis, or a reply that nothing asked for
            self.fail(RedisConnectionError("what came is not an answer of Redis"))
        if self._unread > MAX_REPLY:
            self.fail(RedisConnectionError(f"a reply is larger than {MAX_REPLY >> 20} MiB"))

    def _send(self) -> None:
        """One write for all commands of a turn of the loop: a write costs several times what its command does. The time
        for their replies begins here; a turn may last longer than that."""
        if not self._unsent or not self.is_open:  # it failed meanwhile: they were told, or will be as it is lost
            return
        until = self._loop.time() + self._timeout_s
        self._replies.extend((future, until) for _, future in self._unsent)
        if self._timer is None:
            self._timer = self._loop.call_at(until, self._check)
        self._transport.write(b"".join(packed for packed, _ in self._unsent))
        self._unsent.clear()

    def _check(self, missed: asyncio.Future[Value] | None = None) -> None:
        """Runs when the oldest reply is due, or was: one timer for all of them.

        missed: the reply that was overdue already. After a turn that took long (a busy core), uvloop runs timers before
        it reads sockets, and the reply may lie there: it is late only if it was still not there after they were read.
        """
        self._timer = None
        if not self._replies:
            return
        future, until = self._replies[0]
        if until > self._loop.time():
            self._timer = self._loop.call_at(until, self._check)
        elif future is not missed:
            self._timer = self._loop.call_later(LAST_READ_S, self._check, future)
        else:
            self.fail(TimeoutError("Redis took too long"))
