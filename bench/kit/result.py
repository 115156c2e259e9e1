"""What one load run measured, whichever client made the load."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

PERCENTILES = {"p50_us": 50.0, "p90_us": 90.0, "p99_us": 99.0, "p99_9_us": 99.9}


class LoadFailed(Exception):
    """A load client that could not measure; the message says why."""


@dataclass(frozen=True, slots=True)
class Load:
    """One run, warm-up excluded.

    requests: answered with status 200.  errors: another status, a broken connection, no answer in time.
    degraded: of `requests`, those whose answer says that something was left out, or that the ranker did not make the
    list (as for users that were never loaded); they are not worth the same.
    dropped: open loop only, requests that fell due when the queue was full and were never sent.
    seconds: length of the window.  rps: answers with status 200 a second inside the window; in the open loop, where
    `requests` are those that fell due in it, some of these are answered later.  offered_rps: open loop only, requests
    that fell due a second.
    *_us: latency of `requests`, from the moment a request was sent, in the open loop from the moment it fell due, so
    that waiting for a free connection counts (no coordinated omission); NaN where there is none.
    client_cpu_share: CPU seconds of the client per second of the window; near the number of its cores, it was the
    client that was measured.  late_p99_us: built-in open loop only, how late the client itself was.
    service_cpu_s, redis_cpu_s: of the watched processes in the window; None when none were watched.
    """

    requests: int
    errors: int
    degraded: int
    dropped: int
    seconds: float
    rps: float
    p50_us: float
    p90_us: float
    p99_us: float
    p99_9_us: float
    max_us: float
    client_cpu_share: float
    offered_rps: float | None = None
    late_p99_us: float | None = None
    service_cpu_s: float | None = None
    redis_cpu_s: float | None = None

    @property
    def cpu_us(self) -> float:
        """CPU microseconds of the service's own processes for each answer inside the window; NaN when they were not
        watched."""
        answered = self.rps * self.seconds
        return self.service_cpu_s / answered * 1e6 if self.service_cpu_s is not None and answered else float("nan")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Load":
        """From JSON, where NaN is null."""
        latencies = {name: float("nan") for name in (*PERCENTILES, "max_us") if values[name] is None}
        return cls(**{**values, **latencies})


def latency_figures(latencies_us: ArrayLike) -> dict[str, float]:
    """Percentiles (linear between neighbours) and maximum by the names that `Load` has."""
    found: NDArray[np.float64] = np.asarray(latencies_us, np.float64)
    if not found.size:
        return {name: float("nan") for name in (*PERCENTILES, "max_us")}
    values = np.percentile(found, list(PERCENTILES.values()))
    return {**dict(zip(PERCENTILES, values.tolist(), strict=True)), "max_us": float(found.max())}
