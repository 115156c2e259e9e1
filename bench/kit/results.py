"""A run's results as the files that are kept: JSON, and the same as tables in Markdown."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from bench.kit.figures import Figure
from bench.kit.ratios import RATIOS

FORMAT_VERSION = 1


class ResultsError(Exception):
    """A file that is no results of this kit; the message names it."""


@dataclass(frozen=True, slots=True)
class Results:
    """A run.  about: machine, versions, commit, times, see `bench/kit/machine.py`.  missing: rounds that do not count.
    failed: steps without a result."""

    about: dict[str, Any]
    figures: dict[str, Figure]
    missing: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def ratios(self) -> dict[str, Figure]:
        found = ((ratio.name, ratio.of(self.figures)) for ratio in RATIOS)
        return {name: figure for name, figure in found if figure is not None}


def to_json(results: Results) -> bytes:
    """With "ratios": one plain number for each row of the table that was measured."""
    content = {
        "version": FORMAT_VERSION,
        "about": results.about,
        "ratios": {name: _rounded(figure.value) for name, figure in results.ratios.items()},
        "ratio_rounds": {name: [_rounded(v) for v in figure.rounds] for name, figure in results.ratios.items()},
        "figures": [
            {**asdict(figure), "value": _rounded(figure.value), "rounds": [_rounded(v) for v in figure.rounds]}
            for figure in results.figures.values()
        ],
        "missing": list(results.missing),
        "failed": list(results.failed),
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def read_results(path: Path) -> Results:
    """Raises ResultsError."""
    try:
        content = orjson.loads(path.read_bytes())
        if content["version"] != FORMAT_VERSION:
            raise ResultsError(f"{path}: version {content['version']}, this kit reads {FORMAT_VERSION}; run it again")
        figures = {row["name"]: Figure(row["name"], row["unit"], _rounds(row["rounds"])) for row in content["figures"]}
        return Results(content["about"], figures, tuple(content["missing"]), tuple(content.get("failed", ())))
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ResultsError(f"{path}: not the results of `shortlist bench`") from None


def to_markdown(results: Results) -> str:
    """The table of ratios, then every figure with its spread."""
    about = results.about
    lines = [f"# {about['machine']}, {about['started']}", "", *_about(about), "", "## Ratios", ""]
    lines += ["| name | what | value | rounds | floor | aim | reached |", "|---|---|---|---|---|---|---|"]
    ratios = results.ratios
    for ratio in RATIOS:
        found, limits = ratios.get(ratio.name), f"{short(ratio.floor)} | {short(ratio.aim)}"
        if found is None:
            lines.append(f"| `{ratio.name}` | {ratio.text} | | | {limits} | not measured |")
        else:
            told = f"{short(found.value)} | {short(found.low)} to {short(found.high)}"
            lines.append(f"| `{ratio.name}` | {ratio.text} | {told} | {limits} | {ratio.standing(found.value)} |")
    lines += ["", "## Figures", "", "| figure | unit | median | rounds | number |", "|---|---|---|---|---|"]
    for figure in results.figures.values():
        spread = f"{short(figure.low)} to {short(figure.high)}"
        lines.append(f"| `{figure.name}` | {figure.unit} | {short(figure.value)} | {spread} | {len(figure.counted)} |")
    if without := [*results.failed, *results.missing]:
        lines += ["", "## Not measured", "", *(f"- {text}" for text in without)]
    return "\n".join(lines) + "\n"


def _about(about: Mapping[str, Any]) -> list[str]:
    return [
        f"- {name.replace('_', ' ')}: {value}" for name, value in about.items() if name not in ("machine", "started")
    ]


def short(value: float) -> str:
    """Three digits that count; thousands grouped."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _rounds(values: list[float | None]) -> tuple[float, ...]:
    """JSON has null for NaN, a round that did not count."""
    return tuple(math.nan if value is None else value for value in values)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
