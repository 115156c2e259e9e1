"""`shortlist movielens`: a folder of MovieLens as files that `shortlist prepare` reads."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.options import reported

Protocol = Literal["leave-last-out", "random", "time"]


def movielens(
    folder: Annotated[Path, typer.Argument(help="Where MovieLens was unpacked: u.data, ratings.dat or ratings.csv.")],
    to: Annotated[Path, typer.Option(help="Folder to write the Parquet files and shortlist.toml into.")],
    protocol: Annotated[
        Protocol, typer.Option(help="leave-last-out: papers on sequences. random: RecBole's. time: as one would serve.")
    ] = "leave-last-out",
) -> None:
    """Read MovieLens (100K, 1M, 10M, 20M or later) from your folder, for comparing with published figures.

    Shortlist neither contains nor downloads it.

    Example: shortlist movielens ml-100k --to ml
    """
    from models.data.errors import DataError
    from models.data.movielens import LICENCE, write_movielens

    with reported(DataError):
        written = write_movielens(folder, to, protocol)
    typer.echo(f"{written.ratings:,} ratings of {written.movies:,} movies by {written.users:,} users")
    if written.kept:
        typer.echo(f"{written.config} was edited and stays as it is; remove it to have it written for {protocol}")
    typer.echo(f"{LICENCE}\nNext: shortlist prepare --config {written.config}")
