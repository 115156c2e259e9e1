"""The `shortlist` command: each subcommand in a file of its own, which imports what it needs when it runs."""

import os
import sys

import typer

from cli.bench import bench
from cli.compress import compress
from cli.compress_report import compress_report
from cli.demo import demo
from cli.doctor import doctor
from cli.evaluate import evaluate
from cli.events import events
from cli.export import export
from cli.key import key
from cli.load import load
from cli.movielens import movielens
from cli.prepare import prepare
from cli.serve import serve
from cli.train import train
from cli.tune import tune

app = typer.Typer(
    help="Train, export and serve recommendations.\n\nStart with: shortlist demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # Rich's own markup takes "[train]" for a style, and shows nothing of it
)
for command in (
    demo,
    movielens,
    prepare,
    train,
    tune,
    evaluate,
    compress,
    compress_report,
    export,
    load,
    serve,
    key,
    doctor,
):
    app.command()(command)
app.add_typer(events, name="events")
app.add_typer(bench, name="bench")


def main() -> None:
    # onnxruntime reports its use to Microsoft unless told not to before it is imported
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        app()
    except OSError as error:  # a folder that may not be written, a full disk: the operator's to mend
        if not error.strerror:
            raise
        typer.echo(": ".join(str(part) for part in (error.filename, error.strerror) if part), err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
