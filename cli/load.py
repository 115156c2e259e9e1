"""`shortlist load`: put the users of the prepared data, with their histories, into the feature store."""

import time
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DATA_DIR, DataDir, reported
from cli.redis_options import PREFIX, RedisCluster, RedisPrefix, RedisUrl, redis_address


def load(
    data_dir: DataDir = DATA_DIR,
    redis_url: RedisUrl = None,
    redis_cluster: RedisCluster = False,
    redis_prefix: RedisPrefix = PREFIX,
    shift_ms: Annotated[
        int | None, typer.Option(help="Added to all times; without it the active bundle's clock shift, or 0.")
    ] = None,
) -> None:
    """Load every user. Interrupted, run it again: it goes on where it stopped, and live events are never lost.

    Example: shortlist load --data-dir .shortlist --redis-url redis://localhost:6379/0
    """
    from app.feature_store.errors import FeatureStoreError
    from cli.load_users import describe, load_users
    from cli.train import require_log
    from models.contract.manifest import BundleError
    from models.data.dataset import load_dataset
    from models.data.errors import DataError

    with reported(BundleError, DataError, FeatureStoreError, ValueError):
        if not (data_dir / "prepared").exists():
            require_log(data_dir)
        dataset = load_dataset(data_dir / "prepared")
        shift = clock_shift_ms(data_dir) if shift_ms is None else shift_ms
        with redis_address(redis_url, data_dir) as url:
            begun_s = time.perf_counter()
            report = load_users(dataset, url, shift_ms=shift, prefix=redis_prefix, cluster=redis_cluster)
            seconds = time.perf_counter() - begun_s
    speed = f", {report.changed / seconds:,.0f} users a second" if report.changed else ""
    typer.echo(describe(report) + speed)


def clock_shift_ms(data_dir: Path) -> int:
    """The constant that the active bundle adds to the data's times; 0 before there is one. Raises BundleError."""
    from models.contract.verify import verify_bundle
    from models.contract.versions import bundle_path, read_active

    version = read_active(data_dir / "bundles")
    return 0 if version is None else verify_bundle(bundle_path(data_dir / "bundles", version)).clock_shift_ms
