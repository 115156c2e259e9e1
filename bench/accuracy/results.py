"""results.json, and the table of it for people."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from rich import box
from rich.table import Table as RichTable

from bench.accuracy.rows import FOLDER, Row, Table, protocol

RESULTS = FOLDER / "results.json"
COLUMNS = ("data", "model", "metric", "mean", "interval", "published", "seeds", "train s")
_IDENTITY = ("data", "protocol", "model", "metric", "seed")


def read_results(path: Path = RESULTS) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orjson.loads(path.read_bytes()) if path.exists() else []
    return found


def merge_results(entries: list[dict[str, Any]], path: Path = RESULTS) -> None:
    """Put the entries in the place of those of the same data, model, metric and seed."""
    merged = {_identity(entry): entry for entry in [*read_results(path), *entries]}
    ordered = [merged[key] for key in sorted(merged)]
    path.write_bytes(orjson.dumps(ordered, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


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
    """The mean over seeds of every row and metric beside what others have published."""
    by_metric: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        by_metric[entry["protocol"], entry["model"], entry["metric"]].append(entry)
    for row in rows:
        for mode, metric in product(row.modes, row.metrics):
            found = by_metric[protocol(table.data[row.data], row, mode), row.model, metric]
            published = row.level(mode, metric)
            yield [
                row.data if len(row.modes) == 1 else f"{row.data}, {mode} items",
                row.model,
                metric,
                f"{_mean(found, 'value'):.4f}" if found else "-",
                f"{_mean(found, 'low'):.4f} to {_mean(found, 'high'):.4f}" if found else "",
                f"{published:.4f}" if published is not None else "",
                str(len(found)),
                f"{_mean(found, 'train_s'):.0f}" if found else "",
            ]


def _identity(entry: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(entry[name] for name in _IDENTITY)


def _mean(entries: list[dict[str, Any]], name: str) -> float:
    return float(np.mean([entry[name] for entry in entries]))
