"""`shortlist load`: put the users of the prepared data, with their histories, into the feature store."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer


def load(
    data_dir: Annotated[Path, typer.Option(envvar="SHORTLIST_DATA_DIR", help="Folder with the prepared data.")] = Path(
        ".shortlist"
    ),
    redis_url: Annotated[
        str | None, typer.Option(envvar="SHORTLIST_REDIS_URL", help="Redis to load; the embedded one if not given.")
    ] = None,
    redis_cluster: Annotated[
        bool, typer.Option(envvar="SHORTLIST_REDIS_CLUSTER", help="The URL is of a Redis Cluster.")
    ] = False,
    redis_prefix: Annotated[
        str, typer.Option(envvar="SHORTLIST_REDIS_PREFIX", help="First part of every key.")
    ] = "shortlist",
    shift_ms: Annotated[
        int | None, typer.Option(help="Added to all times; without it the active bundle's clock shift, or 0.")
    ] = None,
) -> None:
    """Load every user. Interrupted, run it again: it goes on where it stopped, and live events are never lost."""
    from app.feature_store.embedded import embedded_url
    from app.feature_store.errors import FeatureStoreError
    from cli.load_users import describe, load_users
    from models.contract.manifest import BundleError
    from models.data.dataset import load_dataset
    from models.data.errors import DataError

    try:
        dataset = load_dataset(data_dir / "prepared")
        shift = clock_shift_ms(data_dir) if shift_ms is None else shift_ms
        with nullcontext(redis_url) if redis_url else embedded_url(data_dir / "redis") as url:
            report = load_users(dataset, url, shift_ms=shift, prefix=redis_prefix, cluster=redis_cluster)
    except (BundleError, DataError, FeatureStoreError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(describe(report))


def clock_shift_ms(data_dir: Path) -> int:
    """The constant that the active bundle adds to the data's times; 0 before there is one. Raises BundleError."""
    from models.contract.verify import verify_bundle
    from models.contract.versions import bundle_path, read_active

    version = read_active(data_dir / "bundles")
    return 0 if version is None else verify_bundle(bundle_path(data_dir / "bundles", version)).clock_shift_ms
