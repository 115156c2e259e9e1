"""A run as pictures: latency against load, throughput against what a request costs, CPU time by stage."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure as Picture

from bench.kit.figures import Figure

STAGES = "stage_us"
CURVE = "curve"
OURS, OTHERS, QUIET = "#1f5fa8", "#b4552d", "#8a8f98"
DPI = 120


def draw(figures: Mapping[str, Figure], folder: Path, stem: str) -> list[Path]:
    """Pictures of what was measured, as PNG; returns their paths.  stem: how their names begin."""
    pictures = {"latency": _latency, "throughput": _throughput, "stages": _stages}
    paths = ((paint, folder / f"{stem}-{name}.png") for name, paint in pictures.items())
    return [found for paint, path in paths if (found := _drawn(paint, figures, path)) is not None]


def _drawn(
    paint: Callable[[Mapping[str, Figure]], Picture | None], figures: Mapping[str, Figure], path: Path
) -> Path | None:
    picture = paint(figures)
    if picture is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=DPI, metadata={"Software": None})
    return path


def _axes(height: float) -> tuple[Picture, Any]:
    picture = Picture(figsize=(7, height), layout="constrained")
    return picture, picture.subplots()


def _latency(figures: Mapping[str, Figure]) -> Picture | None:
    """Percentiles over the share of capacity that arrives, from `curve_p50_us/60k-70` and its like."""
    found: dict[str, list[tuple[float, Figure]]] = {}
    for name, figure in figures.items():
        kind, _, what = name.partition("/")
        if kind.startswith(CURVE):
            found.setdefault(kind.removeprefix(f"{CURVE}_"), []).append((float(what.rpartition("-")[2]), figure))
    if not found:
        return None
    picture, axes = _axes(4)
    for (kind, points), color in zip(sorted(found.items()), (OURS, QUIET, OTHERS), strict=False):
        points.sort(key=lambda point: point[0])
        label = kind.removesuffix("_us").replace("_", ".")
        axes.plot([share for share, _ in points], [f.value / 1000 for _, f in points], "o-", color=color, label=label)
    axes.set(xlabel="arrivals, % of one worker's throughput at c=16", ylabel="latency, ms", yscale="log")
    axes.set_title("Latency against load, 60k items, constant arrival rate (k6)", loc="left", fontsize=10)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    return picture


def _throughput(figures: Mapping[str, Figure]) -> Picture | None:
    """Requests a second of one core, by service, number of candidates and length of the history."""
    rows = [(name.removeprefix("rps/"), figure) for name, figure in figures.items() if name.startswith("rps/")]
    if not rows:
        return None
    rows.sort(key=lambda row: row[1].value)
    picture, axes = _axes(0.8 + 0.32 * len(rows))
    values = [figure.value for _, figure in rows]
    errors = [[f.value - f.low for _, f in rows], [f.high - f.value for _, f in rows]]
    colors = [OTHERS if name.startswith(("noop", "naive", "implicit")) else OURS for name, _ in rows]
    axes.barh([name for name, _ in rows], values, xerr=errors, color=colors, ecolor=QUIET, height=0.65)
    for place, value in enumerate(values):
        axes.annotate(f"{value:,.0f}", (rows[place][1].high, place), (4, 0), textcoords="offset points", va="center")
    axes.margins(x=0.1)
    axes.set(xlabel="requests a second, closed loop, c=16")
    axes.set_title("Throughput; orange is not Shortlist; bars are medians, lines all rounds", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return picture


def _stages(figures: Mapping[str, Figure]) -> Picture | None:
    """CPU microseconds of a request by stage, alone and in batches of 16."""
    columns: dict[str, dict[str, float]] = {}
    for name, figure in figures.items():
        kind, _, what = name.partition("/")
        column, _, stage = what.partition("/")
        if kind == STAGES:
            loop = figures.get(f"loop_us/{column.partition(',')[0]}")
            first = {} if loop is None else {"event loop at c=16": loop.value}
            columns.setdefault(column, first)[stage] = figure.value
    if not columns:
        return None
    stages = list(dict.fromkeys(stage for found in columns.values() for stage in found))
    picture, axes = _axes(1.2 + 0.6 * len(columns))
    left = dict.fromkeys(columns, 0.0)
    colors: Any = colormaps["tab20"]
    for stage, color in zip(stages, colors.colors, strict=False):
        widths = [found.get(stage, 0.0) for found in columns.values()]
        axes.barh(list(columns), widths, left=list(left.values()), color=color, label=stage, height=0.6)
        left = {name: left[name] + width for name, width in zip(columns, widths, strict=True)}
    axes.set(xlabel="CPU microseconds of one request")
    axes.set_title(
        "CPU time by stage: HTTP, JSON and Redis on the event loop, the rest in the compute thread",
        loc="left",
        fontsize=10,
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.35))
    return picture
