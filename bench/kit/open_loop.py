"""The open loop: requests fall due by a Poisson process whatever the service does, as many users send them.

Latency counts from the moment a request fell due, also where it then waited for a free connection: a client that stops
asking while the service is slow would leave out what it came to measure (coordinated omission).
"""

import time
from collections import deque
from collections.abc import Sequence
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from bench.kit.connection import Connection, Outcome
from bench.kit.plan import LoadPlan
from bench.kit.pool import Pool
from bench.kit.recorder import Recorder
from bench.kit.result import Load
from bench.kit.timer import Timer

LEAD_NS = 10_000_000  # between the decision to start and the first arrival's clock
LAST_ANSWERS_S = 10.0  # how long after the window an answer may come
POLL_S = 0.01


def poisson_arrivals(rate: float, seconds: float, seed: int) -> NDArray[np.int64]:
    """Times in ns from 0 to `seconds`, ascending, with exponential gaps of mean 1 / rate."""
    rng, end_ns = np.random.default_rng(seed), seconds * 1e9
    times = np.empty(0)
    while not times.size or times[-1] < end_ns:
        gaps = rng.exponential(1e9 / rate, int(rate * seconds * 1.1) + 100)
        times = np.concatenate([times, (times[-1] if times.size else 0.0) + np.cumsum(gaps)])
    return times[times < end_ns].astype(np.int64)


async def run_open(plan: LoadPlan, requests: Sequence[bytes]) -> Load:
    """Raises OSError when a connection cannot be made."""
    run = _OpenLoop(plan, requests)
    try:
        await run.pool.start(plan.connections)
        return await run.measure()
    finally:
        run.pool.close()
        run.timer.close()


class _OpenLoop:
    def __init__(self, plan: LoadPlan, requests: Sequence[bytes]) -> None:
        assert plan.rate is not None
        self.pool = Pool(plan.port, self._answered, self._free)
        self.timer = Timer(self._send_due)
        self._plan, self._turns, self._recorder = plan, cycle(requests), Recorder(plan.watch)
        self._arrivals = poisson_arrivals(plan.rate, plan.warmup_s + plan.seconds, plan.seed)
        self._first = int(np.searchsorted(self._arrivals, plan.warmup_s * 1e9))  # of the window
        self._late = np.zeros_like(self._arrivals)
        self._idle: list[Connection] = []
        self._queue: deque[int] = deque()  # due times
        self._due_ns: list[int] = []
        self._window_ns = 0
        self._sent = self._ended = self._dropped = 0

    async def measure(self) -> Load:
        plan, start_ns = self._plan, time.perf_counter_ns() + LEAD_NS
        self._window_ns = start_ns + int(plan.warmup_s * 1e9)
        self._due_ns = (self._arrivals + start_ns).tolist()
        if self._due_ns:
            self.timer.at(self._due_ns[0])
        await self.pool.wait((self._window_ns - time.perf_counter_ns()) / 1e9)
        self._recorder.begin()
        await self.pool.wait(plan.seconds)
        self._recorder.end()
        offered = len(self._arrivals) - self._first
        await self._last_answers(offered)
        return self._recorder.load(
            unanswered=offered - self._ended - self._dropped,
            dropped=self._dropped,
            offered_rps=offered / plan.seconds,
            late_ns=self._late[self._first :],
        )

    async def _last_answers(self, offered: int) -> None:
        deadline = time.monotonic() + LAST_ANSWERS_S
        while self._ended + self._dropped < offered and time.monotonic() < deadline:
            await self.pool.wait(POLL_S)

    def _send_due(self) -> None:
        now_ns = time.perf_counter_ns()
        while self._sent < len(self._due_ns) and (due_ns := self._due_ns[self._sent]) <= now_ns:
            self._late[self._sent] = now_ns - due_ns
            self._sent += 1
            if self._idle:
                self._idle.pop().send(next(self._turns), due_ns)
            elif len(self._queue) < self._plan.queue_limit:
                self._queue.append(due_ns)
            else:
                self._dropped += due_ns >= self._window_ns
        if self._sent < len(self._due_ns):
            self.timer.at(self._due_ns[self._sent])

    def _answered(self, connection: Connection, outcome: Outcome) -> None:
        self._recorder.answered(outcome)
        if connection.started_ns >= self._window_ns:
            self._ended += 1
            self._recorder.count(outcome, time.perf_counter_ns() - connection.started_ns)

    def _free(self, connection: Connection) -> None:
        if self._queue:
            connection.send(next(self._turns), self._queue.popleft())
        else:
            self._idle.append(connection)
