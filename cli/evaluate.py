"""`shortlist evaluate`: measure every system on the held-out future, through an exported bundle."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli.compressed import Compressed, trained_in
from cli.options import DATA_DIR, DataDir, reported
from cli.train import read_table_section

if TYPE_CHECKING:
    from export.offline import BundleSystem
    from models.data.dataset import Dataset
    from models.data.sections import LabelledSection
    from models.evaluate import System
    from models.report import Report

FOLDER = "evaluation"
REPORT = "report.json"
PER_USER = "per_user.npz"
SERVED, RETRIEVAL, TRAINED_USERS = "retrieval_ranking", "retrieval", "trained_users"
EVERYTHING = "ranker_on_everything"


def evaluate(
    data_dir: DataDir = DATA_DIR,
    baskets: bool = typer.Option(False, help="Also the next basket."),
    compressed: Compressed = None,
) -> None:
    """Evaluate the models that know nothing of the test window, as int8 graphs, and print the tables. After training
    on a labelled table: its ranker, on the table's test rows.

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
        if table := read_table_section(data_dir):
            evaluate_table(table, data_dir)
            return
        dataset = load_dataset(data_dir / "prepared")
        report = evaluate_test_bundle(dataset, data_dir, baskets=baskets, compressed=compressed)
    print_report(report, Console())
    typer.echo(f"{report_folder(data_dir, compressed) / REPORT}")


def report_folder(data_dir: Path, compressed: str | None = None) -> Path:
    """Of compressed models below that of the trained ones."""
    return data_dir / FOLDER if compressed is None else data_dir / FOLDER / "compressed" / compressed


def evaluate_test_bundle(
    dataset: "Dataset", data_dir: Path, *, baskets: bool = False, compressed: str | None = None
) -> "Report":
    """Export the models trained up to the test window, and evaluate that bundle on it. Writes report.json."""
    import shutil
    from dataclasses import replace

    import numpy as np

    from cli.export import export_bundle
    from export.offline import BundleSystem, open_models
    from models.baselines import baselines
    from models.contract.bundle import open_bundle
    from models.evaluate import evaluate_systems
    from models.targets import Window

    folder = report_folder(data_dir, compressed)
    shutil.rmtree(folder / "bundles", ignore_errors=True)  # of an evaluation before
    path = export_bundle(dataset, data_dir, folder / "bundles", for_test=True, compressed=compressed)
    bundle, split = open_bundle(path), dataset.splits.test_start_ms
    models = open_models(dataset, bundle)
    served = BundleSystem(models, split, "ranking")  # in a bundle without a ranker this is the retrieval order
    name = SERVED if bundle.manifest.ranking else RETRIEVAL
    plain = baselines(dataset, split)
    systems: dict[str, System] = {
        name: served,
        RETRIEVAL: BundleSystem(models, split, "retrieval"),
        "user_vector": BundleSystem(models, split, "user_vector"),
        **_trained_users(dataset, data_dir, compressed),
        **_ranker_on_everything(dataset, data_dir, compressed),
        **plain,
    }
    report = evaluate_systems(
        dataset,
        Window.test(dataset),
        systems,
        references=list(systems),
        rankers={"ranking": served.scored} if bundle.manifest.ranking else None,
        basket_systems={name: served, **plain} if baskets else None,
    )
    report = replace(report, training_key=bundle.manifest.training_key)
    _compare_with_service(dataset, path, served)
    np.savez(folder / PER_USER, allow_pickle=False, **report.per_user)
    _write_report(folder, report.to_json())
    return report


def _write_report(folder: Path, raw: bytes) -> None:
    """Whole or not at all."""
    import os

    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{REPORT}.tmp"
    unfinished.write_bytes(raw)
    os.replace(unfinished, folder / REPORT)


def evaluate_table(section: "LabelledSection", data_dir: Path) -> None:
    """The ranker of a labelled table on its test rows; prints the figures and writes report.json."""
    from rich.console import Console
    from rich.table import Table

    from cli.train import read_options
    from models.data.labelled import read_labelled
    from models.evaluate_labelled import evaluate_labelled
    from models.ranking.labelled import predict_rows
    from models.train_labelled import labelled_key, load_labelled

    table, options = read_labelled(section), read_options(data_dir)
    if table.test is None:
        raise ValueError("[labelled] names no test rows: set test, or valid_halved_seed, and train again")
    model = load_labelled(table, options, data_dir / "train")
    squared = options.ranker.loss == "squared"
    scores = predict_rows(model, table.test)
    report = evaluate_labelled(scores, table.test.labels, squared=squared, training_key=labelled_key(table, options))
    shown = Table("metric", "value", "95 % interval", title=f"{report.num_rows:,} test rows")
    for name, interval in report.metrics.items():
        shown.add_row(name, f"{interval.value:.4f}", f"{interval.low:.4f} to {interval.high:.4f}")
    Console().print(shown)
    _write_report(data_dir / FOLDER, report.to_json())
    typer.echo(f"{data_dir / FOLDER / REPORT}")


def _trained_users(dataset: "Dataset", data_dir: Path, compressed: str | None) -> dict[str, "System"]:
    """The retrieval model with the user vectors of its training, for a model that has them."""
    import torch

    from models.baselines import UserLog
    from models.trained import load_first_retrieval
    from models.trained_users import TrainedUsers

    model = load_first_retrieval(dataset, *trained_in(data_dir, compressed))
    with torch.inference_mode():
        users, items = model.known_user_vectors(), model.item_vectors()
    if users is None:
        return {}
    log = UserLog.of(dataset)
    return {TRAINED_USERS: TrainedUsers(users.numpy(), items.numpy(), log, dataset.splits.test_start_ms)}


def _ranker_on_everything(dataset: "Dataset", data_dir: Path, compressed: str | None) -> dict[str, "System"]:
    """A ranker that needs no candidates, over the whole catalogue, as papers measure it."""
    from models.baselines import UserLog
    from models.ranking.interactions import Everything, Sides
    from models.trained import load_trained

    options, folder = trained_in(data_dir, compressed)
    if options.ranker.model == "none" or options.ranker.learn_from == "candidates":
        return {}
    ranker = load_trained(dataset, options, folder, for_test=True).ranker
    assert ranker is not None
    sides = Sides.at(dataset, dataset.splits.valid_start_ms)  # what it was trained on
    return {EVERYTHING: Everything(ranker, sides, UserLog.of(dataset), dataset.splits.test_start_ms)}


def _compare_with_service(dataset: "Dataset", bundle: Path, served: "BundleSystem") -> None:
    """The figures are the service's only if it gives the same lists. Raises ParityError."""
    from cli.parity import check_parity
    from models.targets import Window, window_targets

    users = window_targets(dataset, Window.test(dataset), "all").users
    found = check_parity(dataset, bundle, served, users)
    typer.echo(f"parity: {found.equal:.2%} of {found.lists} lists are the same through the service")


def read_report(data_dir: Path, training_key: str, compressed: str | None = None) -> dict[str, Any] | None:
    """The last evaluation's report, parsed; None when there is none or it measured other models."""
    import orjson

    try:
        report: dict[str, Any] = orjson.loads((report_folder(data_dir, compressed) / REPORT).read_bytes())
    except FileNotFoundError:
        return None
    return report if report.get("training_key") == training_key else None


def manifest_metrics(data_dir: Path, training_key: str, compressed: str | None = None) -> dict[str, dict[str, float]]:
    """Figures of these models for the bundle's manifest; none when they were not evaluated."""
    report = read_report(data_dir, training_key, compressed)
    if report is None:
        return {}
    groups: dict[str, dict[str, float]] = {
        "test window": {"start_ms": float(report["start_ms"]), "end_ms": float(report["end_ms"])}
    }
    for section in report["sections"]:
        if section["unit"] != "window":
            continue
        served = SERVED if SERVED in section["systems"] else RETRIEVAL
        for name, system in section["systems"].items():
            group = "test" if name == served else f"test {name}"
            for metric in ("ndcg@10", "recall@20"):
                groups.setdefault(group, {})[f"{section['mode']} {metric}"] = system["metrics"][metric]["value"]
    return groups
