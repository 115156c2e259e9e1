"""Options of the commands that talk to Redis; the service reads the same variables."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

RedisUrl = Annotated[
    str | None, typer.Option(envvar="SHORTLIST_REDIS_URL", help="Address of Redis; the embedded one if not given.")
]
RedisCluster = Annotated[
    bool, typer.Option(envvar="SHORTLIST_REDIS_CLUSTER", help="The address is of a Redis Cluster.")
]
RedisPrefix = Annotated[str, typer.Option(envvar="SHORTLIST_REDIS_PREFIX", help="First part of every key.")]

PREFIX = "shortlist"


@contextmanager
def redis_address(url: str | None, data_dir: Path) -> Iterator[str]:
    """The given address, or that of the embedded server, which is started for the block unless a service runs it."""
    from app.feature_store.embedded import embedded_url

    if url:
        yield url
        return
    with embedded_url(data_dir / "redis") as embedded:
        yield embedded
