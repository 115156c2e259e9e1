"""Training's progress on the terminal and in TensorBoard."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from models.run_log import FIGURES_EVERY

SHOWN = ("loss", "validation")  # beside a bar; TensorBoard has all figures


class TrainProgress:
    """A bar a stage, with time left and the newest figures; scalars for TensorBoard in `folder`."""

    def __init__(
        self, folder: Path, console: Console | None = None, now_s: Callable[[], float] = time.perf_counter
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))
        columns = (TextColumn("{task.description:<19}"), BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, TextColumn("{task.fields[figures]}"), console=console)
        self._tasks: dict[str, TaskID] = {}
        self._figures: dict[str, float] = {}
        self._now_s, self._since = now_s, (now_s(), 0)  # when TensorBoard was last written to, and the step then

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
        self._writer.close()

    def start(self, stage: str, total: int, done: int = 0) -> None:
        self._figures, self._since = {}, (self._now_s(), done)
        self._tasks[stage] = self._bars.add_task(stage, total=total, completed=done, figures="")

    def step(self, stage: str, done: int, figures: Mapping[str, float]) -> None:
        self._figures |= {name: figures[name] for name in SHOWN if name in figures}
        shown = "  ".join(f"{name} {value:.4f}" for name, value in self._figures.items())
        self._bars.update(self._tasks[stage], completed=done, figures=shown)
        if done % FIGURES_EVERY == 0 or "validation" in figures:
            now, (then, before) = self._now_s(), self._since
            self._since = now, done
            speed = {"steps_per_second": (done - before) / max(now - then, 1e-9)} if figures else {}
            for name, value in {**figures, **speed}.items():
                self._writer.add_scalar(f"{stage}/{name}", value, done)

    def finish(self, stage: str, note: str) -> None:
        task = self._tasks[stage]
        total = next(t.completed for t in self._bars.tasks if t.id == task)
        self._bars.update(task, total=total, completed=total, figures=note)
