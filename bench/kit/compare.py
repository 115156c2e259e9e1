"""Whether two runs differ by more than noise.

Machines are noisier than most changes, but much of the noise is common to what runs side by side: throughput and CPU
time are taken relative to the no-op service of the same round before two runs are compared.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.kit.results import Results, short

RELATIVE_TO = {"requests/s": "rps/noop", "us": "cpu_us/noop"}
Verdict = Literal["faster", "slower", "more", "less", "no difference seen", "too few rounds"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure in two runs.

    ratio: of the medians, second run / first.  low, high: its 95 % interval.  relative: to the no-op of each round.
    """

    name: str
    ratio: float
    low: float
    high: float
    relative: bool
    verdict: Verdict


def compare(first: Results, second: Results) -> list[Difference]:
    """Of every figure that both runs have; one that is zero, as Redis's time for a service without it, has no ratio."""
    names = [name for name in first.figures if name in second.figures]
    names = [name for name in names if first.figures[name].value and second.figures[name].value]
    return [_difference(name, first, second) for name in names]


def _difference(name: str, first: Results, second: Results) -> Difference:
    unit = first.figures[name].unit
    base = RELATIVE_TO.get(unit)
    relative = base is not None and name != base and all(_pairs(run, name, base) for run in (first, second))
    rounds = [_values(run, name, base if relative else None) for run in (first, second)]
    ratio = float(np.median(rounds[1]) / np.median(rounds[0]))
    if min(len(values) for values in rounds) < 3:
        return Difference(name, ratio, float("nan"), float("nan"), relative, "too few rounds")
    low, high = _interval(*rounds)
    return Difference(name, ratio, low, high, relative, _verdict(unit, low, high))


def _pairs(run: Results, name: str, base: str) -> bool:
    """Whether both were measured in the same rounds."""
    figure = run.figures.get(base)
    return figure is not None and len(figure.rounds) == len(run.figures[name].rounds)


def _values(run: Results, name: str, base: str | None) -> NDArray[np.float64]:
    values = np.asarray(run.figures[name].rounds, np.float64)
    values = values if base is None else values / np.asarray(run.figures[base].rounds, np.float64)
    return values[np.isfinite(values)]


def _interval(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float]:
    """95 % of the ratio of geometric means, by Welch's t on the logarithms: for a bootstrap the rounds are too few."""
    logs = [np.log(np.maximum(values, 1e-12)) for values in (first, second)]
    if all(np.ptp(values) == 0 for values in logs):  # t would divide by zero
        ratio = float(np.exp(logs[1][0] - logs[0][0]))
        return ratio, ratio
    found = stats.ttest_ind(logs[1], logs[0], equal_var=False).confidence_interval(0.95)
    return float(np.exp(found.low)), float(np.exp(found.high))


def _verdict(unit: str, low: float, high: float) -> Verdict:
    if not low > 1 and not high < 1:
        return "no difference seen"
    more = low > 1
    if unit in ("requests/s", "users/s", "sequences/s", "rows/s"):
        return "faster" if more else "slower"
    if unit in ("us", "s"):
        return "slower" if more else "faster"
    return "more" if more else "less"


def to_markdown(differences: list[Difference]) -> str:
    lines = ["| figure | second / first | 95 % interval | |", "|---|---|---|---|"]
    for found in differences:
        interval = "" if np.isnan(found.low) else f"{short(found.low)} to {short(found.high)}"
        named = f"`{found.name}`" + (" / no-op" if found.relative else "")
        lines.append(f"| {named} | {short(found.ratio)} | {interval} | {found.verdict} |")
    return "\n".join(lines) + "\n"
