"""`shortlist events`: what is done with the log of events."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The log of events.", no_args_is_help=True)


@app.callback()
def events() -> None:
    """The log of events."""


@app.command()
def archive(
    data_dir: Annotated[
        Path, typer.Option(envvar="SHORTLIST_DATA_DIR", help="Folder whose archive/ gets the Parquet files.")
    ] = Path(".shortlist"),
    redis_url: Annotated[
        str | None, typer.Option(envvar="SHORTLIST_REDIS_URL", help="Redis to read; the embedded one if not given.")
    ] = None,
    redis_cluster: Annotated[
        bool, typer.Option(envvar="SHORTLIST_REDIS_CLUSTER", help="The URL is of a Redis Cluster.")
    ] = False,
    redis_prefix: Annotated[
        str, typer.Option(envvar="SHORTLIST_REDIS_PREFIX", help="First part of every key.")
    ] = "shortlist",
) -> None:
    """Move events from Redis to Parquet, in the shape of the interactions input, and finish erasures.

    Each event is archived exactly once, wherever the command is interrupted; Redis is trimmed only afterwards.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from app.feature_store.embedded import embedded_url
    from app.feature_store.errors import FeatureStoreError
    from app.feature_store.event_log import EventLog
    from app.feature_store.sync_client import sync_client
    from cli.archive import archive_events
    from cli.archive_files import ArchiveError
    from models.contract.manifest import BundleError

    columns = (TextColumn("archiving events"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with (
            nullcontext(redis_url) if redis_url else embedded_url(data_dir / "redis") as url,
            Progress(*columns) as progress,
        ):
            with sync_client(url, cluster=redis_cluster) as client:
                task = progress.add_task("archive", total=EventLog(client, redis_prefix).size())
            report = archive_events(
                url,
                data_dir / "archive",
                context=context_columns(data_dir),
                prefix=redis_prefix,
                cluster=redis_cluster,
                on_step=lambda _, done: progress.update(task, completed=done),
            )
    except (ArchiveError, BundleError, FeatureStoreError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(f"archived {report.events} events in {report.files} files in {data_dir / 'archive'}")
    if report.erased_users:
        typer.echo(f"removed {report.erased_rows} archived events of {report.erased_users} erased users")


def context_columns(data_dir: Path) -> list[str]:
    """The context that events of the active bundle may carry; none before there is a bundle. Raises BundleError."""
    from models.contract.verify import verify_bundle
    from models.contract.versions import bundle_path, read_active

    version = read_active(data_dir / "bundles")
    if version is None:
        return []
    return verify_bundle(bundle_path(data_dir / "bundles", version)).data_schema.event_context
