"""The compression report as a picture: what a variant costs against how good it is, a point each."""

from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from export.compression.report import CompressionReport, RankerRow, TowerRow
from models.targets import Mode

SIZE_INCHES = (13.5, 6.0)
DPI = 110
FONT = 8.5
LINE = 0.042  # of an axis's height, between labels
# what an axis shows at least around the reference: smaller differences are none that anybody would notice
NDCG_AROUND, AUC_AROUND, OVERLAP_AROUND = 0.01, 0.002, 0.02


class Point(NamedTuple):
    label: str
    x: float
    y: float


def picture(report: CompressionReport) -> bytes:
    """PNG. The ranker's variants, or the tower's where there is no ranker."""
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI)
    left, right = figure.subplots(1, 2)
    rows: Sequence[RankerRow | TowerRow] = report.rankers or report.towers
    mode: Mode = next(iter(report.num_users))
    what = "ranker" if report.rankers else "user tower"
    by_time = [Point(row.variant, row.request_us, row.lists[mode].ndcg) for row in rows]
    _scatter(left, by_time, NDCG_AROUND * by_time[0].y)
    left.set(xlabel=f"CPU of the {what} a request, us", ylabel=f"NDCG@10, {mode} items")
    sizes = [(row.graph_bytes + row.item_bytes) / 1e6 for row in rows]
    if report.rankers:
        values, around, name = [row.scores[mode].auc for row in report.rankers], AUC_AROUND, "AUC"
    else:
        values, around, name = [row.lists[mode].overlap for row in rows], OVERLAP_AROUND, "top-10 overlap with fp32"
    _scatter(right, [Point(*one) for one in zip([r.variant for r in rows], sizes, values, strict=True)], around)
    right.set(xlabel=f"graphs and item table of the {what}, MB", ylabel=f"{name}, {mode} items")
    figure.suptitle(f"Compression of the {what}: up and to the left is better; the dashed line is fp32")
    figure.subplots_adjust(left=0.06, right=0.87, wspace=0.66, top=0.92, bottom=0.1)
    file = BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _scatter(axes: Any, points: Sequence[Point], around: float) -> None:
    """The first point is the reference.  Labels stand in a column beside the axes, in the order of their points, each
    with a line to its own: points that lie on top of each other stay legible."""
    axes.grid(alpha=0.3)
    axes.ticklabel_format(useOffset=False)
    for number, point in enumerate(points):
        axes.plot(point.x, point.y, "o", color=f"C{number % 10}", markersize=7)
    level = points[0].y
    axes.axhline(level, color="C0", linestyle="--", linewidth=0.8)
    low, high = min(level - around, *(p.y for p in points)), max(level + around, *(p.y for p in points))
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    axes.set_ylim(low, high)
    axes.set_xlim(0, 1.08 * max(point.x for point in points))
    wanted = [(point.y - low) / (high - low) for point in points]
    for number, (point, height) in enumerate(zip(points, spread(wanted, LINE), strict=True)):
        line = {"arrowstyle": "-", "color": f"C{number % 10}", "alpha": 0.6, "linewidth": 0.8}
        axes.annotate("", (point.x, point.y), xytext=(1.03, height), textcoords="axes fraction", arrowprops=line)
        axes.text(1.035, height, point.label, fontsize=FONT, va="center", transform=axes.transAxes)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights in the same order, moved as little as keeps `gap` between neighbours and all of them within 0 and 1 as
    far as they fit."""
    order = sorted(range(len(heights)), key=lambda number: heights[number])
    placed = list(heights)
    for lower, upper in pairwise(order):  # upwards
        placed[upper] = max(placed[upper], placed[lower] + gap)
    overlap = max(0.0, placed[order[-1]] - 1.0)
    placed[order[-1]] -= overlap
    for upper, lower in pairwise(reversed(order)):  # and back where the top has no more room
        placed[lower] = min(placed[lower], placed[upper] - gap)
    return placed
