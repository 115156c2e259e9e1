"""`shortlist compress-report`: what each way of making the models smaller costs and saves, side by side."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DATA_DIR, DataDir, reported

if TYPE_CHECKING:
    from rich.console import Group
    from rich.progress import Progress

    from export.card import CompressionCard
    from export.compression.bundles import Cost
    from export.compression.report import BundleRow, CompressionReport
    from export.compression.requests import Asked
    from models.contract.manifest import Profile
    from models.data.dataset import Dataset
    from models.train import Trained

FOLDER = "compression"
REPORT, TEXT, PICTURE = "report.json", "report.md", "compression.png"
PROFILES: "tuple[Profile, ...]" = ("default", "edge")


def compress_report(
    data_dir: DataDir = DATA_DIR,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A compressed model to compare; all if not given.")
    ] = None,
    bundles: Annotated[bool, typer.Option(help="Also export and compare whole bundles of each profile.")] = True,
) -> None:
    """Compare the trained models with what is made of them: float32, int8, fewer bits in tables, pruned, distilled.

    Example: shortlist compress-report --only pruned --only distilled

    Writes report.json, report.md and compression.png to .shortlist/compression; the next `shortlist export` puts both
    into the model card.
    """
    from rich.console import Console

    from cli.parity import ParityError
    from cli.train import require_log
    from export.compression.tables import notes, tables
    from export.gates import GateError
    from models.checkpoint import CheckpointError
    from models.contract.manifest import BundleError
    from models.data.dataset import load_dataset
    from models.data.errors import DataError

    with reported(DataError, CheckpointError, BundleError, GateError, ParityError, ValueError):
        require_log(data_dir)
        report = measure(load_dataset(data_dir / "prepared"), data_dir, only or [], PROFILES if bundles else ())
    console = Console()
    for table in tables(report):
        console.print(_rich(table.title, table.header, table.rows))
    for note in notes(report):
        console.print(note, style="dim", markup=False)
    typer.echo(f"{data_dir / FOLDER / TEXT}")


def measure(
    dataset: "Dataset", data_dir: Path, only: list[str], profiles: "tuple[Profile, ...]" = PROFILES
) -> "CompressionReport":
    """Measure and write the report. Raises CheckpointError, ValueError, and what an export raises; then nothing is
    written."""
    from dataclasses import replace

    from cli.train import read_options
    from export.compression.run import compression_report, num_steps, requests
    from models.train import load_trained

    trained = load_trained(dataset, read_options(data_dir), data_dir / "train", for_test=True)
    compressed = load_compressed(dataset, data_dir, only)
    with _workshop(data_dir) as workshop, _progress() as progress:
        task = progress.add_task("requests", total=1 + num_steps(trained, compressed) + 2 * len(profiles))

        def done(step: str) -> None:
            progress.update(task, description=step, advance=1)

        asked, calibration = requests(dataset, trained)
        done("requests")
        report = compression_report(dataset, trained, compressed, asked, calibration, done)
        if profiles:
            report = replace(report, bundles=_bundles(dataset, data_dir, workshop, profiles, asked, trained, done))
        progress.update(task, description="compared", completed=progress.tasks[task].total)
        write_report(report, data_dir, workshop)
    return report


def load_compressed(dataset: "Dataset", data_dir: Path, only: list[str]) -> "dict[str, Trained]":
    """The compressed models by name, in the order they are asked for; all that there are without a name.

    Raises ValueError for a name that is none, CheckpointError for models that cannot be used, with their name.
    """
    from cli.train import read_options_of
    from models.checkpoint import CheckpointError
    from models.compress import run
    from models.compress.record import FILE
    from models.train import load_trained

    folder = data_dir / "train" / run.FOLDER
    there = sorted(path.parent.name for path in folder.glob(f"*/{FILE}"))
    if unknown := [name for name in only if name not in there]:
        raise ValueError(
            f"--only {unknown[0]}: there is no such compressed model below {folder}; there are "
            f"{', '.join(there) or 'none'}: run `shortlist compress` for more"
        )
    found = {}
    for name in dict.fromkeys(only or there):
        path = folder / name
        try:
            found[name] = load_trained(dataset, read_options_of(path), path, for_test=True)
        except CheckpointError as error:
            raise CheckpointError(
                f"the compressed model {name} cannot be compared: {error}\n"
                f"Make it again with `shortlist compress --only {name}`, or delete {path}"
            ) from error
    return found


def write_report(report: "CompressionReport", data_dir: Path, workshop: Path) -> None:
    """All files of the report, or none.  workshop: a folder of the same file system."""
    from export.compression.plot import picture
    from export.compression.tables import markdown

    staged, target = workshop / FOLDER, data_dir / FOLDER
    staged.mkdir()
    (staged / REPORT).write_bytes(report.to_json())
    (staged / TEXT).write_text(markdown(report), "utf-8")
    (staged / PICTURE).write_bytes(picture(report))
    if target.exists():
        target.rename(workshop / "before")
    staged.rename(target)


def compression_card(data_dir: Path, training_key: str) -> "CompressionCard | None":
    """Text and picture of the report for the model card; None when there is none or it is of other models."""
    import orjson

    from export.card import CompressionCard

    folder = data_dir / FOLDER
    try:
        if orjson.loads((folder / REPORT).read_bytes())["training_key"] != training_key:
            return None
        return CompressionCard((folder / TEXT).read_text("utf-8"), (folder / PICTURE).read_bytes())
    except FileNotFoundError:
        return None


def _bundles(
    dataset: "Dataset",
    data_dir: Path,
    workshop: Path,
    profiles: "tuple[Profile, ...]",
    asked: "Asked",
    trained: "Trained",
    done: Callable[[str], None],
) -> "list[BundleRow]":
    """A bundle of each profile, exported for the test window, measured and thrown away."""
    from cli.export import export_bundle
    from export.compression.bundles import bundle_rows

    paths: dict[str, Path] = {}
    for profile in profiles:
        paths[profile] = export_bundle(dataset, data_dir, workshop / profile, for_test=True, profile=profile)
        done(f"bundle {profile}")
    return bundle_rows(
        dataset, paths, lambda path: bundle_cost(path, data_dir), asked, trained.until_ms, trained.options.seed, done
    )


def bundle_cost(bundle: Path, data_dir: Path) -> "Cost":
    """Measured in a process of its own (cli/bundle_cost.py), with one thread, as a worker of the service runs."""
    import os
    import subprocess
    import sys

    import orjson

    from export.compression.bundles import Cost

    command = [sys.executable, "-m", "cli.bundle_cost", str(bundle), str(data_dir)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    return Cost(**orjson.loads(answer.stdout))


@contextmanager
def _workshop(data_dir: Path) -> Iterator[Path]:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix=".compression-", dir=data_dir) as name:
        yield Path(name)


def _progress() -> "Progress":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<27}"), BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns)


def _rich(title: str, header: list[str], rows: list[list[str]]) -> "Group":
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", no_wrap=not number)
    for row in rows:
        table.add_row(*row)
    return Group(Text(title, "bold"), table)
