"""Redis clients as the service needs them: bounded waits everywhere, no retries, no call at start."""

from dataclasses import dataclass
from typing import Any, Literal

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

Client = Redis | RedisCluster
Durability = Literal["always", "everysec", "no", "unknown"]


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How the feature store talks to Redis.

    read_timeout_s bounds each step of a read (waiting for a connection, connecting, the answer), and twice that the
    whole; write_timeout_s the same for writes.  The breaker opens after breaker_failures and probes each
    breaker_open_s.  cluster: the URL is of a Redis Cluster.
    """

    prefix: str = "shortlist"
    cluster: bool = False
    read_timeout_s: float = 0.025
    write_timeout_s: float = 1.0
    read_connections: int = 64
    write_connections: int = 16
    breaker_failures: int = 5
    breaker_open_s: float = 0.5


def open_client(url: str, *, cluster: bool, timeout_s: float, connections: int) -> Client:
    """A client that connects at its first call. Raises ValueError for a URL that is not Redis's."""
    options: dict[str, Any] = {
        "protocol": 2,  # RESP3 adds a HELLO round trip and push messages that nothing here reads
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        # redis-py retries by default: a hung server would cost a multiple of the timeout, and a write whose answer
        # was lost would be done twice
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,  # no CLIENT SETINFO: one round trip less on each new connection
    }
    if cluster:
        return RedisCluster.from_url(url, max_connections=connections, **options)
    pool = BlockingConnectionPool.from_url(url, max_connections=connections, timeout=timeout_s, **options)
    return Redis.from_pool(pool)


async def read_durability(client: Client) -> Durability:
    """When the server's append-only file reaches the disk; "no" also without such a file."""
    append_only = await client.config_get("appendonly")
    policy = await client.config_get("appendfsync")
    if append_only.get("appendonly") == "no":
        return "no"
    known: dict[str | None, Durability] = {"always": "always", "everysec": "everysec", "no": "no"}
    return known.get(policy.get("appendfsync"), "unknown")
