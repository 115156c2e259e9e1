"""`shortlist export`: from the trained models to a verified bundle, and the pointer to it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.compressed import Compressed, trained_in
from cli.options import DATA_DIR, DataDir, reported

if TYPE_CHECKING:
    from export.index import IndexWish
    from models.contract.manifest import Manifest
    from models.data.dataset import Dataset

Profile = Literal["default", "edge"]  # as in models.contract.manifest, which is loaded when it is needed
FLOW_USERS = 200  # whose lists are compared before a bundle is published


def export(
    data_dir: DataDir = DATA_DIR,
    shift_to_now: bool = typer.Option(
        False,
        help="Move all times by whole days so that the data ends within the last day: for old data, whose users would "
        "look long gone. Data with archived events keeps the shift that those events were taken at.",
    ),
    profile: Annotated[
        Profile, typer.Option(help="edge: the smallest bundle within 1 % of NDCG@10, for small servers and devices.")
    ] = "default",
    compressed: Compressed = None,
    index: Annotated[
        str | None, typer.Option(help="A kind of index in place of the automatic choice: a FAISS factory string.")
    ] = None,
    index_parameter: Annotated[
        list[str] | None,
        typer.Option(help="Of that kind, as nprobe=64; may be repeated. What is left open is tuned.", metavar="NAME=N"),
    ] = None,
    index_recall: Annotated[
        float | None, typer.Option(help="Least recall@200 of the index, in place of the one for the catalogue's size.")
    ] = None,
    activate: bool = typer.Option(True, help="Make the bundle the active one; a running service follows."),
) -> None:
    """Export the trained models as int8 graphs and an index; refused unless every gate holds.

    Example: shortlist export --data-dir .shortlist --index IVF4096,SQ8 --index-parameter nprobe=64
    """
    from cli.parity import ParityError
    from cli.train import require_log
    from export.gates import GateError
    from export.index import IndexWish
    from export.sizes import bundle_size
    from models.checkpoint import CheckpointError
    from models.contract.manifest import BundleError
    from models.data.dataset import load_dataset
    from models.data.errors import DataError

    with reported(DataError, CheckpointError, BundleError, GateError, ParityError, ValueError):
        require_log(data_dir)
        dataset = load_dataset(data_dir / "prepared")
        path = export_bundle(
            dataset,
            data_dir,
            data_dir / "bundles",
            for_test=False,
            shift_to_now=shift_to_now,
            profile=profile,
            compressed=compressed,
            index_wish=IndexWish(index, index_parameters(index_parameter or []), index_recall),
        )
        if activate:
            activate_bundle(path)
    for part, size in bundle_size(path).items():
        typer.echo(f"{size / 1e6:8.2f} MB  {part}")
    typer.echo(f"{path}{' is active' if activate else ''}")
    typer.echo("Next: shortlist load, then shortlist serve")


def index_parameters(given: list[str]) -> dict[str, int]:
    """Of "nprobe=64". Raises ValueError."""
    parameters = {}
    for one in given:
        name, _, value = one.partition("=")
        if not (name.isidentifier() and value.isdecimal()):
            raise ValueError(f'--index-parameter "{one}" is no name with a whole number, such as nprobe=64')
        parameters[name] = int(value)
    return parameters


def export_bundle(
    dataset: "Dataset",
    data_dir: Path,
    bundles_dir: Path,
    *,
    for_test: bool,
    shift_to_now: bool = False,
    profile: Profile = "default",
    compressed: str | None = None,
    index_wish: "IndexWish | None" = None,
) -> Path:
    """Write a bundle of the models before the test window, or of the last ones. Raises GateError, CheckpointError."""
    import time
    from importlib.metadata import version

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from cli.compress_report import compression_card
    from cli.evaluate import manifest_metrics
    from export.index import AUTOMATIC
    from export.run import STEPS, build_content
    from export.write import write_bundle
    from models.trained import load_trained

    options, folder = trained_in(data_dir, compressed)
    trained = load_trained(dataset, options, folder, for_test=for_test)
    now_ms = int(time.time() * 1000) if shift_to_now else None
    shift = 0 if for_test else _clock_shift_ms(dataset, now_ms)
    columns = (TextColumn("{task.description:<19}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("export", total=len(STEPS))
        content = build_content(
            dataset,
            trained,
            code_version=version("shortlist"),
            clock_shift_ms=shift,
            metrics={} if for_test else manifest_metrics(data_dir, trained.key, compressed),
            compression=None if for_test else compression_card(dataset, data_dir, trained.key),
            active=None if for_test else active_manifest(bundles_dir),
            profile=profile,
            index_wish=index_wish or AUTOMATIC,
            on_step=lambda step: progress.update(task, description=step, completed=STEPS.index(step)),
        )
        progress.update(task, description="exported", completed=len(STEPS))
    return write_bundle(bundles_dir, content, check=lambda staged: _check_flow(dataset, staged, trained.until_ms))


def _check_flow(dataset: "Dataset", staged: Path, until_ms: int) -> None:
    """The gate that needs the whole request flow: the service gives the lists of the offline evaluation."""
    import numpy as np

    from cli.parity import check_parity
    from export.offline import BundleSystem, open_models
    from models.contract.bundle import open_bundle

    # those with a history: who has none gets the popular list from the service, and no place in the evaluation
    known = np.unique(dataset.interactions.before(until_ms).user_index).astype(np.int64)
    users = known[np.unique(np.linspace(0, len(known) - 1, min(FLOW_USERS, len(known))).astype(np.int64))]
    check_parity(dataset, staged, BundleSystem(open_models(dataset, open_bundle(staged)), until_ms, "ranking"), users)


def _clock_shift_ms(dataset: "Dataset", now_ms: int | None) -> int:
    """What brings the data's times to the service's clock.  now_ms: which moment, None for no shift.

    It is whole days: features count by UTC day, so another constant would give serving other ones than training.
    Archived events tell it, whatever the option says: the users' states hold those events at the times they came, and
    with another shift `load` could not tell that they are the same.
    """
    from models.contract.state import DAY_MS

    if dataset.report.clock_shift_ms is not None:
        return dataset.report.clock_shift_ms
    return 0 if now_ms is None else (now_ms - dataset.splits.end_ms) // DAY_MS * DAY_MS


def active_manifest(bundles_dir: Path) -> "Manifest | None":
    """The manifest of the active bundle; None before there is one, and where it is damaged: a new one replaces it."""
    from models.contract.manifest import BundleError
    from models.contract.verify import verify_bundle
    from models.contract.versions import bundle_path, read_active

    try:
        active = read_active(bundles_dir)
        return verify_bundle(bundle_path(bundles_dir, active)) if active else None
    except BundleError as error:
        typer.echo(f"the active bundle cannot be compared with: {error}", err=True)
        return None


def activate_bundle(path: Path) -> None:
    """Move the pointer to `<data dir>/bundles/<version>`. Raises BundleError while a service swaps bundles."""
    from app.errors import ActivationBusy
    from app.workers import only_one_activation
    from models.contract.manifest import BundleError
    from models.contract.versions import write_active

    try:
        with only_one_activation(path.parent.parent / "run"):
            write_active(path.parent, path.name)
    except ActivationBusy:
        todo = f"is exported but not active: another activation is under way; then POST /bundles/{path.name}/activate"
        raise BundleError(path.name, todo) from None
