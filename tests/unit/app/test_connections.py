"""What a connection gives to whom, byte by byte: real sockets to the real service in this process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
import uvicorn
from uvicorn.server import ServerState

from app.http import Http
from app.limits import HEAD_TIMEOUT_S, IDLE_S, LINGER_S, MAX_HEAD, MAX_REQUEST
from app.main import create_app
from app.protocol import Protocol
from app.settings import Settings
from tests.service_process import eventually

LIVEZ = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
UPGRADE = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"


def recommend(k: int, head: bytes = b"", version: bytes = b"1.1") -> bytes:
    body = b'{"k": %d}' % k
    return b"POST /recommend HTTP/%s\r\ncontent-length: %d\r\n%s\r\n%s" % (version, len(body), head, body)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def told(self) -> tuple[int, object]:
        """The status, and how many items or which error."""
        error = self.body.get("error")
        return self.status, error["code"] if error else len(self.body.get("items", ()))


@dataclass(frozen=True)
class Edge:
    """The service behind a port. connections: those that are open at this side."""

    port: int
    connections: set[Any]

    async def call(self) -> "Caller":
        return Caller(*await asyncio.open_connection("127.0.0.1", self.port))

    async def ask(self, *parts: bytes, answers: int = 1) -> list[Answer]:
        """Send these one after the other and read so many answers, on a connection of their own."""
        caller = await self.call()
        with closing(caller.writer):
            for part in parts:
                caller.writer.write(part)
                await self.turns()
            found = [await caller.answer() for _ in range(answers)]
            if found[-1].headers.get("connection") == "close":
                assert await caller.reader.read() == b""
            return found

    async def turns(self) -> None:
        """A few turns of the loop, in which what was written is read."""
        for _ in range(5):
            await asyncio.sleep(0)

    def seconds(self, count: int) -> None:
        """What the worker does once a second."""
        for _ in range(count):
            for connection in list(self.connections):
                connection.tick()

    async def has(self, condition: Callable[[Protocol], bool]) -> None:
        """Wait until this is so of the one connection."""

        async def holds() -> bool:
            return len(self.connections) == 1 and condition(next(iter(self.connections)))

        await eventually(holds, "the connection was so")

    async def gone(self) -> None:
        """Wait until the service has let go of the connection."""

        async def none() -> bool:
            return not self.connections

        await eventually(none, "the connection was gone")


@dataclass(frozen=True)
class Caller:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> Answer:
        async with asyncio.timeout(30):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            headers = dict(line.split(": ", 1) for line in lines[1:])
            body = await self.reader.readexactly(int(headers["content-length"]))
        return Answer(int(lines[0].split()[1]), headers, orjson.loads(body))


@pytest.fixture
async def edge(settings: Settings) -> AsyncIterator[Edge]:
    app: Http = create_app(settings.model_copy(update={"max_concurrency": 1}))
    config = uvicorn.Config(app, http=Protocol, ws="none", lifespan="off", access_log=False, log_config=None)
    config.load()
    state = ServerState()
    async with app.service.running():
        server = await asyncio.get_running_loop().create_server(lambda: Protocol(config, state, {}), "127.0.0.1", 0)
        async with server:
            yield Edge(server.sockets[0].getsockname()[1], state.connections)
            for connection in list(state.connections):
                connection.transport.abort()
            await asyncio.gather(*state.tasks)


def single(data: bytes) -> Sequence[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


async def test_an_offer_to_upgrade_is_passed_over(edge: Edge) -> None:
    """With its body, whole or in pieces, before and behind other requests, whatever is offered."""
    for head in (UPGRADE, b"connection: Upgrade\r\nupgrade: websocket\r\n"):
        offer = recommend(3, head)
        assert [a.told for a in await edge.ask(offer)] == [(200, 3)]
        assert [a.told for a in await edge.ask(*single(offer))] == [(200, 3)]
        several = recommend(1) + offer + recommend(2) + offer + recommend(4)
        assert [a.told for a in await edge.ask(several, answers=5)] == [(200, k) for k in (1, 3, 2, 3, 4)]
    chunked = (
        b"POST /recommend HTTP/1.1\r\ntransfer-encoding: chunked\r\n"
        + UPGRADE
        + b'\r\n6\r\n{"k":3\r\n1\r\n}\r\n0\r\n\r\n'
    )
    assert [a.told for a in await edge.ask(chunked)] == [(200, 3)]
    [answer] = await edge.ask(recommend(3, UPGRADE, b"1.0"))
    assert (answer.told, answer.headers["connection"]) == ((200, 3), "close")


async def test_what_follows_an_offer_to_upgrade_is_refused_by_its_name(edge: Edge) -> None:
    found = await edge.ask(recommend(3, UPGRADE) + of_size(MAX_HEAD + 1), answers=2)
    assert [a.told for a in found] == [(200, 3), (431, "head_too_large")]
    assert [a.told for a in await edge.ask(b"GET /livez HTTP/1.1\r\n" + UPGRADE + b"\r\n")] == [(200, 0)]


async def test_the_answer_to_head_has_no_body(edge: Edge) -> None:
    caller = await edge.call()
    caller.writer.write(LIVEZ.replace(b"GET", b"HEAD") + b"GARBAGE\r\n\r\n")
    head, rest = (await caller.reader.read()).split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: 15\r\n" in head
    assert rest.startswith(b"HTTP/1.1 400 ")
    caller.writer.close()


async def test_what_cannot_be_read_is_refused_as_all_errors_are(edge: Edge) -> None:
    for sent in (
        b"\x16\x03\x01\x02\x00\x01\x00\r\n",
        b"GARBAGE\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /recommend HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\n",
        b"POST /recommend HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ):
        [answer] = await edge.ask(sent)
        assert answer.told == (400, "malformed_request")
        assert sorted(answer.body["error"]) == ["code", "details", "message", "request_id"]
        assert answer.body["error"]["request_id"] == answer.headers["x-request-id"]
        assert (answer.headers["content-type"], answer.headers["connection"]) == ("application/json", "close")


async def test_a_refused_caller_that_still_sends_is_read_and_not_reset(edge: Edge) -> None:
    """Its body had made the service stop reading."""
    caller = await edge.call()
    chunk = b"11170\r\n" + b" " * 70_000 + b"\r\n"
    caller.writer.write(b"POST /recommend HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + chunk + b"zz\r\n")
    await edge.has(lambda connection: connection._refused)
    for _ in range(40):
        caller.writer.write(b"a" * 65_536)
        await edge.turns()
    caller.writer.write_eof()
    assert (await caller.answer()).told == (400, "malformed_request")
    assert await caller.reader.read() == b""
    caller.writer.close()
    await edge.gone()


async def test_what_came_whole_before_is_answered_first(edge: Edge) -> None:
    broken = b"POST /recommend HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n"
    for last in (b"GARBAGE\r\n\r\n", broken):
        found = await edge.ask(recommend(1) + recommend(2) + LIVEZ + last + recommend(3), answers=4)
        assert [a.told for a in found] == [(200, 1), (200, 2), (200, 0), (400, "malformed_request")]
    begun, rest = broken[:-4], broken[-4:]
    assert [a.told for a in await edge.ask(recommend(1) + begun, rest, answers=2)] == [
        (200, 1),
        (400, "malformed_request"),
    ]
    assert [a.told for a in await edge.ask(begun, rest, recommend(3))] == [(400, "malformed_request")]


async def test_a_caller_that_has_sent_all_and_closes_its_side_has_its_answers(edge: Edge) -> None:
    """And the refusal of what it sent last; half a body is no request."""
    broken = b"POST /recommend HTTP/1.1\r\ncontent-length: 9\r\n\r\n{}"
    for last, told in ((b"", []), (LIVEZ[:9], []), (b"GARBAGE\r\n", [(400, "malformed_request")]), (broken, None)):
        caller = await edge.call()
        caller.writer.write(recommend(1) + recommend(2) + last)
        caller.writer.write_eof()
        for expected in [] if told is None else [(200, 1), (200, 2), *told]:
            assert (await caller.answer()).told == expected
        rest = await caller.reader.read()
        assert rest == b"" or told is None
        caller.writer.close()
        await edge.gone()


def of_size(size: int) -> bytes:
    head = b"GET /livez HTTP/1.1\r\nx: \r\n\r\n"
    return head.replace(b"x: ", b"x: " + b"a" * (size - len(head)))


def many_headers(size: int) -> bytes:
    head = b"GET /livez HTTP/1.1\r\n"
    lines = (size - len(head) - 2) // 7 - 1
    return head + b"x: aa\r\n" * lines + b"y: " + b"b" * (size - len(head) - 7 * lines - 7) + b"\r\n\r\n"


@pytest.mark.parametrize("made", [of_size, many_headers])
async def test_a_head_is_bounded_to_the_byte_however_it_comes(edge: Edge, made: Any) -> None:
    """And what stands before it on the connection does not count."""
    for size, told in ((MAX_HEAD, (200, 0)), (MAX_HEAD + 1, (431, "head_too_large"))):
        head = made(size)
        assert len(head) == size
        for parts in ([head], [head[:9], head[9:]], [head[:40_000], head[40_000:]], [head[:-1], head[-1:]]):
            [answer] = await edge.ask(*parts)
            assert answer.told == told
            assert answer.headers.get("connection") == (None if told[0] == 200 else "close")
        before = LIVEZ * 1_000
        for parts in ([before + head[:9], head[9:]], [before + head[:9], head[9:-1], head[-1:]]):
            found = await edge.ask(*parts, answers=1_001)
            assert [a.told for a in found] == [(200, 0)] * 1_000 + [told]


async def test_a_head_without_end_is_refused_while_it_comes(edge: Edge) -> None:
    """The caller goes on sending and reads the refusal all the same; it is not waited for longer than that takes."""
    caller = await edge.call()
    caller.writer.write(b"GET /livez HTTP/1.1\r\nx: ")
    for _ in range(64):
        caller.writer.write(b"a" * 65_536)
        await edge.turns()
    assert (await caller.answer()).told == (431, "head_too_large")
    caller.writer.write(b"a" * 65_536)
    await edge.has(lambda connection: connection.transport.is_closing())
    edge.seconds(LINGER_S)
    assert edge.connections
    edge.seconds(1)
    await edge.gone()
    caller.writer.close()


async def test_what_follows_a_body_without_end_is_not_read_for_ever(edge: Edge) -> None:
    """Trailers, of which nobody has use, as many as anybody sends."""
    caller = await edge.call()
    caller.writer.write(b"GET /livez HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")
    assert (await caller.answer()).told == (200, 0)
    piece = b"x: " + b"a" * 65_531 + b"\r\n"
    with pytest.raises(ConnectionError):  # noqa: PT012  whichever piece is the first that nobody takes
        for _ in range(4 * MAX_REQUEST // len(piece)):
            caller.writer.write(piece)
            await caller.writer.drain()
    await edge.gone()
    caller.writer.close()


async def test_half_a_head_is_not_waited_for(edge: Edge) -> None:
    """However often a byte of it comes."""
    caller = await edge.call()
    sent = 0
    for _ in range(HEAD_TIMEOUT_S + 1):
        caller.writer.write(LIVEZ[sent : sent + 2])
        sent += 2
        await edge.has(lambda connection: connection.scope is not None)
        await edge.turns()
        edge.seconds(1)
    assert (await caller.answer()).told == (408, "head_too_slow")
    assert await caller.reader.read() == b""
    caller.writer.close()


async def test_half_a_head_is_told_of_after_the_answers_before_it(edge: Edge) -> None:
    caller = await edge.call()
    caller.writer.write(recommend(2) + LIVEZ[:9])
    await edge.has(lambda connection: connection.scope is not None)
    edge.seconds(HEAD_TIMEOUT_S + 1)
    assert [(await caller.answer()).told for _ in range(2)] == [(200, 2), (408, "head_too_slow")]
    assert await caller.reader.read() == b""
    caller.writer.close()


@pytest.mark.parametrize("before", [b"", LIVEZ, b"\r\n\r\n"])
async def test_a_connection_that_nobody_uses_is_closed_without_a_word(edge: Edge, before: bytes) -> None:
    caller = await edge.call()
    caller.writer.write(before)
    if before == LIVEZ:
        assert (await caller.answer()).status == 200
    await edge.has(lambda _: True)
    edge.seconds(IDLE_S)
    await edge.turns()
    assert edge.connections
    caller.writer.write(b"\r\n")  # which is no use of it
    await edge.turns()
    edge.seconds(1)
    assert await caller.reader.read() == b""
    assert not edge.connections
    caller.writer.close()


async def test_a_connection_in_use_is_left_alone(edge: Edge) -> None:
    """Each request begins the wait anew, each head has its own, and while an answer is in work there is none."""
    caller = await edge.call()
    for _ in range(3):
        caller.writer.write(recommend(1))
        assert (await caller.answer()).told == (200, 1)
        edge.seconds(IDLE_S - 1)
    caller.writer.write(LIVEZ[:9])
    await edge.has(lambda connection: connection.scope is not None)
    edge.seconds(HEAD_TIMEOUT_S)
    caller.writer.write(LIVEZ[9:])
    assert (await caller.answer()).told == (200, 0)
    caller.writer.write(recommend(2)[:-1])
    await edge.has(lambda connection: connection.scope is not None and "method" in connection.scope)
    edge.seconds(2 * IDLE_S)
    caller.writer.write(recommend(2)[-1:])
    assert (await caller.answer()).told == (200, 2)
    caller.writer.close()


@pytest.mark.parametrize("request_", [recommend(500), b"GET /recommend?k=500 HTTP/1.1\r\n\r\n"])
async def test_a_caller_that_does_not_read_its_answers_is_not_waited_for(edge: Edge, request_: bytes) -> None:
    """Nor does it hold a place in the gate meanwhile, of which there is one."""
    caller = await edge.call()
    caller.writer.write(request_ * 2_000)
    await edge.has(lambda connection: connection.flow.write_paused)

    async def another_is_served() -> bool:
        return (await edge.ask(recommend(2, b"connection: close\r\n")))[0].status == 200

    await eventually(another_is_served, "the place was given back")
    edge.seconds(IDLE_S + 1)
    await edge.gone()
    caller.writer.close()
