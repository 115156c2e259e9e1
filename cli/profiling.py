"""`shortlist train --profile`: a trace of some steps of each stage that learns by gradients, and where time goes."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from models.run_log import RunLog

if TYPE_CHECKING:
    from torch.profiler import profile

WAIT, WARM_UP, TRACED = 5, 3, 10  # steps: the first ones are not like the others
PHASES = {"loss": "loss", "backward": "backward", "optimizer": "Optimizer.step#AdamW.step", "validation": "validation"}
OPERATORS = 10  # shown


class Profiled:
    """Reports to another log, and keeps a Chrome trace a stage in `folder`; training goes on after it was made."""

    def __init__(self, log: RunLog, folder: Path) -> None:
        self._log, self._folder = log, folder
        self._profile: profile | None = None
        self._stage = ""
        self.tables: list[str] = []

    def start(self, stage: str, total: int, done: int = 0) -> None:
        self._log.start(stage, total, done)

    def step(self, stage: str, done: int, figures: Mapping[str, float]) -> None:
        self._log.step(stage, done, figures)
        if "loss" not in figures:
            return
        if stage != self._stage:
            self.stop()
            self._stage, self._profile = stage, self._started()
        elif self._profile is not None:
            self._profile.step()

    def finish(self, stage: str, note: str) -> None:
        self.stop()
        self._log.finish(stage, note)

    def stop(self) -> None:
        """End a trace that is being made."""
        if self._profile is not None:
            running, self._profile = self._profile, None
            running.stop()

    def _started(self) -> "profile":
        from torch.profiler import profile, schedule

        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it tells stderr when it starts and stops
        steps = schedule(wait=WAIT, warmup=WARM_UP, active=TRACED, repeat=1)
        made = profile(schedule=steps, on_trace_ready=self._keep)
        made.start()
        return made

    def _keep(self, done: "profile") -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._stage.replace(' ', '_')}.json"
        unfinished = path.with_suffix(".tmp.json")
        done.export_chrome_trace(str(unfinished))
        unfinished.rename(path)
        self.tables.append(f"{self._stage}: {path}\n{table(done)}")


def table(done: "profile") -> str:
    """Milliseconds a step: of its phases, and by themselves of the operators that take most of the processor's time."""
    events = {event.key: event for event in done.key_averages()}
    steps = max((event.count for key, event in events.items() if key.startswith("ProfilerStep")), default=TRACED)
    lines = [f"  {'ms a step':>10}  phase"]
    for name, key in PHASES.items():
        if key in events:
            inside = events[key].cpu_time_total / steps / 1e3
            beside = f", {events[key].self_cpu_time_total / steps / 1e3:.2f} of it outside of torch's operators"
            lines.append(f"  {inside:10.2f}  {name}{beside if name == 'loss' else ''}")
    operators = [event for key, event in events.items() if key not in PHASES.values() and "ProfilerStep" not in key]
    operators.sort(key=lambda event: -event.self_cpu_time_total)
    lines.append(f"  {'ms a step':>10}  {'calls':>6}  operator")
    for event in operators[:OPERATORS]:
        own = event.self_cpu_time_total / steps / 1e3
        lines.append(f"  {own:10.2f}  {event.count / steps:6.0f}  {event.key[:70]}")
    return "\n".join(lines)
