"""ablation.json, and its tables for people."""

from itertools import groupby
from pathlib import Path
from typing import Any

import orjson

from bench.accuracy.rows import FOLDER

RESULTS = FOLDER / "ablation.json"
MODES = ("new", "all")


def read_ablation(path: Path = RESULTS) -> dict[str, list[dict[str, Any]]]:
    """Entries by data set, as `bench.accuracy.ablation.run.ablation` gives them."""
    found: dict[str, list[dict[str, Any]]] = orjson.loads(path.read_bytes()) if path.exists() else {}
    return found


def merge_ablation(name: str, entries: list[dict[str, Any]], path: Path = RESULTS) -> None:
    """Put the entries in the place of the data set's."""
    told = orjson.dumps(read_ablation(path) | {name: entries}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    path.write_bytes(told)


def markdown_tables(by_data: dict[str, list[dict[str, Any]]]) -> str:
    """A table a data set: a line a variant, NDCG@10 by mode and its change against everything, in per cent."""
    return "\n".join(_table(name, entries) for name, entries in sorted(by_data.items()))


def _table(name: str, entries: list[dict[str, Any]]) -> str:
    modes = [mode for mode in MODES if any(entry["mode"] == mode for entry in entries)]
    head = [name, *(cell for mode in modes for cell in (f"NDCG@10, {mode} items", "change"))]
    lines = [head, ["---"] * len(head)]
    for variant, found in groupby(entries, key=lambda entry: entry["variant"]):
        by_mode = {entry["mode"]: entry for entry in found}
        lines.append([variant, *(cell for mode in modes for cell in _cells(by_mode[mode]))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cells(entry: dict[str, Any]) -> tuple[str, str]:
    change = entry["change"]
    shown = "" if change is None else "{value:+.1%} ({low:+.1%} to {high:+.1%})".format(**change)
    return f"{entry['ndcg@10']['value']:.4f}", shown
