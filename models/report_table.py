"""The report for a terminal of 100 columns: a table a section, then the ranker."""

import math
from collections.abc import Iterator

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from models.bootstrap import Interval
from models.report import RankerResult, Report, Section

_TITLES = {
    ("window", "all"): "All items, state frozen at the start of the window",
    ("window", "new"): "New items only, state frozen at the start of the window",
    ("basket", "all"): "All items of the next basket, state current up to it",
    ("basket", "new"): "New items of the next basket, state current up to it",
}


def print_report(report: Report, console: Console) -> None:
    """Print every table of the report."""
    for table in report_tables(report):
        console.print(table)


def report_tables(report: Report) -> Iterator[RenderableType]:
    """A table of the systems for each section, and a table for each ranker in it."""
    for section in report.sections:
        yield _systems(report, section)
        for name, ranker in section.rankers.items():
            yield _ranker(name, ranker, section)
    for note in report.left_out:
        yield Text(f"left out: {note}")


def _titled(title: str, table: Table, notes: list[str]) -> Group:
    # rich would wrap a table's own title to the width of the table
    return Group(Text(title, "bold"), table, Text("\n".join(notes), "dim"), "")


def _systems(report: Report, section: Section) -> Group:
    """Two lines a system: the means, and below them what the intervals say."""
    first, last = report.ks[0], report.ks[-1]
    reference = next((name for name in report.references if name in section.systems), None)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("system", overflow="fold")
    names = [f"NDCG@{first}", "vs", f"Recall@{last}", *(f"{name}@{first}" for name in ("Prec", "MRR", "Hit", "Cover"))]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for name, system in section.systems.items():
        compared = system.versus.get(reference or "", {}).get(f"ndcg@{first}")
        plain = [_number(system.metrics[f"{metric}@{first}"].value) for metric in ("precision", "mrr", "hit_rate")]
        table.add_row(
            name,
            _lines(system.metrics[f"ndcg@{first}"]),
            _change(compared.relative) if compared else "",
            _lines(system.metrics[f"recall@{last}"]),
            *plain,
            f"{system.coverage[str(first)]:.1%}",
        )
    baskets = f"{section.num_rows:,} baskets, " if section.unit == "basket" else ""
    notes = [
        f"{section.num_users:,} users, {baskets}{section.num_targets:,} targets; "
        f"Recall@{last} cannot pass {section.recall_ceiling[str(last)]:.3f}.",
        "±: half of the 95 % interval."
        + (f" vs: NDCG@{first} relative to {reference}, with its paired interval." if reference else ""),
    ]
    return _titled(f"{_TITLES[section.unit, section.mode]} ({report.window})", table, notes)


def _ranker(name: str, ranker: RankerResult, section: Section) -> Group:
    within = f"{_number(ranker.user_auc.value)} ±{_number(ranker.user_auc.half_width)}"
    notes = [
        f"{ranker.num_candidates:,} candidates, {ranker.num_positives:,} of them targets; "
        f"AUC {_number(ranker.auc)}, within a user {within} ({ranker.num_users_auc:,} users)",
        f"log-loss {_number(ranker.log_loss)}, of a constant {_number(ranker.log_loss_constant)}; calibration error "
        f"{_number(ranker.calibration_error)}; predicted / actual {_number(ranker.predicted_over_actual)}",
    ]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("candidates", "predicted", "actual"):
        table.add_column(heading, justify="right")
    for row in ranker.bins:
        table.add_row(f"{row.count:,}", _number(row.predicted), _number(row.actual))
    return _titled(f"Probabilities of {name}, mode {section.mode}", table, notes)


def _lines(interval: Interval) -> str:
    return f"{_number(interval.value)}\n[dim]±{_number(interval.half_width)}[/dim]"


def _change(interval: Interval) -> str:
    if math.isnan(interval.value):
        return "undefined"
    return f"{interval.value:+.1%}\n[dim]{interval.low:+.1%} to {interval.high:+.1%}[/dim]"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
