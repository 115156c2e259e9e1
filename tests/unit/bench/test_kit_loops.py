"""The closed and the open loop, against a server in the test that answers as it is told to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from bench.kit.closed_loop import run_closed
from bench.kit.open_loop import poisson_arrivals, run_open
from bench.kit.plan import LoadPlan

REQUESTS = [b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n%d" % number for number in range(3)]


def http(status: int, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n%s\r\n{}" % (status, more)


class Server(asyncio.Protocol):
    """answer: to the n-th request from 0 on, whichever connection it came by.  received: bodies, of one byte."""

    def __init__(self, answer: Callable[[int], bytes], hold: asyncio.Event, received: list[bytes]) -> None:
        self.answer, self.hold, self.received = answer, hold, received

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received.append(data[-1:])
        self.task = asyncio.ensure_future(self.reply(self.answer(len(self.received) - 1)))

    async def reply(self, text: bytes) -> None:
        await self.hold.wait()
        self.transport.write(text)
        if b"close" in text:
            self.transport.close()


@asynccontextmanager
async def server(answer: Callable[[int], bytes], hold_s: float = 0.0) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Port, and the bodies received. Nothing is answered before hold_s have passed."""
    hold, received, loop = asyncio.Event(), list[bytes](), asyncio.get_running_loop()
    loop.call_later(hold_s, hold.set)
    running = await loop.create_server(lambda: Server(answer, hold, received), "127.0.0.1", 0)
    async with running:
        yield running.sockets[0].getsockname()[1], received


def plan(port: int, **more: float) -> LoadPlan:
    settings = {"connections": 2, "seconds": 0.2, "warmup_s": 0.0, **more}
    return LoadPlan(port=port, bodies=Path("unused"), **settings)  # type: ignore[arg-type]


async def test_the_closed_loop_sends_the_requests_in_turn() -> None:
    async with server(lambda n: http(200)) as (port, received):
        found = await run_closed(plan(port), REQUESTS)
    assert received[:7] == [b"0", b"1", b"2", b"0", b"1", b"2", b"0"]
    assert 0 <= len(received) - found.requests <= 4  # of each connection perhaps the first and the last
    assert found.errors == 0
    assert found.rps == pytest.approx(found.requests / found.seconds)


async def test_answers_other_than_200_are_errors_and_a_closed_connection_is_made_anew() -> None:
    """Of each three, one is busy and closes, one is not."""
    answers = [http(200), http(503, b"connection: close\r\n"), http(422)]
    async with server(lambda n: answers[n % 3]) as (port, _):
        found = await run_closed(plan(port), REQUESTS)
    assert found.requests > 0
    assert found.errors == pytest.approx(2 * found.requests, abs=4)


async def test_the_closed_loop_ends_when_the_service_is_gone() -> None:
    async with server(lambda n: http(200)) as (port, _):
        pass
    with pytest.raises(OSError, match=str(port)):
        await run_closed(plan(port), REQUESTS)


def test_arrivals_are_seeded_and_as_many_as_the_rate_says() -> None:
    """A Poisson count of mean 20,000 has a deviation of 141; exponential gaps deviate by as much as their mean."""
    times = poisson_arrivals(rate=2_000, seconds=10, seed=7)
    assert np.array_equal(times, poisson_arrivals(rate=2_000, seconds=10, seed=7))
    assert not np.array_equal(times[:9], poisson_arrivals(rate=2_000, seconds=10, seed=8)[:9])
    assert len(times) == pytest.approx(20_000, abs=5 * 141)
    gaps = np.diff(times)
    assert gaps.min() >= 0
    assert times[-1] < 10e9
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


async def test_the_open_loop_sends_what_falls_due_and_no_more() -> None:
    async with server(lambda n: http(200)) as (port, received):
        found = await run_open(plan(port, rate=300.0, warmup_s=0.1), REQUESTS)
    due = poisson_arrivals(300.0, 0.1 + 0.2, 0)
    inside = int((due >= 0.1 * 1e9).sum())
    assert len(received) == len(due)
    assert (found.requests, found.errors, found.dropped) == (inside, 0, 0)
    assert found.offered_rps == pytest.approx(inside / 0.2)


async def test_latency_counts_from_the_moment_a_request_fell_due() -> None:
    """One connection, and nothing is answered for 0.3 s: whoever fell due meanwhile has waited since then."""
    async with server(lambda n: http(200), hold_s=0.3) as (port, _):
        found = await run_open(plan(port, rate=100.0, connections=1), REQUESTS)
    due_s = poisson_arrivals(100.0, 0.2, 0) / 1e9
    assert found.requests == len(due_s) > 5
    assert found.p50_us > (0.25 - np.median(due_s)) * 1e6
    assert found.rps == 0  # no answer came within the window
    assert found.max_us > (0.25 - due_s[0]) * 1e6


async def test_past_the_queues_limit_requests_are_dropped_and_counted() -> None:
    """One is at the service, three wait, and the rest is dropped."""
    async with server(lambda n: http(200), hold_s=0.3) as (port, received):
        found = await run_open(plan(port, rate=100.0, connections=1, queue_limit=3), REQUESTS)
    num_due = len(poisson_arrivals(100.0, 0.2, 0))
    assert len(received) == found.requests == 4
    assert found.dropped == num_due - 4
