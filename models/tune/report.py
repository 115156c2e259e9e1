"""What a search found: read from its study, and written as report.md, best.toml and plot.png."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import optuna
import orjson
from optuna.trial import FrozenTrial, TrialState

from models.tune.plot import draw
from models.tune.space import Choice, Range, Space, Value

FIGURE = "NDCG@10"
ENOUGH_FOR_IMPORTANCE = 15  # complete trials; with fewer the parts of a variance are noise
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "interrupted",
}


@dataclass(frozen=True, slots=True)
class TrialRow:
    """number: from 1.  figure: on the validation window; the last one seen of a pruned trial; None for one without.
    error: why it failed.
    """

    number: int
    state: str
    figure: float | None
    steps: int
    seconds: float
    values: dict[str, Value]
    error: str


@dataclass(frozen=True, slots=True)
class TuneReport:
    """section: the keys of [train.<stage>] as shortlist.toml has them.  importance: share of each key, the largest
    first; empty with too few trials."""

    stage: str
    model: str
    space: Space
    section: dict[str, Any]
    rows: list[TrialRow]
    importance: dict[str, float]

    @property
    def ranked(self) -> list[TrialRow]:
        """The best first: complete, then pruned, then the others."""
        order = list(STATES.values())
        return sorted(self.rows, key=lambda row: (order.index(row.state), -(row.figure or 0.0), row.number))

    @property
    def best(self) -> TrialRow | None:
        return next((row for row in self.ranked if row.state == "complete"), None)

    @property
    def gain(self) -> str:
        """What the best trial gained over the first, in words."""
        best, first = self.best, next((row for row in self.rows if row.number == 1), None)
        if best is None:
            return "No trial has come through yet." if not self.rows else "No trial came through."
        told = f"Best: trial {best.number}, validation {FIGURE} {best.figure:.4f}"
        if first is None or first.state != "complete" or not first.figure:
            return f"{told}."
        if best.number == 1:
            return f"{told}: the configuration as it stood when the search began."
        change = (best.figure or 0.0) / first.figure - 1
        return f"{told}, {change:+.1%} over the configuration as it stood when the search began ({first.figure:.4f})."


def describe(study: optuna.Study, stage: str, space: Space, section: dict[str, Any]) -> None:
    """Keep with a study what its report needs. section: of shortlist.toml, with its model."""
    parts = {
        key: list(part.values) if isinstance(part, Choice) else [part.low, part.high, part.log, part.whole]
        for key, part in space.items()
    }
    kinds = {key: isinstance(part, Choice) for key, part in space.items()}
    study.set_user_attr("search", {"stage": stage, "section": section, "parts": parts, "choices": kinds})


def read_report(study: optuna.Study) -> TuneReport:
    told = study.user_attrs["search"]
    space: Space = {
        key: Choice(tuple(part)) if told["choices"][key] else Range(*part) for key, part in told["parts"].items()
    }
    trials = [trial for trial in study.get_trials(deepcopy=False) if "values" in trial.user_attrs]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    enough = len(complete) >= ENOUGH_FOR_IMPORTANCE and len({trial.value for trial in complete}) > 1
    importance = optuna.importance.get_param_importances(study) if enough else {}
    rows = [_row(trial) for trial in trials]
    return TuneReport(told["stage"], told["section"]["model"], space, told["section"], rows, importance)


def _row(trial: FrozenTrial) -> TrialRow:
    told = trial.user_attrs
    steps, seconds = told.get("spent", (0, 0.0))
    figure = trial.value if trial.state == TrialState.COMPLETE else None
    if trial.state == TrialState.PRUNED and trial.intermediate_values:
        figure = trial.intermediate_values[max(trial.intermediate_values)]
    return TrialRow(
        number=trial.number + 1,
        state=STATES[trial.state],
        figure=figure,
        steps=steps,
        seconds=seconds,
        values=told["values"],
        error=told.get("error", ""),
    )


def write_report(report: TuneReport, folder: Path) -> None:
    """report.md and plot.png, and best.toml where a trial came through."""
    _write(folder / "report.md", markdown(report).encode())
    image = BytesIO()
    points = [(row.number, row.state, row.figure, row.values) for row in report.rows if row.figure is not None]
    draw(report.space, points, FIGURE).savefig(image, format="png", dpi=120)
    _write(folder / "plot.png", image.getvalue())
    if report.best is not None:
        _write(folder / "best.toml", best_toml(report, report.best).encode())


def markdown(report: TuneReport) -> str:
    keys = list(report.space)
    lines = [
        f"# Search of [train.{report.stage}], model = {report.model}",
        "",
        report.gain,
        "",
        "Measured on the validation window, by which the best was also chosen. What it is worth on new data, train and",
        "`shortlist evaluate` tell by the test window, which no trial has read.",
        "",
        f"| trial | {FIGURE} | state | steps | seconds | {' | '.join(keys)} |",
        f"|{'---|' * (5 + len(keys))}",
    ]
    for row in report.ranked:
        values = " | ".join(shown(row.values[key]) for key in keys)
        lines.append(
            f"| {row.number} | {number(row.figure)} | {row.state} | {row.steps} | {row.seconds:.0f} | {values} |"
        )
    failed = [f"- trial {row.number}: {row.error}" for row in report.rows if row.error]
    if failed:
        lines += ["", "## Failed", "", *failed]
    if report.importance:
        lines += ["", "## Importance", "", "Share of each key in what sets the best tenth apart (PED-ANOVA, Watanabe"]
        lines += ["et al. 2023).", "", "| key | share |", "|---|---|"]
        lines += [f"| {key} | {share:.0%} |" for key, share in report.importance.items()]
    return "\n".join([*lines, "", "![history and values](plot.png)", ""])


def best_toml(report: TuneReport, best: TrialRow) -> str:
    """The section of the best trial, to stand in shortlist.toml in the place of the one that is there."""
    section = {"model": report.model} | report.section | best.values
    head = f"# trial {best.number} of `shortlist tune`: validation {FIGURE} {best.figure:.4f}\n[train.{report.stage}]\n"
    # JSON of strings, numbers, true, false and lists of them is TOML too
    given = {key: value for key, value in section.items() if value is not None}
    return head + "".join(f"{key} = {orjson.dumps(value).decode()}\n" for key, value in given.items())


def shown(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def number(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.4f}"


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".tmp")
    beside.write_bytes(content)
    beside.rename(path)
