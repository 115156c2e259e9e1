"""`shortlist key`: make an API key."""

import secrets
from typing import Annotated

import typer


def key(
    scope: Annotated[list[str] | None, typer.Option(help="serve or admin; give it once for each.")] = None,
) -> None:
    """Make an API key: the key goes to callers, the entry into SHORTLIST_API_KEYS. Neither is kept here.

    Example: shortlist key --scope serve --scope admin
    """
    from app.auth import hash_key

    made = secrets.token_urlsafe(32)
    try:
        entry = hash_key(made, scope or ["serve"])
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(f"key    {made}\nentry  {entry}")
