"""The batcher: what goes together, and whose trouble is whose."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from app.batcher import Batcher


@asynccontextmanager
async def batching(compute: Callable[[list[int]], list[int]], max_batch: int = 16) -> AsyncIterator[Batcher[int, int]]:
    batcher = Batcher(compute, max_batch)
    try:
        yield batcher
    finally:
        batcher.close()


async def test_calls_that_queue_while_the_thread_is_busy_go_together_at_most_max_batch() -> None:
    batches: list[list[int]] = []
    started, go = threading.Event(), threading.Event()

    def compute(calls: list[int]) -> list[int]:
        batches.append(calls)
        started.set()
        assert go.wait(10)
        return [10 * call for call in calls]

    async with batching(compute, max_batch=4) as batcher:
        first = batcher.submit(0)
        await asyncio.to_thread(started.wait, 10)
        rest = [batcher.submit(call) for call in range(1, 7)]
        go.set()
        assert await asyncio.gather(first, *rest) == [0, 10, 20, 30, 40, 50, 60]
    assert batches == [[0], [1, 2, 3, 4], [5, 6]]


async def test_calls_of_one_tick_share_the_first_batch() -> None:
    batches: list[list[int]] = []

    def compute(calls: list[int]) -> list[int]:
        batches.append(calls)
        return calls

    async with batching(compute) as batcher:
        await asyncio.gather(batcher.submit(1), batcher.submit(2))
        await batcher.submit(3)
    assert batches == [[1, 2], [3]]


async def test_one_call_that_fails_does_not_spoil_the_batch() -> None:
    def compute(calls: list[int]) -> list[int]:
        if 2 in calls:
            raise ArithmeticError("two")
        return calls

    async with batching(compute) as batcher:
        results = await asyncio.gather(*(batcher.submit(n) for n in (1, 2, 3)), return_exceptions=True)
        assert results[0] == 1
        assert isinstance(results[1], ArithmeticError)
        assert results[2] == 3
        assert await batcher.submit(4) == 4


async def test_a_cancelled_call_leaves_the_queue_and_the_others_get_their_own_answers() -> None:
    batches: list[list[int]] = []
    started, go = threading.Event(), threading.Event()

    def compute(calls: list[int]) -> list[int]:
        batches.append(calls)
        started.set()
        assert go.wait(10)
        return calls

    async with batching(compute) as batcher:
        working = batcher.submit(1)
        await asyncio.to_thread(started.wait, 10)
        waiting, other = batcher.submit(2), batcher.submit(3)
        working.cancel()
        waiting.cancel()
        go.set()
        assert await other == 3
    assert batches == [[1], [3]]
    with pytest.raises(asyncio.CancelledError):
        await working
