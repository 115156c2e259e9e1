"""A row against others of the same data, user by user: what the second stage adds to the best single model."""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.accuracy.results import merge, read_results, write_list
from bench.accuracy.rows import FOLDER, METRICS, Mode, Row, Table
from bench.accuracy.run import EVALUATION, finished, run_folder
from models.bootstrap import paired_interval

GAINS = FOLDER / "gains.json"


class Lists(NamedTuple):
    """What is compared: a system's lists in the report of a row, by the name that gains.json has."""

    row: Row
    system: str
    name: str


def write_gains(table: Table, sections: Mapping[str, str], work: Path, path: Path = GAINS) -> list[dict[str, Any]]:
    """Compare every row that has `against` with those of these rows that are finished as they are configured now.

    sections: by data set; rows of other data keep what gains.json has. Returns what was compared.
    """
    compared = [
        (row, other, mode, metric)
        for row in table.row
        for other in against(row, table)
        for mode, metric in product(row.modes, row.metrics)
    ]
    runs = _Runs(table, sections, work)
    found = [gain for one in compared if one[0].data in sections and (gain := runs.gain(*one))]
    wanted = {(row.data, row.model, other.name, mode, metric) for row, other, mode, metric in compared}
    if found:
        merged = merge([*read_results(path), *found], _identity)
        write_list([gain for gain in merged if _identity(gain) in wanted], path)
    return found


def against(row: Row, table: Table) -> list[Lists]:
    """`against` of a row: another row is named by its model, a system of the row's own report as a baseline."""
    rows = {one.name: one for one in table.row}
    return [
        Lists(rows[name], rows[name].system, rows[name].model) if "/" in name else Lists(row, name, f"baseline {name}")
        for name in row.against
    ]


class _Runs(NamedTuple):
    table: Table
    sections: Mapping[str, str]
    work: Path

    def gain(self, row: Row, other: Lists, mode: Mode, metric: str) -> dict[str, Any] | None:
        """Means over the seeds that both have; None where one of them has not run."""
        seeds = [seed for seed in row.seeds if self._finished(row, seed) and self._finished(other.row, seed)]
        if not seeds:
            return None
        own = Lists(row, row.system, row.model)
        runs = [[self._read(lists, seed, mode, metric) for seed in seeds] for lists in (own, other)]
        users = [users for found in runs for users, _ in found]
        if not all(np.array_equal(users[0], others) for others in users):
            raise ValueError(
                f"{row.name} and {other.row.name} were measured on other users, so their data are not the same: delete "
                f"one of the two below {self.work} and run it again"
            )
        values, reference = (np.mean([values for _, values in found], 0) for found in runs)
        paired = paired_interval(values, reference, seed=0)
        return {
            "data": row.data,
            "mode": mode,
            "model": row.model,
            "against": other.name,
            "metric": metric,
            "seeds": seeds,
            "difference": asdict(paired.difference),
            "relative": asdict(paired.relative),
        }

    def _finished(self, row: Row, seed: int) -> bool:
        found = finished(row, seed, self.sections[row.data], self.work, self.table.data[row.data])
        return found is not None

    def _read(self, lists: Lists, seed: int, mode: Mode, metric: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Users int64 [U], ascending, and their values, float64 [U]."""
        path = run_folder(lists.row, seed, self.work) / EVALUATION / "per_user.npz"
        with np.load(path, allow_pickle=False) as file:
            return file[f"window/{mode}/users"], file[f"window/{mode}/{lists.system}/{METRICS[metric]}"]


def _identity(gain: dict[str, Any]) -> tuple[str, str, str, str, str]:
    return gain["data"], gain["model"], gain["against"], gain["mode"], gain["metric"]
