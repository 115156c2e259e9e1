"""`shortlist train`: prepare what is new, then train the retrieval and ranking models."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.options import CONFIG, DATA_DIR, ConfigFile, DataDir, Threads, reported

if TYPE_CHECKING:
    from models.data.config import Config
    from models.data.sections import LabelledSection
    from models.options import TrainSection

OPTIONS_FILE = "options.json"
TABLE_FILE = "labelled.json"


def train(config: ConfigFile = CONFIG, data_dir: DataDir = DATA_DIR, threads: Threads = None) -> None:
    """Train on the data of shortlist.toml and on archived events, or a ranker on its labelled table. Interrupted,
    run it again: it goes on.

    Example: shortlist train --config docs/example/shortlist.toml --data-dir /tmp/books

    Watch it with: tensorboard --logdir .shortlist/train/tensorboard
    """
    from models.checkpoint import CheckpointError
    from models.data.config import load_config
    from models.data.errors import DataError

    with reported(DataError, CheckpointError, ValueError):
        loaded = load_config(config)
        if loaded.labelled is not None:
            train_table(loaded, data_dir, threads)
        else:
            train_models(loaded, data_dir, threads)
    typer.echo("Next: shortlist evaluate" + ("" if loaded.labelled else ", then shortlist export"))


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
    folder = _keep_options(config, data_dir)
    with TrainProgress(folder / "tensorboard") as progress:
        run_stages(load_dataset(prepared.folder), config.train, folder, progress)


def train_table(config: "Config", data_dir: Path, threads: int | None) -> None:
    """Train a ranker on a labelled table. Raises DataError, CheckpointError, ValueError."""
    import torch

    from cli.progress import TrainProgress
    from models.data.labelled import read_labelled
    from models.train_labelled import train_labelled

    assert config.labelled is not None
    if threads is not None:
        torch.set_num_threads(threads)
    table = read_labelled(config.labelled)
    folder = _keep_options(config, data_dir)
    (folder / TABLE_FILE).write_text(config.labelled.model_dump_json(indent=2), "utf-8")
    with TrainProgress(folder / "tensorboard") as progress:
        train_labelled(table, config.train, folder, progress)


def _keep_options(config: "Config", data_dir: Path) -> Path:
    """The options stay with what is trained by them, for the commands that follow."""
    folder = data_dir / "train"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / OPTIONS_FILE).write_text(config.train.model_dump_json(indent=2), "utf-8")
    (folder / TABLE_FILE).unlink(missing_ok=True)
    return folder


def read_table_section(data_dir: Path) -> "LabelledSection | None":
    """[labelled] of the last training; None when that was on a log."""
    from models.data.sections import LabelledSection

    path = data_dir / "train" / TABLE_FILE
    return LabelledSection.model_validate_json(path.read_bytes()) if path.exists() else None


def require_log(data_dir: Path) -> None:
    """Raises ValueError where the last training was on a labelled table."""
    if read_table_section(data_dir):
        raise ValueError(
            f"{data_dir / 'train' / TABLE_FILE}: the last training was on a labelled table, whose ranker has no "
            "bundle: `shortlist evaluate` measures it. To serve, train on a log: [interactions]"
        )


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
