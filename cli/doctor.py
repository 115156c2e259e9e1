"""`shortlist doctor`: look at machine, settings, Redis and bundle, and say what to do."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DATA_DIR, DataDir

if TYPE_CHECKING:
    from cli.doctor_check import Check

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(
    data_dir: DataDir = DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON object.")] = False,
) -> None:
    """Check everything the service needs; nothing is changed. Exit code 1 when something is a problem.

    Example: shortlist doctor --data-dir .shortlist

    Settings are read as `shortlist serve` reads them, from SHORTLIST_* variables.
    """
    import orjson

    checks = examine(data_dir)
    if as_json:
        typer.echo(orjson.dumps({"status": worst(checks), "checks": checks}, option=orjson.OPT_INDENT_2))
    else:
        show(checks)
    if worst(checks) == "problem":
        raise typer.Exit(1)


def examine(data_dir: Path) -> list["Check"]:
    from datetime import UTC, datetime

    from app.settings import Settings
    from cli.doctor_machine import machine
    from cli.doctor_redis import redis_checks
    from cli.doctor_service import bundle_checks, read_settings, service_checks

    settings, found = read_settings(data_dir, os.environ)
    checks = [*machine(data_dir), *found]
    # a bundle can be looked at whatever the settings are
    checks += bundle_checks(data_dir / "bundles", settings or Settings.model_construct(), datetime.now(UTC))
    return [*checks, *redis_checks(settings), *service_checks(settings)] if settings else checks


def worst(checks: list["Check"]) -> str:
    statuses = {check.status for check in checks}
    return next(status for status in ("problem", "warning", "ok") if status in statuses)


def show(checks: list["Check"]) -> None:
    """A table, and below it what to do."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("Check", "", "Found")
    for check in checks:
        colour = _COLOURS[check.status]
        table.add_row(check.name, f"[{colour}]{check.status}[/{colour}]", escape(check.found))
    console = Console()
    console.print(table)
    for check in checks:
        if check.status != "ok":
            console.print(f"{check.status}: {check.name}: {check.advice}", markup=False, soft_wrap=True)
    if worst(checks) == "ok":
        console.print("All is well.")
