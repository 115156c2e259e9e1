"""One row with one seed, by the project's own commands: train, then evaluate on the exported bundle."""

import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from bench.accuracy.rows import METRICS, DataSet, Mode, Row, configuration, protocol

EVALUATION = Path("data", "evaluation")  # of a run's folder


def run_row(row: Row, seed: int, sections: str, work: Path, data_set: DataSet, threads: int) -> list[dict[str, Any]]:
    """The row's entries for results.json; remembered in `work`, so that a finished run is not run again.

    sections: of the configuration, about the data. Raises CalledProcessError when a command fails, ValueError when the
    evaluation left out what the row is measured on.
    """
    entries = finished(row, seed, sections, work, data_set)
    if entries is not None:
        return entries
    folder = run_folder(row, seed, work)
    folder.mkdir(parents=True, exist_ok=True)
    config, text = folder / "shortlist.toml", configuration(row, seed, sections)
    config.write_text(text, "utf-8")
    place = ["--data-dir", str(folder / "data")]
    train = ["train", "--config", str(config), "--threads", str(threads), *place]
    train_s = seconds(folder / "train_s.json", training_key(text), lambda: _run(*train), time.perf_counter)
    _run("evaluate", *place)
    entries = report_entries(row, seed, data_set, folder / EVALUATION / "report.json", train_s)
    stored = {"key": run_key(text, row, data_set), "entries": entries}
    (folder / "results.json").write_bytes(orjson.dumps(stored, option=orjson.OPT_INDENT_2))
    return entries


def finished(row: Row, seed: int, sections: str, work: Path, data_set: DataSet) -> list[dict[str, Any]] | None:
    """Entries of the run as the row is configured now; None where it has still to be run."""
    path = run_folder(row, seed, work) / "results.json"
    if not path.exists():
        return None
    stored = orjson.loads(path.read_bytes())
    entries: list[dict[str, Any]] = stored["entries"]
    return entries if stored["key"] == run_key(configuration(row, seed, sections), row, data_set) else None


def run_folder(row: Row, seed: int, work: Path) -> Path:
    return work / row.name / str(seed)


def run_key(text: str, row: Row, data_set: DataSet) -> str:
    """Of all that entries follow from: the training, and what is read from the report.  text: of shortlist.toml."""
    read = row.model_dump_json(include={"model", "system", "modes", "metrics"})
    return sha256(f"{training_key(text)}{read}{data_set.protocol}".encode()).hexdigest()


def training_key(text: str) -> str:
    """Of the settings, whatever comments stand beside them, and of the code as far as its versions tell."""
    from models.data.dataset import FORMAT_VERSION
    from models.data.write import PREPARE_VERSION
    from models.stage_files import MODEL_VERSION

    told = [tomllib.loads(text), FORMAT_VERSION, PREPARE_VERSION, MODEL_VERSION]
    return sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()


def report_entries(row: Row, seed: int, data_set: DataSet, path: Path, train_s: float) -> list[dict[str, Any]]:
    """path: of the evaluation's report. Raises ValueError when it lacks a section that the row names in `modes`."""
    report = orjson.loads(path.read_bytes())
    return [
        _entry(row, seed, metric, _interval(row, mode, metric, report, path), protocol(data_set, row, mode), train_s)
        for mode in row.modes
        for metric in row.metrics
    ]


def seconds(path: Path, key: str, train: Callable[[], None], clock: Callable[[], float]) -> float:
    """Seconds that a training takes, those of interrupted runs too; one that is done takes none to find that out.

    path: where they are kept.  key: of the training; seconds of another do not count.  train: goes on where it stopped.
    """
    spent = orjson.loads(path.read_bytes()) if path.exists() else {}
    if spent.get("key") != key:
        spent = {"key": key, "train_s": 0.0, "done": False}
    began = clock()
    try:
        train()
    finally:
        if not spent["done"]:
            spent["train_s"] += clock() - began
            path.write_bytes(orjson.dumps(spent))
    path.write_bytes(orjson.dumps(spent | {"done": True}))
    train_s: float = spent["train_s"]
    return train_s


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "cli.main", *arguments], check=True)


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


def _interval(row: Row, mode: Mode, metric: str, report: dict[str, Any], path: Path) -> dict[str, float]:
    if mode == "labelled":
        labelled: dict[str, float] = report["labelled"][metric]
        return labelled
    section = next((s for s in report["sections"] if (s["unit"], s["mode"]) == ("window", mode)), None)
    if section is None:
        reasons = "; ".join(report["left_out"]) or "its evaluation was not asked for it"
        raise ValueError(
            f"{path}: has no section of unit 'window' and mode {mode!r}: {reasons}. "
            f"Use more data, or take the mode out of row {row.name!r} in rows.toml"
        )
    interval: dict[str, float] = section["systems"][row.system]["metrics"][METRICS[metric]]
    return interval
