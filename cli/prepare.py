"""`shortlist prepare`: from Parquet or CSV files to the prepared dataset that everything else reads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from models.data.config import Config
    from models.data.prepare import Prepared

_LABELS = {
    "interactions": "Reading and judging interactions",
    "items": "Encoding items",
    "users": "Encoding users",
    "order": "Joining and ordering",
    "write": "Writing",
}


def prepare(
    config: Annotated[Path, typer.Option(help="The shortlist.toml that names your files and columns.")] = Path(
        "shortlist.toml"
    ),
    data_dir: Annotated[
        Path, typer.Option(envvar="SHORTLIST_DATA_DIR", help="Folder for everything that Shortlist makes.")
    ] = Path(".shortlist"),
) -> None:
    """Validate, split and encode your data. Run again with the same input, it does nothing.

    Example: shortlist prepare --config docs/example/shortlist.toml --data-dir /tmp/books
    """
    from models.data.config import load_config
    from models.data.errors import DataError

    try:
        prepared = prepare_with_progress(load_config(config), data_dir)
    except DataError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    show_report(prepared)


def prepare_with_progress(config: "Config", data_dir: Path) -> "Prepared":
    """Prepare while a progress bar names the step. Raises DataError."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from models.data.archive import NAME as ARCHIVED
    from models.data.prepare import STEPS, prepare_dataset

    columns = (TextColumn("{task.description:<34}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn()) as progress:
        task = progress.add_task("Comparing with the last run", total=len(STEPS))

        def on_step(step: str) -> None:
            progress.update(task, description=_LABELS[step], completed=STEPS.index(step))

        prepared = prepare_dataset(config, data_dir, on_step)
        told, events = "Up to date" if prepared.reused else "Prepared", prepared.report.sources.get(ARCHIVED)
        told += f", with {events.rows:,} archived events" if events else ""
        progress.update(task, description=told, completed=len(STEPS))
    return prepared


def show_report(prepared: "Prepared") -> None:
    """Print the report as a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("What", "How many", title=escape(str(prepared.folder)))
    table.columns[1].justify = "right"
    for what, count in prepared.report.lines():
        table.add_row(escape(what), count)
    console = Console()
    console.print(table)
    if prepared.reused:
        console.print("The same input and configuration as before: nothing was done.")
