"""Reads on one connection: by a real server where it can show the situation, by a few odd ones where it cannot."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from app.feature_store.embedded import EmbeddedRedis
from app.feature_store.pipeline import MAX_REPLY, Address, Pipeline

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def address(url: str) -> Address:
    found = Address.parse(url)
    assert found is not None
    return found


@asynccontextmanager
async def odd_server(folder: Path, serve: Serve, timeout_s: float = 5.0) -> AsyncIterator[Pipeline]:
    """A pipeline to a server that does as it likes with each connection."""
    handlers: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer)
        await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.create_task(handle(reader, writer)))

    server = await asyncio.start_unix_server(accept, folder / "s")
    pipeline = Pipeline(address(f"unix://{folder}/s"), timeout_s)
    yield pipeline
    await pipeline.aclose()
    server.close()
    await asyncio.gather(*handlers, return_exceptions=True)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", Address("h", 6379, None, ())),
        ("redis://h:7/3", Address("h", 7, None, (("SELECT", "3"),))),
        ("redis://u:p%40@h/0", Address("h", 6379, None, (("AUTH", "u", "p@"),))),
        ("redis://:p@h?db=4", Address("h", 6379, None, (("AUTH", "p"), ("SELECT", "4")))),
        ("unix:///a%20b/s?db=0", Address("localhost", 6379, "/a b/s", ())),
        ("rediss://h", None),
        ("redis://h?socket_timeout=1", None),
    ],
)
def test_what_an_address_says_and_which_are_left_to_redis_py(url: str, expected: Address | None) -> None:
    assert Address.parse(url) == expected


async def test_each_caller_gets_the_value_of_its_key(redis_url: str, key_prefix: str) -> None:
    """A thousand at once, some missing, one large, every third caller gone before its reply."""
    values = {f"{key_prefix}:{n}": (b"%d" % n) * (200_000 if n == 500 else 1) for n in range(0, 1000, 2)}
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        client.mset(values)
        pipeline = Pipeline(address(redis_url), 10.0)
        for _ in range(2):
            asked = {f"{key_prefix}:{n}": pipeline.get(f"{key_prefix}:{n}") for n in range(1000)}
            for future in list(asked.values())[::3]:
                future.cancel()
            for key, future in asked.items():
                if not future.cancelled():
                    assert await future == values.get(key)
        client.delete(*values)
    await pipeline.aclose()


async def test_a_turn_of_the_loop_that_is_longer_than_the_timeout_fails_no_read(
    redis_url: str, key_prefix: str
) -> None:
    """The reads of a burst of requests are sent as the turn ends; they had no time to be late before."""
    pipeline = Pipeline(address(redis_url), 0.2)
    assert await pipeline.get(f"{key_prefix}:none") is None
    asked = [pipeline.get(f"{key_prefix}:{n}") for n in range(6)]
    time.sleep(0.4)  # noqa: ASYNC251  the turn that takes long
    assert await asyncio.gather(*asked) == [None] * 6
    await pipeline.aclose()


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_replies_that_came_while_the_loop_was_busy_are_read_before_anyone_is_failed(
    tmp_path: Path, make_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """A caller's bytes are handled for longer than the timeout, while Redis answers; uvloop's timers run next."""

    async def ask(server: EmbeddedRedis, client: redis.Redis) -> list[bytes | BaseException | None]:
        class Busy(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                os.kill(server.pid, signal.SIGCONT)
                client.ping()
                time.sleep(0.3)

        here, there = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(Busy, sock=here)
        pipeline = Pipeline(address(server.url), 0.2)
        assert await pipeline.get("a") == b"of a"
        os.kill(server.pid, signal.SIGSTOP)
        asked = [pipeline.get("a") for _ in range(3)]
        await asyncio.sleep(0.02)  # they are sent
        there.send(b"x")
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        await pipeline.aclose()
        transport.close()
        there.close()
        return outcomes

    with EmbeddedRedis(tmp_path) as server, redis.Redis.from_url(server.url, protocol=2) as client:
        client.set("a", "of a")
        with asyncio.Runner(loop_factory=make_loop) as runner:
            assert runner.run(ask(server, client)) == [b"of a"] * 3


async def test_an_error_of_redis_is_that_callers_alone(redis_url: str, key_prefix: str) -> None:
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        client.rpush(f"{key_prefix}:list", "x")
    pipeline = Pipeline(address(redis_url), 10.0)
    wrong, missing = pipeline.get(f"{key_prefix}:list"), pipeline.get(f"{key_prefix}:none")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await wrong
    assert await missing is None
    await pipeline.aclose()


async def test_a_password_and_a_database_are_given_before_the_first_read(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server, redis.Redis.from_url(server.url, protocol=2) as client:
        client.select(3)
        client.set("key", "in database 3")
        client.config_set("requirepass", "secret")
        bare = server.url.removesuffix("?db=0")
        for pipeline, outcome in (
            (Pipeline(address(f"{bare}?db=3&password=secret"), 10.0), b"in database 3"),
            (Pipeline(address(f"{bare}?db=0&password=secret"), 10.0), None),
            (Pipeline(address(f"{bare}?db=3&password=other"), 10.0), "WRONGPASS"),
            (Pipeline(address(bare), 10.0), "NOAUTH"),
        ):
            if isinstance(outcome, str):
                with pytest.raises(ResponseError, match=outcome):
                    await pipeline.get("key")
            else:
                assert await pipeline.get("key") == outcome
            await pipeline.aclose()
        client.config_set("requirepass", "")


async def test_an_overdue_reply_ends_the_connection_and_reaches_nobody(tmp_path: Path) -> None:
    """Asked while the server is stopped: all time out together; the next call, on a new connection, is answered."""
    with EmbeddedRedis(tmp_path) as server, redis.Redis.from_url(server.url, protocol=2) as client:
        client.mset({"a": "of a", "b": "of b"})
        pipeline = Pipeline(address(server.url), 0.2)
        assert await pipeline.get("a") == b"of a"
        os.kill(server.pid, signal.SIGSTOP)
        late = await asyncio.gather(*(pipeline.get("a") for _ in range(3)), return_exceptions=True)
        os.kill(server.pid, signal.SIGCONT)
        assert [type(error) for error in late] == [TimeoutError] * 3
        client.ping()
        assert await pipeline.get("b") == b"of b"
        await pipeline.aclose()


async def test_a_connection_that_was_closed_is_made_again(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        pipeline = Pipeline(address(server.url), 10.0)
        assert await pipeline.get("a") is None
        await asyncio.to_thread(server.kill)
        for _ in range(2):
            with pytest.raises((RedisConnectionError, OSError)):
                await pipeline.get("a")
        await asyncio.to_thread(server.start)
        assert await pipeline.get("a") is None
        await pipeline.aclose()


async def test_a_server_that_closes_while_callers_wait_fails_them_all(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"k1\r\n")
        writer.write(b"$2\r\nv0\r\n")
        writer.close()

    async with odd_server(tmp_path, serve) as pipeline:
        outcomes = await asyncio.gather(*(pipeline.get(f"k{n}") for n in range(2)), return_exceptions=True)
        assert outcomes[0] == b"v0"
        assert isinstance(outcomes[1], RedisConnectionError)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not an answer of Redis"),
        (b"$1\r\nx\r\n$1\r\ny\r\n", "not an answer of Redis"),  # one more than was asked for
        (b"$536870912\r\n" + bytes(MAX_REPLY + 1), "larger than 16 MiB"),
    ],
)
async def test_what_is_no_answer_closes_the_connection(tmp_path: Path, sent: bytes, message: str) -> None:
    """The first of two callers may have had its reply; the second is told, at once."""
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"key\r\n")
        writer.write(sent)
        await reader.read()
        closed.set()
        writer.close()

    async with odd_server(tmp_path, serve) as pipeline:
        first = pipeline.get("key")
        if sent.startswith(b"$1"):
            assert await first == b"x"
        else:
            with pytest.raises(RedisConnectionError, match=message):
                await first
        await asyncio.wait_for(closed.wait(), 10)


async def test_closing_leaves_nobody_waiting(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with odd_server(tmp_path, serve) as pipeline:
        connecting = pipeline.get("key")
        await pipeline.aclose()
        with pytest.raises(RedisConnectionError, match="closed"):
            await connecting
        sent = pipeline.get("key")
        await asyncio.sleep(0.05)
        await pipeline.aclose()
        with pytest.raises(RedisConnectionError, match="closed"):
            await sent
