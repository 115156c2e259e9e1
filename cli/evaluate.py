"""`shortlist evaluate`: measure every system on the held-out future, through an exported bundle."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli.options import DATA_DIR, DataDir, reported

if TYPE_CHECKING:
    from export.offline import BundleSystem
    from models.data.dataset import Dataset
    from models.report import Report

FOLDER = "evaluation"
REPORT = "report.json"
SERVED, RETRIEVAL = "retrieval_ranking", "retrieval"


def evaluate(data_dir: DataDir = DATA_DIR, baskets: bool = typer.Option(False, help="Also the next basket.")) -> None:
    """Evaluate the models that know nothing of the test window, as int8 graphs, and print the tables.

    Example: shortlist evaluate --data-dir .shortlist

    The same figures go to .shortlist/evaluation/report.json; docs/evaluation.md says how to read them.
    """
    from rich.console import Console

    from cli.parity import ParityError
    from export.gates import GateError
    from models.checkpoint import CheckpointError
    from models.contract.manifest import BundleError
    from models.data.dataset import load_dataset
    from models.data.errors import DataError
    from models.report_table import print_report

    with reported(DataError, CheckpointError, BundleError, GateError, ParityError, ValueError):
        report = evaluate_test_bundle(load_dataset(data_dir / "prepared"), data_dir, baskets=baskets)
    print_report(report, Console())
    typer.echo(f"{data_dir / FOLDER / REPORT}")


def evaluate_test_bundle(dataset: "Dataset", data_dir: Path, *, baskets: bool = False) -> "Report":
    """Export the models trained up to the test window, and evaluate that bundle on it. Writes report.json."""
    import os
    import shutil
    from dataclasses import replace

    from cli.export import export_bundle
    from export.offline import BundleSystem, open_models
    from models.baselines import baselines
    from models.contract.bundle import open_bundle
    from models.evaluate import System, evaluate_systems
    from models.targets import Window

    folder = data_dir / FOLDER
    shutil.rmtree(folder / "bundles", ignore_errors=True)  # of an evaluation before
    path = export_bundle(dataset, data_dir, folder / "bundles", for_test=True)
    bundle, split = open_bundle(path), dataset.splits.test_start_ms
    models = open_models(dataset, bundle)
    served = BundleSystem(models, split, "ranking")
    plain = baselines(dataset, split)
    systems: dict[str, System] = {
        SERVED: served,
        RETRIEVAL: BundleSystem(models, split, "retrieval"),
        "user_vector": BundleSystem(models, split, "user_vector"),
        **plain,
    }
    report = evaluate_systems(
        dataset,
        Window.test(dataset),
        systems,
        references=[SERVED, *(name for name in systems if name != SERVED)],
        rankers={"ranking": served.scored},
        basket_systems={SERVED: served, **plain} if baskets else None,
    )
    report = replace(report, training_key=bundle.manifest.training_key)
    _compare_with_service(dataset, path, served)
    unfinished = folder / f"{REPORT}.tmp"
    unfinished.write_bytes(report.to_json())
    os.replace(unfinished, folder / REPORT)
    return report


def _compare_with_service(dataset: "Dataset", bundle: Path, served: "BundleSystem") -> None:
    """The figures are the service's only if it gives the same lists. Raises ParityError."""
    from cli.parity import check_parity
    from models.targets import Window, window_targets

    users = window_targets(dataset, Window.test(dataset), "all").users
    found = check_parity(dataset, bundle, served, users)
    typer.echo(f"parity: {found.equal:.2%} of {found.lists} lists are the same through the service")


def read_report(data_dir: Path, training_key: str) -> dict[str, Any] | None:
    """The last evaluation's report, parsed; None when there is none or it measured other models."""
    import orjson

    try:
        report: dict[str, Any] = orjson.loads((data_dir / FOLDER / REPORT).read_bytes())
    except FileNotFoundError:
        return None
    return report if report.get("training_key") == training_key else None


def manifest_metrics(data_dir: Path, training_key: str) -> dict[str, dict[str, float]]:
    """Figures of these models for the bundle's manifest; none when they were not evaluated."""
    report = read_report(data_dir, training_key)
    if report is None:
        return {}
    groups: dict[str, dict[str, float]] = {
        "test window": {"start_ms": float(report["start_ms"]), "end_ms": float(report["end_ms"])}
    }
    for section in report["sections"]:
        if section["unit"] != "window":
            continue
        for name, system in section["systems"].items():
            group = "test" if name == SERVED else f"test {name}"
            for metric in ("ndcg@10", "recall@20"):
                groups.setdefault(group, {})[f"{section['mode']} {metric}"] = system["metrics"][metric]["value"]
    return groups
