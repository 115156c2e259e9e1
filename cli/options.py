"""Options that several commands share, and how a command ends when something is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

DataDir = Annotated[Path, typer.Option(envvar="SHORTLIST_DATA_DIR", help="Folder for everything that Shortlist makes.")]
ConfigFile = Annotated[Path, typer.Option(help="The shortlist.toml that names your files and columns.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of training; all cores if not given.")]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="Where models learn; auto: a GPU where there is one.")
]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "bf16"],
    typer.Option(help="Of matrix products; auto: bf16 on a GPU that has it, fp32 elsewhere."),
]

DATA_DIR = Path(".shortlist")
CONFIG = Path("shortlist.toml")


@contextmanager
def reported(*kinds: type[Exception]) -> Iterator[None]:
    """An error of these kinds is the user's to mend: its sentence on stderr, exit code 2. Ctrl-C ends with 130."""
    try:
        yield
    except kinds as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; run the same command again to go on", err=True)
        raise typer.Exit(130) from None
