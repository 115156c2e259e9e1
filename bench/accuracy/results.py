"""results.json, and the table of it for people."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from rich import box
from rich.table import Table as RichTable

from bench.accuracy.rows import FOLDER, MODE_SUFFIXES, Row, Table, mode_suffix, protocol

RESULTS = FOLDER / "results.json"
COLUMNS = ("data", "model", "metric", "mean", "interval", "sd over seeds", "published", "to reach", "seeds", "train s")


def read_results(path: Path = RESULTS) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orjson.loads(path.read_bytes()) if path.exists() else []
    return found


def merge_results(entries: list[dict[str, Any]], table: Table, path: Path = RESULTS) -> None:
    """Put the entries in the place of those of the same data, model, metric, kind of targets and seed, however their
    protocol was worded; what no row of the table measures any more goes."""
    measured = {
        (row.data, row.model, metric, mode_suffix(row, mode))
        for row in table.row
        for mode, metric in product(row.modes, row.metrics)
    }
    merged = merge([*read_results(path), *entries], _identity)
    write_list([entry for entry in merged if _identity(entry)[:-1] in measured], path)


def merge(entries: list[dict[str, Any]], identity: Callable[[dict[str, Any]], tuple[Any, ...]]) -> list[dict[str, Any]]:
    """The last of each identity, in the order of the identities."""
    last = {identity(entry): entry for entry in entries}
    return [last[key] for key in sorted(last)]


def write_list(entries: list[dict[str, Any]], path: Path) -> None:
    path.write_bytes(orjson.dumps(entries, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def results_table(table: Table, rows: list[Row], entries: list[dict[str, Any]]) -> RichTable:
    """For a terminal."""
    left, right = COLUMNS[:3], COLUMNS[3:]
    shown = RichTable(*left, box=box.SIMPLE_HEAD)
    for name in right:
        shown.add_column(name, justify="right")
    for cells in _cells(table, rows, entries):
        shown.add_row(*cells)
    return shown


def markdown_table(table: Table, rows: list[Row], entries: list[dict[str, Any]]) -> str:
    """For docs/models.md."""
    lines = [list(COLUMNS), ["---"] * len(COLUMNS), *_cells(table, rows, entries)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cells(table: Table, rows: list[Row], entries: list[dict[str, Any]]) -> Iterator[list[str]]:
    """The mean over the row's own seeds for every row and metric, beside what others have published."""
    by_metric: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        by_metric[entry["protocol"], entry["model"], entry["metric"]].append(entry)
    for row in rows:
        for mode, metric in product(row.modes, row.metrics):
            all_seeds = by_metric[protocol(table.data[row.data], row, mode), row.model, metric]
            found = [entry for entry in all_seeds if entry["seed"] in row.seeds]
            yield [
                row.data if len(row.modes) == 1 else f"{row.data}, {mode} items",
                row.model,
                metric,
                f"{_mean(found, 'value'):.4f}" if found else "-",
                f"{_mean(found, 'low'):.4f} to {_mean(found, 'high'):.4f}" if found else "",
                f"{np.std([entry['value'] for entry in found], ddof=1):.4f}" if len(found) > 1 else "",
                _figure(row.published.get(metric)),
                _figure(row.level_to_reach(mode, metric)),
                str(len(found)),
                f"{_mean(found, 'train_s'):.0f}" if found else "",
            ]


def _identity(entry: dict[str, Any]) -> tuple[str, str, str, str, int]:
    """Of results.json only the protocol's text tells the kind of targets."""
    suffix = next((suffix for suffix in MODE_SUFFIXES.values() if entry["protocol"].endswith(suffix)), "")
    return entry["data"], entry["model"], entry["metric"], suffix, entry["seed"]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _mean(entries: list[dict[str, Any]], name: str) -> float:
    return float(np.mean([entry[name] for entry in entries]))
