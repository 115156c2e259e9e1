"""One row with one seed, by the project's own commands: train, then evaluate on the exported bundle."""

import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from bench.accuracy.rows import METRICS, DataSet, Mode, Row, configuration, protocol


def run_row(row: Row, seed: int, sections: str, work: Path, data_set: DataSet, threads: int) -> list[dict[str, Any]]:
    """The row's entries for results.json; remembered in `work`, so that a finished run is not run again.

    sections: of the configuration, about the data. Raises CalledProcessError when a command fails.
    """
    folder = work / row.name / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "shortlist.toml"
    text = configuration(row, seed, sections)
    done = folder / "results.json"
    key = sha256(f"{text}{row.model_dump_json()}{data_set.protocol}".encode()).hexdigest()
    if done.exists():
        stored = orjson.loads(done.read_bytes())
        if stored["key"] == key:
            entries: list[dict[str, Any]] = stored["entries"]
            return entries
    config.write_text(text, "utf-8")
    place = ["--data-dir", str(folder / "data")]
    train_s = _seconds(folder) + _run("train", "--config", str(config), "--threads", str(threads), *place)
    (folder / "train_s").write_text(str(train_s))
    _run("evaluate", *place)
    (folder / "train_s").unlink()
    report = orjson.loads((folder / "data" / "evaluation" / "report.json").read_bytes())
    entries = [
        _entry(row, seed, metric, _interval(row, mode, metric, report), protocol(data_set, row, mode), train_s)
        for mode in row.modes
        for metric in row.metrics
    ]
    done.write_bytes(orjson.dumps({"key": key, "entries": entries}, option=orjson.OPT_INDENT_2))
    return entries


def _seconds(folder: Path) -> float:
    """What a run that was interrupted after its training had taken."""
    before = folder / "train_s"
    return float(before.read_text()) if before.exists() else 0.0


def _run(*arguments: str) -> float:
    """Seconds that the command took."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "cli.main", *arguments], check=True)
    return time.perf_counter() - began


def _entry(row: Row, seed: int, metric: str, found: dict[str, float], protocol: str, train_s: float) -> dict[str, Any]:
    return {
        "data": row.data,
        "protocol": protocol,
        "model": row.model,
        "metric": metric,
        "value": found["value"],
        "low": found["low"],
        "high": found["high"],
        "seed": seed,
        "train_s": round(train_s, 1),
    }


def _interval(row: Row, mode: Mode, metric: str, report: dict[str, Any]) -> dict[str, float]:
    if mode == "labelled":
        labelled: dict[str, float] = report["labelled"][metric]
        return labelled
    section = next(s for s in report["sections"] if (s["unit"], s["mode"]) == ("window", mode))
    interval: dict[str, float] = section["systems"][row.system]["metrics"][METRICS[metric]]
    return interval
