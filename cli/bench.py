"""`shortlist bench`: how fast this machine serves, beside yardsticks measured in the same run."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DATA_DIR, DataDir, reported

if TYPE_CHECKING:
    from bench.kit.session import Options

bench = typer.Typer(invoke_without_command=True)


@bench.callback()
def run(
    context: typer.Context,
    data_dir: DataDir = DATA_DIR,
    quick: Annotated[bool, typer.Option("--quick", help="60,000 items only, in about 2 minutes.")] = False,
    large: Annotated[
        bool, typer.Option("--large", help="10 million items, too: hours, and more memory than 24 GB.")
    ] = False,
    demo_data_dir: Annotated[
        Path | None, typer.Option(help="Data folder of the demo; without it one is made, in about 3 minutes.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Where results go.")] = Path("bench/results"),
    record: Annotated[
        bool, typer.Option("--record", help="Keep them as latest.json as well, if no step failed.")
    ] = False,
) -> None:
    """Make catalogues, serve them beside yardsticks on one core, load them from another, and write tables and pictures.

    About 7 minutes, and once 6 more for the catalogues, which are kept in the data folder. Nothing else should run.

    Example: shortlist bench --quick

    Then: shortlist bench compare BEFORE.json AFTER.json
    """
    if context.invoked_subcommand is not None:
        return
    from bench.kit.processes import CannotRun
    from bench.kit.session import SIZES, Options

    if quick and record:
        raise typer.BadParameter("a quick run has not all rows, and is no record; leave out --quick or --record")
    folder = data_dir / "bench"
    sizes = ("60k",) if quick else tuple(SIZES) if large else ("60k", "1m")
    demo = None if quick else demo_data_dir or folder / "demo"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that services are stopped on this way, too
    with reported(CannotRun):
        _measure(
            Options(folder, demo, sizes, rounds=3 if quick else 4, seconds=1.5 if quick else 2.0, quick=quick),
            output,
            record,
        )


@bench.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="BEFORE.json")],
    second: Annotated[Path, typer.Argument(metavar="AFTER.json")],
) -> None:
    """Tell a change from noise: each figure of two runs, with the interval of its change.

    Example: shortlist bench compare bench/results/before.json bench/results/after.json
    """
    from rich.console import Console
    from rich.markdown import Markdown

    from bench.kit.compare import compare as compared
    from bench.kit.compare import to_markdown
    from bench.kit.results import ResultsError, read_results

    with reported(ResultsError):
        Console().print(Markdown(to_markdown(compared(read_results(first), read_results(second)))))


def _measure(options: "Options", output: Path, record: bool) -> None:
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from bench.kit.report import ratio_table, write
    from bench.kit.run import measure

    columns = (
        TextColumn("{task.description:<38}"),
        BarColumn(24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("beginning", total=1.0, left="")

        def on_step(text: str, done: float, total: float) -> None:
            left = f"about {max(total - done, 0) / 60:.0f} min left"
            progress.update(task, description=text, completed=done, total=total, left=left)

        results = measure(options, on_step)
    console = Console()
    console.print(Markdown(ratio_table(results)))
    for text in results.missing:
        console.print(text, style="yellow", markup=False)
    for text in results.failed:
        console.print(text, style="red", markup=False)
    for path in write(results, output, record=record and not results.failed):
        typer.echo(str(path))
    if results.failed:
        typer.echo(f"{len(results.failed)} steps failed, and their rows are not measured", err=True)
        raise typer.Exit(1)
