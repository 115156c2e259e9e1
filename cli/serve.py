"""`shortlist serve`: run the service until Ctrl-C or SIGTERM."""

from pathlib import Path
from typing import Annotated, Any

import typer


def serve(
    workers: Annotated[int | None, typer.Option(help="Worker processes; one per core is the measured best.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 picks a free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of bundles and of the embedded Redis.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen beyond loopback without API keys.")] = False,
) -> None:
    """Serve the active bundle. Everything else is set by SHORTLIST_* variables, see docs/operations.md.

    Example: shortlist serve --workers 4 --port 8000 --data-dir .shortlist
    """
    from pydantic import ValidationError

    from app.feature_store.errors import EmbeddedRedisError
    from app.logs import configure
    from app.settings import Settings
    from app.supervisor import Supervisor
    from app.workers import CannotStart

    configure("supervisor")
    named: dict[str, Any] = {"workers": workers, "host": host, "port": port, "data_dir": data_dir}
    given = {name: value for name, value in named.items() if value is not None}
    if insecure:
        given["insecure"] = True
    try:
        Supervisor(Settings(**given), on_ready=lambda url: typer.echo(f"Shortlist serves on {url}")).run()
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = ".".join(str(part) for part in problem["loc"])
            told = problem["msg"].removeprefix("Value error, ")
            typer.echo(f"setting {name}: {told}" if name else told, err=True)
        raise typer.Exit(2) from None
    except (CannotStart, EmbeddedRedisError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
