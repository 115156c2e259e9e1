"""A blocking client for commands: loading and archiving. Requests are served by connection.py's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from app.feature_store.errors import FeatureStoreUnavailable
from app.feature_store.scripts import Call, Script

SyncClient = Redis | RedisCluster
TIMEOUT_S = 30.0


@contextmanager
def sync_client(url: str, *, cluster: bool = False) -> Iterator[SyncClient]:
    """A client for the block; whatever Redis fails at in it is raised as FeatureStoreUnavailable."""
    options: dict[str, Any] = {"protocol": 2, "socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
    client: SyncClient
    if cluster:
        client = RedisCluster.from_url(url, **options)
    else:
        client = Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)
    try:
        yield client
    except (RedisError, OSError) as error:
        raise FeatureStoreUnavailable(f"Redis failed: {error}. Nothing is lost; run the command again") from error
    finally:
        client.close()


def run_script(client: SyncClient, script: Script, calls: Sequence[Call]) -> list[Any]:
    """Run one script for each call; the answers in order. Raises redis.RedisError if any fails."""
    try:
        return _send(client, script, calls)
    except NoScriptError:
        client.script_load(script.text)
        return _send(client, script, calls)


def _send(client: SyncClient, script: Script, calls: Sequence[Call]) -> list[Any]:
    if isinstance(client, RedisCluster):  # redis-py does not pipeline EVALSHA on a cluster
        return [client.evalsha(script.sha, len(call.keys), *call.keys, *call.args) for call in calls]
    with client.pipeline(transaction=False) as pipeline:
        for call in calls:
            pipeline.evalsha(script.sha, len(call.keys), *call.keys, *call.args)
        return pipeline.execute()
