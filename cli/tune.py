"""`shortlist tune`: search the options of a model, trial after trial, by the validation window."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import CONFIG, DATA_DIR, ConfigFile, DataDir, DeviceOption, PrecisionOption, Threads, reported

if TYPE_CHECKING:
    from models.data.config import Config
    from models.hardware import Hardware
    from models.tune.report import TuneReport

FOLDER, STUDIES = "tune", "studies.db"
SHOWN = 15  # trials of the table; report.md has them all


def tune(
    config: ConfigFile = CONFIG,
    data_dir: DataDir = DATA_DIR,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Trials in all, those already made included; else trials of [tune]."),
    ] = None,
    timeout_minutes: Annotated[
        float | None, typer.Option(min=0, help="No trial begins later; the running one is finished.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="The report of the newest search; nothing is trained.")] = False,
    threads: Threads = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Search the options of a model for what validates best, as [tune] of shortlist.toml says. Trials that fall behind
    are pruned early. Interrupted, run it again: it goes on. The folder tune gets report.md, plot.png and best.toml, the
    section to paste into shortlist.toml.

    Example: shortlist tune --config docs/example/shortlist.toml --data-dir /tmp/books --trials 10
    """
    from models.checkpoint import CheckpointError
    from models.data.config import load_config
    from models.data.errors import DataError
    from models.hardware import choose_hardware

    folder = data_dir / FOLDER
    with reported(DataError, CheckpointError, ValueError):
        if not show:
            hardware = choose_hardware(device, precision)
            _search(load_config(config), data_dir, trials, timeout_minutes, threads, hardware)
        report = _newest(folder)
    _print(report)
    typer.echo(f"Written: {folder / 'report.md'}, plot.png" + (", best.toml" if report.best else ""))


def _search(
    config: "Config",
    data_dir: Path,
    trials: int | None,
    timeout_minutes: float | None,
    threads: int | None,
    hardware: "Hardware",
) -> None:
    """Raises DataError, CheckpointError, ValueError."""
    import torch

    from cli.prepare import prepare_with_progress
    from cli.tune_progress import TuneProgress
    from models.data.dataset import load_dataset
    from models.data.write import exclusive
    from models.tune.plan import make_plan, section_of, study_key
    from models.tune.report import describe
    from models.tune.search import num_ended, open_study, opened, search

    if config.labelled is not None:
        raise ValueError(
            "[labelled] has no validation window: `shortlist tune` searches models of a log, [interactions]"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    dataset = load_dataset(prepare_with_progress(config, data_dir).folder)
    folder, total = data_dir / FOLDER, trials or config.tune.trials
    plan = make_plan(config, dataset, data_dir, hardware)
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / "lock", "another `shortlist tune`"), opened(folder / STUDIES) as storage:
        before = len(storage.get_all_studies())
        study = open_study(storage, study_key(config, dataset))
        if before < len(storage.get_all_studies()) and before:
            typer.echo(
                "The data, the space or other options have changed since the last search: a new one begins. The old "
                "one goes on when they are as they were."
            )
        describe(study, plan.stage, plan.space, section_of(config))
        study.set_user_attr("opened", time.time())
        done = num_ended(study)
        if done >= total:
            typer.echo(f"The search has its {done} trials: --trials {done + 10} goes on.")
        with TuneProgress(total, done) as progress:
            search(study, plan, total, _until(timeout_minutes), progress)
            progress.ended(num_ended(study))


def _until(minutes: float | None) -> Callable[[], bool]:
    """Whether another trial may begin."""
    end = None if minutes is None else time.monotonic() + 60 * minutes
    return lambda: end is None or time.monotonic() < end


def _newest(folder: Path) -> "TuneReport":
    """The report of the search that ran last, written anew. Raises DataError when there is none."""
    import optuna

    from models.data.errors import DataError
    from models.tune.report import read_report, write_report
    from models.tune.search import opened

    if not (folder / STUDIES).exists():
        raise DataError(f"{folder / STUDIES}: does not exist; run `shortlist tune` without --show")
    with opened(folder / STUDIES) as storage:
        told = [study for study in optuna.get_all_study_summaries(storage) if "opened" in study.user_attrs]
        if not told:
            raise DataError(f"{folder / STUDIES}: has no search; run `shortlist tune` without --show")
        name = max(told, key=lambda study: study.user_attrs["opened"]).study_name
        report = read_report(optuna.load_study(study_name=name, storage=storage))
    write_report(report, folder)
    return report


def _print(report: "TuneReport") -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from models.tune.report import FIGURE, number, shown

    table = Table(box=box.SIMPLE_HEAD, title=escape(f"[train.{report.stage}] {report.model}"))
    for name in ("trial", FIGURE, "state", "steps", "seconds", *report.space):
        table.add_column(name, justify="left" if name == "state" else "right", overflow="fold")
    for row in report.ranked[:SHOWN]:
        values = [escape(shown(row.values[key])) for key in report.space]
        table.add_row(str(row.number), number(row.figure), row.state, f"{row.steps:,}", f"{row.seconds:,.0f}", *values)
    console = Console()
    console.print(table)
    for row in report.rows:
        if row.error:
            console.print(f"trial {row.number} failed: {row.error}", markup=False)
    if report.importance:
        told = ", ".join(f"{key} {share:.0%}" for key, share in report.importance.items())
        console.print(f"Importance: {told}", markup=False)
    console.print(report.gain, markup=False)
