"""`shortlist compress-report`: what each way of making the models smaller costs and saves, side by side."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DATA_DIR, DataDir, reported
from export.compression import FOLDER, REPORT

if TYPE_CHECKING:
    from rich.console import Group
    from rich.progress import Progress

    from export.card import CompressionCard
    from export.compression.report import CompressionReport
    from models.contract.manifest import Profile
    from models.data.dataset import Dataset
    from models.trained import Trained

TEXT, PICTURE = "report.md", "compression.png"
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
    """Measure and write the report. Raises CheckpointError and ValueError; then nothing is written. What fails of a
    bundle is a sentence in the report."""
    from dataclasses import replace

    from cli.compare_bundles import compare_bundles, wanted_bundles
    from cli.train import read_options
    from export.compression.run import compression_report, num_steps, requests
    from models.trained import load_trained

    trained = load_trained(dataset, read_options(data_dir), data_dir / "train", for_test=True)
    compressed = load_compressed(dataset, data_dir, only)
    wanted = wanted_bundles(profiles, compressed)
    with _workshop(data_dir) as workshop, _progress() as progress:
        task = progress.add_task("requests", total=1 + num_steps(trained, compressed) + 2 * len(wanted))

        def done(step: str) -> None:
            progress.update(task, description=step, advance=1)

        asked, calibration = requests(dataset, trained)
        done("requests")
        report = compression_report(dataset, trained, compressed, asked, calibration, done)
        if wanted:
            bundles, left_out = compare_bundles(dataset, data_dir, workshop, wanted, asked, trained, done)
            report = replace(report, bundles=bundles, left_out=[*report.left_out, *left_out])
        progress.update(task, description="compared", completed=progress.tasks[task].total)
        write_report(report, data_dir, workshop)
    return report


def load_compressed(dataset: "Dataset", data_dir: Path, only: list[str]) -> "dict[str, Trained]":
    """The compressed models by name, in the order they are asked for; all that there are without a name.

    Raises ValueError for a name that is none, CheckpointError for models that cannot be used, with their name.
    """
    from cli.train import read_options_of
    from models.checkpoint import CheckpointError
    from models.compress.folder import FOLDER as COMPRESSED
    from models.compress.record import FILE
    from models.trained import load_trained

    folder = data_dir / "train" / COMPRESSED
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


def compression_card(dataset: "Dataset", data_dir: Path, training_key: str) -> "CompressionCard | None":
    """Text and picture of the report for the model card of the models of this key, trained or compressed; None when
    there is no report, it is without them, or one of its models was made anew since."""
    import orjson

    from export.card import CompressionCard
    from export.compression.current import compressed_keys, tells_of

    folder = data_dir / FOLDER
    try:
        report = orjson.loads((folder / REPORT).read_bytes())
        if not tells_of(report, training_key, compressed_keys(dataset, data_dir / "train")):
            return None
        return CompressionCard((folder / TEXT).read_text("utf-8"), (folder / PICTURE).read_bytes())
    except FileNotFoundError:
        return None


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
