"""`shortlist events`: what is done with the log of events."""

from pathlib import Path

import typer

from cli.options import DATA_DIR, DataDir, reported
from cli.redis_options import PREFIX, RedisCluster, RedisPrefix, RedisUrl, redis_address

events = typer.Typer(no_args_is_help=True)


@events.callback()
def describe() -> None:
    """The log of events."""


@events.command()
def archive(
    data_dir: DataDir = DATA_DIR,
    redis_url: RedisUrl = None,
    redis_cluster: RedisCluster = False,
    redis_prefix: RedisPrefix = PREFIX,
) -> None:
    """Move events from Redis to Parquet, in the shape of the interactions input, and finish erasures.

    Example: shortlist events archive --data-dir .shortlist

    Each event is archived exactly once, wherever the command is interrupted; Redis is trimmed only afterwards.
    """
    from app.feature_store.errors import FeatureStoreError
    from cli.archive import archive_with_progress
    from cli.archive_files import ArchiveError
    from models.contract.archive import FOLDER
    from models.contract.manifest import BundleError

    folder = data_dir / FOLDER
    with (
        reported(ArchiveError, BundleError, FeatureStoreError, ValueError),
        redis_address(redis_url, data_dir) as url,
    ):
        context = context_columns(data_dir)
        report = archive_with_progress(url, folder, context=context, prefix=redis_prefix, cluster=redis_cluster)
    typer.echo(f"archived {report.events} events in {report.files} files in {folder}")
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
