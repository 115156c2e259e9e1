"""A service under measurement."""

from dataclasses import dataclass
from pathlib import Path

from bench.kit.plan import LoadPlan
from bench.kit.processes import Running

WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True)
class Side:
    """A service under measurement.  name: in figures, as `60k`.  bodies: file with a request a line."""

    name: str
    port: int
    bodies: Path
    running: Running

    def plan(self, connections: int, seconds: float) -> LoadPlan:
        pids = tuple(self.running.pids)
        return LoadPlan(self.port, self.bodies, connections, seconds, warmup_s=WARM_UP_S, watch=pids)
