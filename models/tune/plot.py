"""The plot of a search: its history, and for each key its values against the figure."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.tune.space import Choice, Range, Space, Value

COLUMNS, PANEL_INCHES = 3, (3.6, 2.8)
# told apart without colour, too
STYLES: dict[str, dict[str, Any]] = {
    "complete": {"marker": "o", "color": "#0072b2", "label": "complete"},
    "pruned": {"marker": "x", "color": "#888888", "label": "pruned, at its last validation"},
}

Point = tuple[int, str, float, dict[str, Value]]  # number, state, figure, values


def draw(space: Space, points: Sequence[Point], figure: str) -> Figure:
    """points: the trials that have a figure, in their order."""
    rows = -(-(1 + len(space)) // COLUMNS)
    page = Figure((COLUMNS * PANEL_INCHES[0], rows * PANEL_INCHES[1] + 0.3), layout="constrained")
    panels: list[Axes] = page.subplots(rows, COLUMNS, sharey=True, squeeze=False).ravel().tolist()
    history = panels[0]
    _dots(history, points, [float(point[0]) for point in points])
    _best_so_far(history, points)
    history.set_title("history")
    history.set_xlabel("trial")
    history.locator_params(axis="x", integer=True)
    for panel, (key, part) in zip(panels[1:], space.items(), strict=False):
        panel.set_title(key)
        _scale(panel, part)
        shown = [point for point in points if part.has(point[3][key])]
        _dots(panel, shown, [_place(part, point[3][key]) for point in shown])
    for panel in panels[1 + len(space) :]:
        panel.remove()
    for row in range(rows):
        panels[row * COLUMNS].set_ylabel(figure)
    page.legend(*history.get_legend_handles_labels(), loc="outside lower left", ncols=3, frameon=False)
    return page


def _dots(panel: Axes, points: Sequence[Point], places: Sequence[float]) -> None:
    for state, style in STYLES.items():
        chosen = [(at, point[2]) for at, point in zip(places, points, strict=True) if point[1] == state]
        panel.plot([at for at, _ in chosen], [found for _, found in chosen], linestyle="", alpha=0.8, **style)


def _best_so_far(panel: Axes, points: Sequence[Point]) -> None:
    complete = [(number, found) for number, state, found, _ in points if state == "complete"]
    best = list(accumulate((found for _, found in complete), max))
    panel.step([number for number, _ in complete], best, where="post", color="#d55e00", label="best so far")


def _scale(panel: Axes, part: Range | Choice) -> None:
    """A value of the configuration that lies outside of the space has no place."""
    if isinstance(part, Choice):
        panel.set_xticks(range(len(part.values)), [str(value) for value in part.values])
        panel.set_xlim(-0.5, len(part.values) - 0.5)
        return
    if part.log:
        panel.set_xscale("log")
        panel.set_xlim(part.low / 1.1, part.high * 1.1)
    else:
        margin = 0.05 * (part.high - part.low)
        panel.set_xlim(part.low - margin, part.high + margin)
        panel.locator_params(axis="x", integer=part.whole)


def _place(part: Range | Choice, value: Value) -> float:
    if isinstance(part, Choice):
        return float(part.values.index(value))
    assert isinstance(value, int | float)
    return float(value)
