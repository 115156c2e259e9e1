"""The compression report as tables: one set of cells for the terminal and for the model card."""

from collections.abc import Sequence
from math import isnan
from typing import NamedTuple

from export.compression.report import BundleRow, CompressionReport, RankerRow, TowerRow
from models.bootstrap import Interval
from models.targets import MODES, Mode

SEEN = {"all": "all items", "new": "new items only"}
LISTS = ("NDCG@10", "change", "95 % interval", "top-10 overlap")


BUNDLE_NOTE = (
    "Bundles are compared with the default one of the trained models. Process MB is the memory of a service process "
    "that has answered requests of 64 users: the mapped tables count as far as those read them; more users read more."
)


class Table(NamedTuple):
    """The first column is words, the others are numbers."""

    title: str
    header: list[str]
    rows: list[list[str]]


def tables(report: CompressionReport) -> list[Table]:
    """Those that have a row."""
    found = [
        _costs("Ranker: what a request costs", report.rankers),
        *(_scores(report, mode) for mode in MODES),
        _costs("User tower: what a request costs", report.towers),
        *(_lists(f"User tower over the whole catalogue, {SEEN[mode]}", report, mode) for mode in MODES),
        _bundles(report.bundles),
        *(_lists(f"Bundles: served lists, {SEEN[mode]}", report, mode, bundles=True) for mode in MODES),
        _parts(report.bundles),
    ]
    return [table for table in found if table.rows]


def notes(report: CompressionReport) -> list[str]:
    """What was done to each compressed model, and what the figures are of."""
    rows: list[RankerRow | TowerRow] = [*report.rankers, *report.towers]
    made = {row.variant.removesuffix(" fp32"): row.made for row in rows if row.made}
    users = " and ".join(f"{count:,} users ({SEEN[mode]})" for mode, count in report.num_users.items())
    return [
        f"On the test window, {users}; every variant ranks the same candidates of the same users. Changes are relative "
        "to fp32, with a paired 95 % interval over users; the change of AUC is a difference.",
        "int8 is the export's own quantization, with ranges of activations from validation requests; a bundle has it "
        "where the gates allow it, else fp32. The scores of int8 dynamic change with who shares the batch, so it is "
        "never shipped; int8 QDQ is onnxruntime's own static quantization.",
        *([BUNDLE_NOTE] if report.bundles else []),
        *(f"{name}: {'; '.join(steps)}" for name, steps in made.items() if not name.endswith(" int8")),
        *report.left_out,
    ]


def markdown(report: CompressionReport) -> str:
    """For report.md and for the model card, whose headings are of one level higher."""
    parts = [*notes(report), *(f"### {table.title}\n\n{_markdown(table)}" for table in tables(report))]
    return "\n\n".join(parts) + "\n"


def _markdown(table: Table) -> str:
    ruler = ["---", *["---:"] * (len(table.header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [table.header, ruler, *table.rows])


def _costs(title: str, rows: Sequence[RankerRow | TowerRow]) -> Table:
    header = ["variant", "parameters", "graphs kB", "items MB", "CPU us", "times fp32", "changed in a batch"]
    return Table(
        title,
        header,
        [
            [
                row.variant,
                f"{row.parameters:,}",
                f"{row.graph_bytes / 1e3:,.0f}",
                f"{row.item_bytes / 1e6:.2f}",
                f"{row.user_us:.0f} + {row.head_us:.0f}" if isinstance(row, RankerRow) else f"{row.request_us:.0f}",
                f"{row.request_us / rows[0].request_us:.2f}",
                f"{row.rows_changed} of {row.rows_tried}",
            ]
            for row in rows
        ],
    )


def _scores(report: CompressionReport, mode: Mode) -> Table:
    header = ["variant", "AUC", "change", *LISTS, "calibration error", "predicted / actual"]
    return Table(
        f"Ranker, {SEEN[mode]}",
        header,
        [
            [
                row.variant,
                _number(row.scores[mode].auc),
                f"{row.scores[mode].auc_change:+.5f}",
                *_list_cells(row, mode),
                _number(row.scores[mode].calibration_error),
                _number(row.scores[mode].predicted_over_actual),
            ]
            for row in report.rankers
            if mode in row.lists
        ],
    )


def _lists(title: str, report: CompressionReport, mode: Mode, *, bundles: bool = False) -> Table:
    rows = report.bundles if bundles else report.towers
    return Table(
        title, ["variant", *LISTS], [[row.variant, *_list_cells(row, mode)] for row in rows if mode in row.lists]
    )


def _bundles(rows: Sequence[BundleRow]) -> Table:
    header = ["variant", "MB", "share", "process MB", "of it for the bundle", "CPU us a request"]
    return Table(
        "Bundles: what they cost",
        header,
        [
            [
                row.variant,
                f"{row.size / 1e6:.2f}",
                f"{row.size / rows[0].size:.3f}",
                _number(row.private_bytes / 1e6, 0),
                _number(row.bundle_bytes / 1e6, 1),
                _number(row.request_us, 0),
            ]
            for row in rows
        ],
    )


def _parts(rows: Sequence[BundleRow]) -> Table:
    names = dict.fromkeys(part for row in rows for part in row.sizes)
    return Table(
        "Bundles: MB by part",
        ["part", *(row.variant for row in rows)],
        [[part, *(f"{row.sizes.get(part, 0) / 1e6:.2f}" for row in rows)] for part in names],
    )


def _list_cells(row: RankerRow | TowerRow | BundleRow, mode: Mode) -> list[str]:
    found = row.lists[mode]
    return [_number(found.ndcg), *_change(found.change), f"{found.overlap:.3f}"]


def _change(change: Interval) -> tuple[str, str]:
    if isnan(change.value):
        return "undefined", ""
    return f"{change.value:+.2%}", f"{change.low:+.2%} to {change.high:+.2%}"


def _number(value: float, digits: int = 4) -> str:
    return "-" if isnan(value) else f"{value:.{digits}f}"
