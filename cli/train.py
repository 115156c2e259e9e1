"""`shortlist train`: prepare what is new, then train the retrieval and ranking models."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.only_one import only_one
from cli.options import CONFIG, DATA_DIR, ConfigFile, DataDir, DeviceOption, PrecisionOption, Threads, reported
from cli.processes import run_processes

if TYPE_CHECKING:
    from models.data.config import Config
    from models.data.sections import LabelledSection
    from models.hardware import Hardware
    from models.options import TrainSection
    from models.run_log import RunLog

OPTIONS_FILE = "options.json"
TABLE_FILE = "labelled.json"


def train(
    config: ConfigFile = CONFIG,
    data_dir: DataDir = DATA_DIR,
    threads: Threads = None,
    nproc: Annotated[int, typer.Option(min=1, help="Processes that share each batch (torchrun).")] = 1,
    max_restarts: Annotated[
        int, typer.Option(min=0, help="How often killed processes start again, from the last checkpoint.")
    ] = 3,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    profile: Annotated[
        bool, typer.Option("--profile", help="Trace some steps of each stage, into train/profile of the data folder.")
    ] = False,
) -> None:
    """Train on the data of shortlist.toml and on archived events, or a ranker on its labelled table. Interrupted,
    run it again: it goes on, with as many processes as it is then given.

    Example: shortlist train --config docs/example/shortlist.toml --data-dir /tmp/books --nproc 2

    Watch it with: tensorboard --logdir .shortlist/train/tensorboard
    """
    from models.checkpoint import CheckpointError
    from models.data.config import load_config
    from models.data.errors import DataError
    from models.distributed import place_on_machine
    from models.hardware import choose_hardware

    with reported(DataError, CheckpointError, ValueError):
        loaded = load_config(config)
        hardware = choose_hardware(device, precision, nproc - 1 if nproc > 1 else place_on_machine())
        if nproc > 1:
            check_can_share(loaded, data_dir, nproc)
            options = ["--config", str(config), "--data-dir", str(data_dir), "--device", device]
            options += ["--precision", precision, *(["--profile"] if profile else [])]
            run_processes(nproc, max_restarts, threads, options)
        elif loaded.labelled is not None:
            train_table(loaded, data_dir, threads, hardware, profile=profile)
        else:
            train_models(loaded, data_dir, threads, hardware, profile=profile)
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # said once, by the command that started the processes
        typer.echo("Next: shortlist evaluate" + ("" if loaded.labelled else ", then shortlist export"))


def check_can_share(config: "Config", data_dir: Path, nproc: int) -> None:
    """What can be told before processes are started. Raises DataError, ValueError."""
    from cli.prepare import prepare_with_progress
    from models.data.dataset import load_dataset
    from models.data.labelled import read_labelled
    from models.train_checks import check_can_be_built, check_processes
    from models.train_labelled import check_table

    check_processes(config.train, nproc)
    with only_one(data_dir):
        if config.labelled is not None:
            check_table(read_labelled(config.labelled), config.train)
            return
        dataset = load_dataset(prepare_with_progress(config, data_dir).folder)
        check_processes(config.train, nproc, dataset.num_users)
        check_can_be_built(dataset, config.train)


def train_models(
    config: "Config",
    data_dir: Path,
    threads: int | None,
    hardware: "Hardware | None" = None,
    *,
    profile: bool = False,
) -> None:
    """Prepare and train, on what the machine has where no hardware is given. Raises DataError, CheckpointError,
    ValueError."""
    import torch

    from cli.prepare import prepare_with_progress
    from models.data.dataset import load_dataset
    from models.distributed import is_first, joined, wait
    from models.hardware import choose_hardware
    from models.stage_files import given_up
    from models.train import train as run_stages
    from models.train_checks import check_processes

    hardware = hardware or choose_hardware("auto", "auto")
    if threads is not None:
        torch.set_num_threads(threads)
    with joined(hardware) as world, only_one(data_dir):
        if is_first():
            prepare_with_progress(config, data_dir)
        wait()
        dataset = load_dataset(data_dir / "prepared")
        check_processes(config.train, world.size, dataset.num_users)
        folder = _keep_options(config, data_dir)
        for path in given_up(dataset, config.train, folder) if is_first() else []:
            typer.echo(f"{path}: is of other data, another model or other settings; its stage starts anew")
        with _progress(folder, hardware, profile=profile) as progress:
            run_stages(dataset, config.train, folder, progress, hardware)


def train_table(
    config: "Config", data_dir: Path, threads: int | None, hardware: "Hardware", *, profile: bool = False
) -> None:
    """Train a ranker on a labelled table. Raises DataError, CheckpointError, ValueError."""
    import torch

    from models.data.labelled import read_labelled
    from models.distributed import joined
    from models.train_checks import check_processes
    from models.train_labelled import train_labelled

    assert config.labelled is not None
    if threads is not None:
        torch.set_num_threads(threads)
    with joined(hardware) as world, only_one(data_dir):
        check_processes(config.train, world.size)
        table = read_labelled(config.labelled)
        folder = _keep_options(config, data_dir)
        with _progress(folder, hardware, profile=profile) as progress:
            train_labelled(table, config.train, folder, progress, hardware)


@contextmanager
def _progress(folder: Path, hardware: "Hardware", *, profile: bool) -> Iterator["RunLog"]:
    """Of the first process; the others are as far."""
    from cli.profiling import Profiled
    from cli.progress import TrainProgress
    from models.distributed import is_first
    from models.run_log import Silent

    if not is_first():
        yield Silent()
        return
    typer.echo(f"Training on {hardware}")
    with TrainProgress(folder / "tensorboard") as progress:
        if not profile:
            yield progress
            return
        profiled = Profiled(progress, folder / "profile")
        yield profiled
    typer.echo(
        "\n".join(profiled.tables)
        or "No stage took the 18 steps that a trace needs: smaller budgets, or all was trained before"
    )


def _keep_options(config: "Config", data_dir: Path) -> Path:
    """The options stay with what is trained by them, for the commands that follow."""
    from models.distributed import is_first

    folder = data_dir / "train"
    if is_first():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / OPTIONS_FILE).write_text(config.train.model_dump_json(indent=2), "utf-8")
        table = folder / TABLE_FILE
        if config.labelled is None:
            table.unlink(missing_ok=True)
        else:
            table.write_text(config.labelled.model_dump_json(indent=2), "utf-8")
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
    return read_options_of(data_dir / "train")


def read_options_of(folder: Path) -> "TrainSection":
    """The options that stay with what was trained by them. Raises CheckpointError when nothing was."""
    from pydantic import ValidationError

    from models.checkpoint import CheckpointError
    from models.options import TrainSection

    path = folder / OPTIONS_FILE
    try:
        return TrainSection.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: does not exist; run `shortlist train`") from error
    except ValidationError as error:
        raise CheckpointError(f"{path}: is of another version; run `shortlist train` again") from error
