"""Which stages still fit: recent durations of each stage, against the time that a request has left."""

from collections import deque
from collections.abc import Callable

WINDOW = 128
FORGET_S = 5.0


class StageTimes:
    """Recent durations by stage. One thread records; p95 is kept up to date as it does.

    clock: seconds, monotonic.  observe: called with each stage and its seconds, for the metrics.
    """

    def __init__(self, clock: Callable[[], float], observe: Callable[[str, float], None] | None = None) -> None:
        self._clock = clock
        self._observe = observe
        self._recent: dict[str, deque[tuple[float, float]]] = {}
        self._p95: dict[str, tuple[float, float]] = {}  # seconds, and when it was computed

    def since(self, started: float, stage: str) -> None:
        """Record a stage that began then and ends now, for all requests that share it."""
        self.record(stage, self._clock() - started)

    def record(self, stage: str, seconds: float) -> None:
        now = self._clock()
        recent = self._recent.get(stage)
        if recent is None:
            recent = self._recent[stage] = deque(maxlen=WINDOW)
        recent.append((now, seconds))
        if now - self._p95.get(stage, (0.0, -1.0))[1] > 0.1:  # it changes little within 100 ms
            durations = sorted([duration for at, duration in recent if now - at <= FORGET_S])
            self._p95[stage] = durations[len(durations) * 95 // 100], now
        if self._observe is not None:
            self._observe(stage, seconds)

    def p95(self, stage: str) -> float:
        """Seconds; 0 when the stage has not run lately, so that one which was too slow is tried again."""
        value, at = self._p95.get(stage, (0.0, 0.0))
        return value if self._clock() - at <= FORGET_S else 0.0
