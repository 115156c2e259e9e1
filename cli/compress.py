"""`shortlist compress`: smaller models of the trained ones, each a training folder of its own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.only_one import only_one
from cli.options import CONFIG, DATA_DIR, ConfigFile, DataDir, DeviceOption, PrecisionOption, Threads, reported

if TYPE_CHECKING:
    from models.compress.teacher import Teacher


def compress(
    config: ConfigFile = CONFIG,
    data_dir: DataDir = DATA_DIR,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="pruned, magnitude, distilled, distilled-pruned, small (the student without a teacher); "
            "retrieval-pruned, retrieval-magnitude, retrieval-distilled, retrieval-small; both-distilled. Without a "
            "name, those of the ranker; without a ranker, those of retrieval.",
        ),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Data folder whose models teach; the trained models themselves if not given.")
    ] = None,
    threads: Threads = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Make the trained models smaller, by [compress] of shortlist.toml: hidden units pruned, weights set to zero, or a
    small model taught by the large one. Interrupted, run it again: it goes on.

    Example: shortlist compress --only distilled --only pruned

    Then: shortlist evaluate --compressed distilled, shortlist export --compressed distilled
    """
    import torch

    from cli.progress import TrainProgress
    from cli.train import read_options, require_log
    from models.checkpoint import CheckpointError
    from models.compress.folder import FOLDER
    from models.compress.options import CompressSection
    from models.compress.run import compress as make_smaller
    from models.data.config import load_config
    from models.data.dataset import load_dataset
    from models.data.errors import DataError
    from models.hardware import choose_hardware

    with reported(DataError, CheckpointError, ValueError):
        # the models are those that were trained, whatever the file says of [train] by now
        section = load_config(config).compress if config.exists() or config != CONFIG else CompressSection()
        require_log(data_dir)
        hardware = choose_hardware(device, precision)
        options, dataset = read_options(data_dir), load_dataset(data_dir / "prepared")
        teaching = None if teacher is None else _teacher(teacher)
        if threads is not None:
            torch.set_num_threads(threads)
        folder = data_dir / "train"
        with only_one(data_dir), TrainProgress(folder / FOLDER / "tensorboard") as progress:
            made = make_smaller(dataset, options, folder, section, progress, only or [], teaching, hardware)
    for path in made:
        typer.echo(str(path))
    typer.echo(f"Next: shortlist evaluate --compressed {made[0].name}, then shortlist export --compressed ...")


def _teacher(data_dir: Path) -> "Teacher":
    from cli.train import read_options, require_log
    from models.compress.teacher import Teacher
    from models.data.dataset import load_dataset

    require_log(data_dir)
    return Teacher(load_dataset(data_dir / "prepared"), read_options(data_dir), data_dir / "train")
