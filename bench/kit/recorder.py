"""Counts answers inside the measured window, and reads CPU times at its edges."""

import time
from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.kit.connection import OK, Outcome
from bench.kit.cpu import Cpu, cpu
from bench.kit.result import Load, latency_figures


class Recorder:
    """`begin`, then `count` for each request of the window, `end` at the window's end, then `load`.

    watched: pids whose CPU time is read.
    """

    def __init__(self, watched: Sequence[int]) -> None:
        self.recording = False
        self._watched = watched
        self._latencies_ns = array("q")
        self._inside = self._errors = self._degraded = 0
        self._start_ns = self._window_ns = 0
        self._client_s = 0.0
        self._cpu = Cpu(0.0, 0.0, 0.0)

    def begin(self) -> None:
        self._cpu, self._client_s = cpu(self._watched), time.process_time()
        self._start_ns, self.recording = time.perf_counter_ns(), True

    def end(self) -> None:
        self._window_ns, self.recording = time.perf_counter_ns() - self._start_ns, False
        self._client_s = time.process_time() - self._client_s
        self._cpu = cpu(self._watched).since(self._cpu)

    def count(self, outcome: Outcome, latency_ns: int) -> None:
        """latency_ns: of a request that belongs to the window; in the open loop it may be answered after it."""
        if outcome.status == OK:
            self._latencies_ns.append(latency_ns)
            self._degraded += outcome.degraded
        else:
            self._errors += 1

    def answered(self, outcome: Outcome) -> None:
        """Any answer; those inside the window make the throughput."""
        self._inside += self.recording and outcome.status == OK

    def load(
        self,
        *,
        unanswered: int = 0,
        dropped: int = 0,
        offered_rps: float | None = None,
        late_ns: NDArray[np.int64] | None = None,
    ) -> Load:
        """late_ns: how late the client was for each request that fell due."""
        seconds = self._window_ns / 1e9
        return Load(
            requests=len(self._latencies_ns),
            errors=self._errors + unanswered,
            degraded=self._degraded,
            dropped=dropped,
            seconds=seconds,
            rps=self._inside / seconds,
            **latency_figures(np.frombuffer(self._latencies_ns, np.int64) / 1e3 if self._latencies_ns else []),
            client_cpu_share=self._client_s / seconds,
            offered_rps=offered_rps,
            late_p99_us=float(np.percentile(late_ns, 99)) / 1e3 if late_ns is not None and late_ns.size else None,
            service_cpu_s=self._cpu.service_s if self._watched else None,
            redis_cpu_s=self._cpu.redis_s if self._watched else None,
        )
