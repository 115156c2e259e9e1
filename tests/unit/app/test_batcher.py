"""The batcher: what goes together, and whose trouble is whose."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from app.batcher import Batcher


@asynccontextmanager
async def batching(
    compute: Callable[[list[int]], list[int]], max_batch: int = 16, patience_s: float = 10.0
) -> AsyncIterator[Batcher[int, int]]:
    batcher = Batcher(compute, max_batch, patience_s)
    try:
        yield batcher
    finally:
        batcher.close()


class Work:
    """Answers each call with `factor` times itself and remembers the batches.  held: none of them ends before `go`."""

    def __init__(self, *, held: bool = False, factor: int = 1) -> None:
        self._factor = factor
        self.batches: list[list[int]] = []
        self.started, self.go = threading.Event(), threading.Event()
        if not held:
            self.go.set()

    def __call__(self, calls: list[int]) -> list[int]:
        self.batches.append(calls)
        self.started.set()
        assert self.go.wait(10)
        return [self._factor * call for call in calls]


async def test_calls_that_queue_while_the_thread_is_busy_go_together_at_most_max_batch() -> None:
    compute = Work(held=True, factor=10)
    async with batching(compute, max_batch=4) as batcher:
        first = batcher.submit(0)
        await asyncio.to_thread(compute.started.wait, 10)
        rest = [batcher.submit(call) for call in range(1, 7)]
        compute.go.set()
        assert await asyncio.gather(first, *rest) == [0, 10, 20, 30, 40, 50, 60]
    assert compute.batches == [[0], [1, 2, 3, 4], [5, 6]]


async def test_calls_of_one_tick_share_the_first_batch() -> None:
    compute = Work()
    async with batching(compute) as batcher:
        await asyncio.gather(batcher.submit(1), batcher.submit(2))
        await batcher.submit(3)
    assert compute.batches == [[1, 2], [3]]


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
    compute = Work(held=True)
    async with batching(compute) as batcher:
        working = batcher.submit(1)
        await asyncio.to_thread(compute.started.wait, 10)
        waiting, other = batcher.submit(2), batcher.submit(3)
        working.cancel()
        waiting.cancel()
        compute.go.set()
        assert await other == 3
    assert compute.batches == [[1], [3]]
    with pytest.raises(asyncio.CancelledError):
        await working


async def on_its_way(batcher: Batcher[int, int], call: int, ready: asyncio.Event) -> int:
    """A call that is expected until it is ready."""
    with batcher.expecting():
        await ready.wait()
    return await batcher.submit(call)


async def ticks(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_batch_takes_along_the_calls_that_are_on_their_way() -> None:
    compute = Work()
    async with batching(compute) as batcher:
        second, third = asyncio.Event(), asyncio.Event()
        coming = [asyncio.create_task(on_its_way(batcher, n, ready)) for n, ready in ((2, second), (3, third))]
        first = batcher.submit(1)
        await ticks()
        second.set()
        await ticks()
        assert not compute.batches
        third.set()
        assert await asyncio.gather(first, *coming) == [1, 2, 3]
    assert compute.batches == [[1, 2, 3]]


async def test_a_batch_does_not_wait_for_calls_announced_after_it_could_begin() -> None:
    async with batching(lambda calls: calls) as batcher:
        soon, never = asyncio.Event(), asyncio.Event()
        second = asyncio.create_task(on_its_way(batcher, 2, soon))
        await ticks()
        first = batcher.submit(1)
        await ticks()
        late = asyncio.create_task(on_its_way(batcher, 3, never))
        await ticks()
        soon.set()
        assert await asyncio.wait_for(asyncio.gather(first, second), 10) == [1, 2]
        late.cancel()


async def test_a_batch_does_not_wait_for_calls_that_give_up() -> None:
    async with batching(lambda calls: calls) as batcher:
        coming = asyncio.create_task(on_its_way(batcher, 2, asyncio.Event()))
        await ticks()
        first = batcher.submit(1)
        await ticks()
        assert not first.done()
        coming.cancel()
        assert await asyncio.wait_for(first, 10) == 1


async def test_a_full_batch_waits_for_nobody() -> None:
    async with batching(lambda calls: calls, max_batch=2) as batcher:
        coming = asyncio.create_task(on_its_way(batcher, 3, asyncio.Event()))
        await ticks()
        full = asyncio.gather(batcher.submit(1), batcher.submit(2))
        assert await asyncio.wait_for(full, 10) == [1, 2]
        coming.cancel()


async def test_the_batch_after_a_busy_time_takes_along_who_is_on_the_way_by_then() -> None:
    compute = Work(held=True)
    async with batching(compute) as batcher:
        ready = asyncio.Event()
        first = batcher.submit(1)
        await asyncio.to_thread(compute.started.wait, 10)
        waiting, coming = batcher.submit(2), asyncio.create_task(on_its_way(batcher, 3, ready))
        await ticks()
        compute.go.set()
        assert await first == 1
        await ticks()
        ready.set()
        assert await asyncio.gather(waiting, coming) == [2, 3]
    assert compute.batches == [[1], [2, 3]]


async def test_after_a_busy_time_that_nobody_waited_through_the_first_call_to_arrive_takes_others_along() -> None:
    compute = Work()
    async with batching(compute) as batcher:
        soon, later = asyncio.Event(), asyncio.Event()
        first = batcher.submit(1)
        second = asyncio.create_task(on_its_way(batcher, 2, soon))
        assert await first == 1
        await ticks()
        third = asyncio.create_task(on_its_way(batcher, 3, later))
        await ticks()
        soon.set()
        await ticks()
        later.set()
        assert await asyncio.gather(second, third) == [2, 3]
    assert compute.batches == [[1], [2, 3]]


async def test_a_batch_goes_without_those_who_do_not_come() -> None:
    """As when one server of a cluster hangs: whoever reads from the others has an answer."""
    compute = Work()
    async with batching(compute, patience_s=0.01) as batcher:
        late = asyncio.Event()
        coming = asyncio.create_task(on_its_way(batcher, 2, late))
        await ticks()
        assert await asyncio.wait_for(batcher.submit(1), 5) == 1
        batcher._patience_s = 10.0  # the second batch does not wait for that call again
        assert await asyncio.wait_for(batcher.submit(3), 5) == 3
        late.set()
        assert await asyncio.wait_for(coming, 5) == 2
    assert compute.batches == [[1], [3], [2]]
