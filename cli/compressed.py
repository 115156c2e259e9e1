"""`--compressed NAME`: the training folder that a command reads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from models.options import TrainSection

Compressed = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Models that `shortlist compress` made, in place of the trained ones."),
]


def trained_in(data_dir: Path, compressed: str | None) -> "tuple[TrainSection, Path]":
    """Options and folder of the trained models, or of the compressed ones of that name. Raises ValueError for a name
    that is none, CheckpointError where nothing was trained."""
    from cli.train import read_options, read_options_of
    from models.compress.folder import FOLDER, compressed_folder
    from models.compress.record import FILE

    folder = data_dir / "train"
    if compressed is None:
        return read_options(data_dir), folder
    there = sorted(path.parent.name for path in (folder / FOLDER).glob(f"*/{FILE}"))
    if compressed not in there:
        raise ValueError(
            f"--compressed {compressed}: there is no such model below {folder / FOLDER}; there are "
            f"{', '.join(there) or 'none'}: run `shortlist compress` for more"
        )
    path = compressed_folder(folder, compressed)
    return read_options_of(path), path
