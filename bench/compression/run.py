"""One trained data folder: its models made smaller and compared, by the project's own commands."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

from export.compression import FOLDER, REPORT
from export.compression.current import compressed_keys, training_key_in
from models.data.dataset import load_dataset


class CommandFailed(Exception):
    """A command that ended with an error, which it has printed."""


def run_folder(data_dir: Path, name: str, threads: int) -> dict[str, Any]:
    """The folder's entry for results.json. Raises CommandFailed."""
    report = data_dir / FOLDER / REPORT
    # `compress` leaves alone what it finished before; whether it did, only it can tell
    _run(data_dir, "compress", "--threads", str(threads))
    if not is_current(data_dir):
        _run(data_dir, "compress-report")
    return entry(orjson.loads(report.read_bytes()), name)


def is_current(data_dir: Path) -> bool:
    """Whether the report holds everything that `compress-report` would measure now."""
    report, train = data_dir / FOLDER / REPORT, data_dir / "train"
    if not is_newer(report, train):
        return False
    dataset = load_dataset(data_dir / "prepared")
    return holds(orjson.loads(report.read_bytes()), training_key_in(dataset, train), compressed_keys(dataset, train))


def holds(report: dict[str, Any], training_key: str | None, keys: dict[str, str | None]) -> bool:
    """Whether the report is of these trained models, of each of the compressed ones, and has bundles: one that was
    made with --only or --no-bundles is not enough."""
    return report["training_key"] == training_key and report["models"] == keys and bool(report["bundles"])


def is_newer(report: Path, train: Path) -> bool:
    """Whether the report was written after every stage of the models, compressed ones included."""
    if not report.exists():
        return False
    return report.stat().st_mtime_ns > max((path.stat().st_mtime_ns for path in train.rglob("*.npz")), default=0)


def entry(report: dict[str, Any], name: str) -> dict[str, Any]:
    """What is kept of a report: figures by variant.  name: of the data set."""
    return {
        "data": name,
        "seed": report["seed"],
        "training_key": report["training_key"],
        "rankers": {row["variant"]: _ranker(row) for row in report["rankers"]},
        "towers": {row["variant"]: _tower(row) for row in report["towers"]},
        "bundles": {row["variant"]: _bundle(row) for row in report["bundles"]},
    }


def _ranker(row: dict[str, Any]) -> dict[str, float]:
    figures = {
        "parameters": row["parameters"],
        "bytes": row["graph_bytes"] + row["item_bytes"],
        "us": row["user_us"] + row["head_us"],
    }
    for mode, scores in row["scores"].items():
        figures |= {f"auc {mode}": scores["auc"], f"auc change {mode}": scores["auc_change"]}
        figures |= {f"calibration error {mode}": scores["calibration_error"]}
    return figures | _lists(row)


def _tower(row: dict[str, Any]) -> dict[str, float]:
    figures = {
        "parameters": row["parameters"],
        "bytes": row["graph_bytes"] + row["item_bytes"],
        "us": row["request_us"],
    }
    return figures | _lists(row)


def _bundle(row: dict[str, Any]) -> dict[str, float]:
    figures = {"bytes": sum(row["sizes"].values()), "process bytes": row["private_bytes"], "us": row["request_us"]}
    return figures | _lists(row)


def _lists(row: dict[str, Any]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for mode, found in row["lists"].items():
        figures |= {f"ndcg {mode}": found["ndcg"], f"ndcg change {mode}": found["change"]["value"]}
        figures |= {f"overlap {mode}": found["overlap"]}
    return figures


def _run(data_dir: Path, command: str, *more: str) -> None:
    """In the data folder, so that no other shortlist.toml is read than one that lies there."""
    place = data_dir.absolute()
    arguments = [sys.executable, "-m", "cli.main", command, "--data-dir", str(place), *more]
    if subprocess.run(arguments, cwd=place, check=False).returncode:
        raise CommandFailed(f"{data_dir}: `shortlist {command}` failed; see above. What was finished stays")
