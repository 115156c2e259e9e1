"""A row against others of the same data, user by user: what the second stage adds to the best single model."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from bench.accuracy.rows import FOLDER, METRICS, Mode, Row, Table
from models.bootstrap import paired_interval

GAINS = FOLDER / "gains.json"


def write_gains(table: Table, work: Path, path: Path = GAINS) -> list[dict[str, Any]]:
    """Compare every row that has `against` with those of these rows whose runs are in `work`."""
    by_name = {row.name: row for row in table.row}
    found = [
        gain
        for row in table.row
        for other in row.against
        for mode in row.modes
        for metric in row.metrics
        if metric in METRICS and (gain := _gain(row, by_name[other], mode, METRICS[metric], work)) is not None
    ]
    if found:
        path.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return found


def _gain(row: Row, other: Row, mode: Mode, metric: str, work: Path) -> dict[str, Any] | None:
    """Means over the seeds that both have; None where one of them has not run."""
    seeds = [seed for seed in row.seeds if all(_file(one, seed, work).exists() for one in (row, other))]
    if not seeds:
        return None
    values, reference = (np.mean([_values(one, seed, mode, metric, work) for seed in seeds], 0) for one in (row, other))
    paired = paired_interval(values, reference, seed=0)
    return {
        "data": row.data,
        "mode": mode,
        "model": row.model,
        "against": other.model,
        "metric": metric,
        "seeds": seeds,
        "difference": asdict(paired.difference),
        "relative": asdict(paired.relative),
    }


def _file(row: Row, seed: int, work: Path) -> Path:
    return work / row.name / str(seed) / "data" / "evaluation" / "per_user.npz"


def _values(row: Row, seed: int, mode: Mode, metric: str, work: Path) -> NDArray[np.float64]:
    """float64 [U], by ascending user index: two trainings on the same data have the same users."""
    with np.load(_file(row, seed, work), allow_pickle=False) as file:
        values: NDArray[np.float64] = file[f"window/{mode}/{row.system}/{metric}"]
    return values
