"""`shortlist train`: prepare what is new, then train the retrieval and ranking models."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.options import CONFIG, DATA_DIR, ConfigFile, DataDir, Threads, reported

if TYPE_CHECKING:
    from models.data.config import Config
    from models.options import TrainSection

OPTIONS_FILE = "options.json"


def train(config: ConfigFile = CONFIG, data_dir: DataDir = DATA_DIR, threads: Threads = None) -> None:
    """Train on the data of shortlist.toml and on archived events. Interrupted, run it again: it goes on.

    Example: shortlist train --config docs/example/shortlist.toml --data-dir /tmp/books

    Watch it with: tensorboard --logdir .shortlist/train/tensorboard
    """
    from models.checkpoint import CheckpointError
    from models.data.config import load_config
    from models.data.errors import DataError

    with reported(DataError, CheckpointError, ValueError):
        train_models(load_config(config), data_dir, threads)
    typer.echo("Next: shortlist evaluate, then shortlist export")


def train_models(config: "Config", data_dir: Path, threads: int | None) -> None:
    """Prepare and train. Raises DataError, CheckpointError, ValueError."""
    import torch

    from cli.prepare import prepare_with_progress
    from cli.progress import TrainProgress
    from models.data.dataset import load_dataset
    from models.train import train as run_stages

    if threads is not None:
        torch.set_num_threads(threads)
    prepared = prepare_with_progress(config, data_dir)
    folder = data_dir / "train"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / OPTIONS_FILE).write_text(config.train.model_dump_json(indent=2), "utf-8")
    with TrainProgress(folder / "tensorboard") as progress:
        run_stages(load_dataset(prepared.folder), config.train, folder, progress)


def read_options(data_dir: Path) -> "TrainSection":
    """The options of the last training. Raises CheckpointError when there was none."""
    from pydantic import ValidationError

    from models.checkpoint import CheckpointError
    from models.options import TrainSection

    path = data_dir / "train" / OPTIONS_FILE
    try:
        return TrainSection.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: does not exist; run `shortlist train`") from error
    except ValidationError as error:
        raise CheckpointError(f"{path}: is of another version; run `shortlist train` again") from error
