"""A search's progress on the terminal: a bar of trials with the time left, and the steps of the running one."""

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from models.tune.space import Value

FIGURES = ("loss", "validation")


class TuneProgress:
    def __init__(self, total: int, done: int, console: Console | None = None) -> None:
        columns = (TextColumn("{task.description:<19}"), BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn())
        # the time left is a mean over whole trials, of which there may be few an hour
        self._bars = Progress(
            *columns, TextColumn("{task.fields[figures]}"), console=console, speed_estimate_period=86_400
        )
        self._trials = self._bars.add_task("trials", total=total, completed=done, figures="")
        self._tasks: dict[str, TaskID] = {}
        self._figures: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def trial(self, number: int, total: int, values: "dict[str, Value]") -> None:
        from models.tune.report import shown

        for task in self._tasks.values():
            self._bars.remove_task(task)
        self._tasks = {}
        told = "  ".join(f"{key} {shown(value)}" for key, value in values.items())
        self._bars.update(self._trials, total=total, completed=number - 1, figures=told)

    def start(self, stage: str, total: int, done: int = 0) -> None:
        self._figures = {}
        if stage in self._tasks:
            self._bars.remove_task(self._tasks[stage])
        self._tasks[stage] = self._bars.add_task(f"  {stage}", total=total, completed=done, figures="")

    def step(self, stage: str, done: int, figures: Mapping[str, float]) -> None:
        self._figures |= {name: figures[name] for name in FIGURES if name in figures}
        told = "  ".join(f"{name} {value:.4f}" for name, value in self._figures.items())
        self._bars.update(self._tasks[stage], completed=done, figures=told)

    def finish(self, stage: str, note: str) -> None:
        if stage in self._tasks:
            self._bars.update(self._tasks[stage], figures=note)

    def ended(self, number: int) -> None:
        """The search is over, with so many trials."""
        self._bars.update(self._trials, completed=number, figures="")
