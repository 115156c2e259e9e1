"""results.json, the means over seeds, and what is to be reached."""

from collections.abc import Callable, Iterator, Sequence
from operator import ge, gt, le
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson

RESULTS = Path(__file__).parent / "results.json"
MODES = ("all", "new")
Figures = dict[str, dict[str, float]]  # by variant, then by name

RANKER_COLUMNS = ("variant", "parameters", "MB", "CPU us", "AUC", "change", "NDCG@10", "change", "overlap")
TOWER_COLUMNS = ("user tower", "parameters", "MB", "CPU us", "NDCG@10", "change", "overlap")
BUNDLE_COLUMNS = ("bundle", "MB", "process MB", "CPU us", "NDCG@10", "change", "overlap")


Rule = Literal["at most", "at least", "above"]
RULES: dict[Rule, Callable[[float, float], bool]] = {"at most": le, "at least": ge, "above": gt}


class Condition(NamedTuple):
    """What is to be reached.  found: its figure, from the rankers and the bundles of one data set in one mode; it may
    raise KeyError where a variant was not measured.  once: does not depend on the mode.
    """

    what: str
    limit: float
    found: Callable[[Figures, Figures, str], float]
    rule: Rule = "at most"
    once: bool = False


CONDITIONS = (
    Condition("int8: NDCG@10 lost", 0.005, lambda r, b, mode: -r["int8"][f"ndcg change {mode}"]),
    Condition("int8: AUC lost", 0.001, lambda r, b, mode: -r["int8"][f"auc change {mode}"]),
    Condition(
        "half the hidden units pruned: AUC lost", 0.002, lambda r, b, mode: -r["pruned fp32"][f"auc change {mode}"]
    ),
    Condition(
        "distilled: share of the parameters",
        0.25,
        lambda r, b, mode: _ratio(r, "distilled fp32", "parameters"),
        once=True,
    ),
    Condition(
        "distilled: share of the AUC",
        0.995,
        lambda r, b, mode: _ratio(r, "distilled fp32", f"auc {mode}"),
        rule="at least",
    ),
    Condition(
        "distilled: times as fast",
        2.0,
        lambda r, b, mode: 1 / _ratio(r, "distilled fp32", "us"),
        rule="at least",
        once=True,
    ),
    Condition(
        "distilled, both in int8: times as fast",
        2.0,
        lambda r, b, mode: r["int8"]["us"] / r["distilled int8"]["us"],
        rule="at least",
        once=True,
    ),
    Condition(
        "distilled: AUC over that without a teacher",
        0.0,
        lambda r, b, mode: r["distilled fp32"][f"auc {mode}"] - r["small fp32"][f"auc {mode}"],
        rule="above",
    ),
    Condition(
        "edge bundle: share of the bytes", 0.2, lambda r, b, mode: b["edge"]["bytes"] / b["default"]["bytes"], once=True
    ),
    Condition("edge bundle: NDCG@10 lost", 0.01, lambda r, b, mode: -b["edge"][f"ndcg change {mode}"]),
    Condition(
        "edge bundle of the distilled models: NDCG@10 lost against the trained ones",
        0.01,
        lambda r, b, mode: -b["edge, distilled"][f"ndcg change {mode}"],
    ),
)


def _ratio(rankers: Figures, variant: str, name: str) -> float:
    return rankers[variant][name] / rankers["fp32"][name]


def read_results(path: Path = RESULTS) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orjson.loads(path.read_bytes()) if path.exists() else []
    return found


def merge(entry: dict[str, Any], path: Path = RESULTS) -> None:
    """Put the entry in the place of that of the same data and seed."""
    by_run = {(one["data"], one["seed"]): one for one in [*read_results(path), entry]}
    merged = [by_run[key] for key in sorted(by_run)]
    path.write_bytes(orjson.dumps(merged, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def markdown(entries: Sequence[dict[str, Any]]) -> str:
    """For docs/compression.md: of each data set the means over its seeds, then what is reached."""
    parts = []
    for data in dict.fromkeys(entry["data"] for entry in entries):
        runs = [entry for entry in entries if entry["data"] == data]
        rankers, towers, bundles = (
            means([run.get(kind, {}) for run in runs]) for kind in ("rankers", "towers", "bundles")
        )
        for mode in MODES:
            if f"ndcg {mode}" not in next(iter(rankers.values()), {}):
                continue
            seeds = f"mean of {len(runs)} seeds" if len(runs) > 1 else "one seed"
            parts.append(f"### {data}, {mode} items, {seeds}")
            parts.append(_table(RANKER_COLUMNS, (_ranker_cells(*one, mode) for one in rankers.items())))
            if towers:
                parts.append(_table(TOWER_COLUMNS, (_tower_cells(*one, mode) for one in towers.items())))
            if bundles:
                parts.append(_table(BUNDLE_COLUMNS, (_bundle_cells(*one, mode) for one in bundles.items())))
        parts += [
            f"### {data}: what is to be reached",
            _table(("", "found", "limit", "reached"), reached(rankers, bundles)),
        ]
    return "\n\n".join(parts) + "\n"


def means(runs: Sequence[Figures]) -> Figures:
    """Over the runs that have the variant, and over those only where a figure is defined."""
    names = dict.fromkeys(variant for run in runs for variant in run)
    found: Figures = {}
    for variant in names:
        having = [run[variant] for run in runs if variant in run]
        found[variant] = {
            name: float(np.mean([one[name] for one in having if one.get(name) is not None])) for name in having[0]
        }
    return found


def reached(rankers: Figures, bundles: Figures) -> Iterator[list[str]]:
    """A line a condition and mode; "not measured" where a variant is missing."""
    for condition in CONDITIONS:
        for mode in MODES[:1] if condition.once else MODES:
            name = condition.what if condition.once else f"{condition.what}, {mode} items"
            limit = f"{condition.rule} {condition.limit:g}"
            try:
                value = condition.found(rankers, bundles, mode)
            except KeyError:
                yield [name, "not measured", limit, ""]
                continue
            yield [name, f"{value:.4f}", limit, "yes" if RULES[condition.rule](value, condition.limit) else "no"]


def _ranker_cells(variant: str, found: dict[str, float], mode: str) -> list[str]:
    return [
        variant,
        f"{found['parameters']:,.0f}",
        f"{found['bytes'] / 1e6:.2f}",
        f"{found['us']:.0f}",
        f"{found[f'auc {mode}']:.4f}",
        f"{found[f'auc change {mode}']:+.4f}",
        *_list_cells(found, mode),
    ]


def _tower_cells(variant: str, found: dict[str, float], mode: str) -> list[str]:
    costs = [f"{found['parameters']:,.0f}", f"{found['bytes'] / 1e6:.2f}", f"{found['us']:.0f}"]
    return [variant, *costs, *_list_cells(found, mode)]


def _bundle_cells(variant: str, found: dict[str, float], mode: str) -> list[str]:
    costs = [f"{found['bytes'] / 1e6:.2f}", f"{found['process bytes'] / 1e6:.0f}", f"{found['us']:.0f}"]
    return [variant, *costs, *_list_cells(found, mode)]


def _list_cells(found: dict[str, float], mode: str) -> list[str]:
    return [f"{found[f'ndcg {mode}']:.4f}", f"{found[f'ndcg change {mode}']:+.2%}", f"{found[f'overlap {mode}']:.3f}"]


def _table(header: Sequence[str], rows: Iterator[list[str]]) -> str:
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ruler, *rows])
