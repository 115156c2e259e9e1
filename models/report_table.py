"""The report for a terminal of 100 columns: a table a section, then the ranker."""

import math
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

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


def report_tables(report: Report) -> Iterator[Table]:
    """A table of the systems for each section, and a table for each ranker in it."""
    for section in report.sections:
        yield _systems(report, section)
        for name, ranker in section.rankers.items():
            yield _ranker(name, ranker, section)


def _systems(report: Report, section: Section) -> Table:
    first, last = report.ks[0], report.ks[-1]
    reference = report.references[0] if report.references else None
    ceiling = section.recall_ceiling[str(last)]
    rows = f", {section.num_rows:,} baskets" if section.unit == "basket" else ""
    table = Table(
        title=f"{_TITLES[section.unit, section.mode]} ({report.window})",
        caption=f"{section.num_users:,} users{rows}, {section.num_targets:,} targets; Recall@{last} cannot pass "
        f"{ceiling:.3f}; ± is half of the 95 % interval",
        title_justify="left",
        caption_justify="left",
        width=100,
    )
    table.add_column("system", overflow="fold")
    headings = [f"NDCG@{first}", f"vs {reference}", f"Recall@{last}", f"Prec@{first}", f"MRR@{first}", f"Hit@{first}"]
    for heading in [*headings, f"Cover@{first}"]:
        table.add_column(heading, justify="right", overflow="fold")
    for name, system in section.systems.items():
        compared = system.versus.get(reference or "", {}).get(f"ndcg@{first}")
        plain = [system.metrics[f"{metric}@{first}"].value for metric in ("precision", "mrr", "hit_rate")]
        table.add_row(
            name,
            _interval(system.metrics[f"ndcg@{first}"]),
            _percent(compared.relative) if compared else "-",
            _interval(system.metrics[f"recall@{last}"]),
            *(_number(value) for value in plain),
            f"{system.coverage[str(first)]:.1%}",
        )
    return table


def _ranker(name: str, ranker: RankerResult, section: Section) -> Table:
    table = Table(
        title=f"Calibration of {name}, mode {section.mode}",
        caption=f"{ranker.num_candidates:,} candidates, {ranker.num_positives:,} positive; AUC {_number(ranker.auc)}, "
        f"within a user {_interval(ranker.user_auc)}\nlog-loss {_number(ranker.log_loss)} (constant "
        f"{_number(ranker.log_loss_constant)}), calibration error {_number(ranker.calibration_error)}, "
        f"predicted/actual {_number(ranker.predicted_over_actual)}",
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("candidates", "predicted", "actual"):
        table.add_column(heading, justify="right")
    for row in ranker.bins:
        table.add_row(f"{row.count:,}", _number(row.predicted), _number(row.actual))
    return table


def _interval(interval: Interval) -> str:
    return f"{_number(interval.value)} ±{_number(interval.half_width)}"


def _percent(interval: Interval) -> str:
    if math.isnan(interval.value):
        return "undefined"
    return f"{interval.value:+.1%} [{interval.low:+.1%}, {interval.high:+.1%}]"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
