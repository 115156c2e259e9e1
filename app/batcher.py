"""One compute thread. It takes whatever has queued while it was busy, and whoever is on the way by then: load makes the
batches, and a timer only bounds the wait for those who do not come."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from queue import SimpleQueue
from typing import Generic, TypeVar

Call = TypeVar("Call")
Answer = TypeVar("Answer")
Entry = tuple[Call, asyncio.Future[Answer]]
PATIENCE_S = 0.005  # a read of the feature store takes a tenth of it


class Expected:
    """A call that is on its way, for as long as the block lasts."""

    __slots__ = ("_arrived",)

    def __init__(self, arrived: Callable[["Expected"], None]) -> None:
        self._arrived = arrived

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._arrived(self)


class Batcher(Generic[Call, Answer]):
    """Runs `compute` on up to `max_batch` calls at a time in a thread of its own; made inside a running event loop.

    compute: one answer per call, in order. If a batch fails, its calls run again one by one, so that one caller's
    trouble stays that caller's.  patience_s: the longest that a batch waits for calls on their way.
    """

    def __init__(
        self, compute: Callable[[list[Call]], Sequence[Answer]], max_batch: int, patience_s: float = PATIENCE_S
    ) -> None:
        self._compute = compute
        self._max_batch = max_batch
        self._patience_s = patience_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Entry[Call, Answer]] = deque()
        self._busy = False
        self._expected: set[Expected] = set()  # calls on their way here
        self._missing: set[Expected] = set()  # of them, whom the next batch still waits for, until this timer ends
        self._timer: asyncio.TimerHandle | None = None
        self._batches: SimpleQueue[list[Entry[Call, Answer]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="compute", daemon=True)
        self._thread.start()

    def expecting(self) -> "Expected":
        """`with batcher.expecting():` around the one wait that a call still has before it is submitted.

        Every batch costs some, and a call that just missed one waits for all of it. So a batch that could begin waits
        for the calls that were expected by then, though not for those that are announced later, not for long, and for
        each of them once.
        """
        expected = Expected(self._arrived)
        self._expected.add(expected)
        return expected

    def _arrived(self, expected: "Expected") -> None:
        self._expected.discard(expected)
        if expected in self._missing:
            self._missing.discard(expected)
            if not self._missing and self._timer is not None:
                self._timer.cancel()
                self._loop.call_soon(self._next)  # after this tick, in which the call is submitted

    def submit(self, call: Call) -> asyncio.Future[Answer]:
        """The future answer. Cancelling it takes the call out of the queue, or drops its answer."""
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting.append((call, future))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._gather)  # after this tick, so that calls which arrived together go together
        return future

    def close(self) -> None:
        """Let the thread end after the batch it is working on."""
        self._batches.put(None)
        self._thread.join()

    def _gather(self) -> None:
        """The thread is free: wait for the calls on their way, as far as there is room for them."""
        room = max(0, self._max_batch - len(self._waiting))
        self._missing = set(islice(self._expected, room)) if self._waiting else set()
        if self._missing:
            self._timer = self._loop.call_later(self._patience_s, self._next)
        else:
            self._next()

    def _next(self) -> None:
        self._expected -= self._missing  # whoever did not come in time is not waited for again
        self._missing = set()
        batch: list[Entry[Call, Answer]] = []
        while self._waiting and len(batch) < self._max_batch:
            entry = self._waiting.popleft()
            if not entry[1].done():
                batch.append(entry)
        self._busy = bool(batch)
        if batch:
            self._batches.put(batch)

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            outcomes = self._outcomes([call for call, _ in batch])
            try:
                self._loop.call_soon_threadsafe(self._deliver, batch, outcomes)
            except RuntimeError:  # the loop was closed while this batch was computed: nobody waits any more
                return

    def _outcomes(self, calls: list[Call]) -> Sequence[Answer | Exception]:
        try:
            return self._compute(calls)
        except Exception as error:  # noqa: BLE001  whatever it is, it belongs to a caller and must not end the thread
            if len(calls) == 1:
                return [error]
        return [outcome for call in calls for outcome in self._outcomes([call])]

    def _deliver(self, batch: list[Entry[Call, Answer]], outcomes: Sequence[Answer | Exception]) -> None:
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        self._gather()
