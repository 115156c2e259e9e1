"""The closed loop: each connection sends its next request as soon as it has its answer. For throughput."""

import time
from collections.abc import Sequence
from itertools import cycle

from bench.kit.connection import Connection, Outcome
from bench.kit.plan import LoadPlan
from bench.kit.pool import Pool
from bench.kit.recorder import Recorder
from bench.kit.result import Load


async def run_closed(plan: LoadPlan, requests: Sequence[bytes]) -> Load:
    """Raises OSError when a connection cannot be made."""
    recorder, turns = Recorder(plan.watch), cycle(requests)

    def answered(connection: Connection, outcome: Outcome) -> None:
        if recorder.recording:
            recorder.answered(outcome)
            recorder.count(outcome, time.perf_counter_ns() - connection.started_ns)

    pool = Pool(plan.port, answered, lambda connection: connection.send(next(turns), time.perf_counter_ns()))
    try:
        await pool.start(plan.connections)
        await pool.wait(plan.warmup_s)
        recorder.begin()
        await pool.wait(plan.seconds)
        recorder.end()
    finally:
        pool.close()
    return recorder.load()
