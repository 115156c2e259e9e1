"""What one load run is to do, for whichever client makes the load."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """POST requests to one port of loopback.  Raises ValueError for a plan that cannot be run.

    bodies: file with a JSON body a line, sent in turn.  connections: kept alive; in the open loop the most that wait
    for an answer at once.  rate: open loop, requests a second that fall due by a Poisson process (k6: evenly); None for
    the closed loop, in which a connection sends as soon as its answer is there.  seed: of the arrivals.
    watch: pids whose CPU time is counted; give all of them (`Running.pids`), descendants are not looked for.
    queue_limit: open loop, requests that may wait for a connection before others are dropped.
    """

    port: int
    bodies: Path
    connections: int = 16
    seconds: float = 5.0
    warmup_s: float = 1.0
    rate: float | None = None
    seed: int = 0
    path: str = "/recommend"
    watch: tuple[int, ...] = ()
    queue_limit: int = 10_000

    def __post_init__(self) -> None:
        for name in ("connections", "seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} = {getattr(self, name)}: give more than 0")
        if self.warmup_s < 0:
            raise ValueError(f"warmup_s = {self.warmup_s}: give 0 or more")
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"rate = {self.rate}: give more than 0, or none for the closed loop")

    @property
    def time_limit_s(self) -> float:
        """When a run has certainly failed."""
        return self.warmup_s + self.seconds + 30.0
