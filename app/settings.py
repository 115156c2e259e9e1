"""Everything an operator can set: environment variables with the prefix SHORTLIST_, or arguments of the command."""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.auth import ApiKey

PREFIX = "SHORTLIST_"


class Settings(BaseSettings):
    """Frozen, and handed to whoever needs it; nothing else reads the environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_parse_none_str="null", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    data_dir: Path = Field(
        default=Path(".shortlist"), description="folder of bundles, the embedded Redis and run files"
    )
    redis_url: str | None = Field(
        default=None, description="redis://, rediss:// or unix:// address; unset starts an embedded one"
    )
    redis_cluster: bool = Field(default=False, description="the address is of a Redis Cluster")
    redis_prefix: str = Field(
        default="shortlist", min_length=1, max_length=64, description="first part of every Redis key"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port; 0 picks a free one")
    workers: int = Field(default=1, ge=1, le=256, description="worker processes; one per core is the measured best")
    worker_index: int = Field(
        default=0, ge=0, le=255, description="which of the workers this process is; set by the supervisor"
    )
    api_keys: Annotated[tuple[ApiKey, ...], NoDecode] = Field(
        default=(),
        description="entries `sha256:<64 hex digits>:<scopes>` with spaces between; scopes: serve, admin, with commas",
    )
    insecure: bool = Field(default=False, description="listen beyond loopback although no API key is set")
    deadline_ms: int | None = Field(
        default=100, ge=1, le=60_000, description="time for a request that names none, ms; `null` for no limit"
    )
    max_concurrency: int = Field(
        default=128,
        ge=1,
        le=65_536,
        description="requests in work per worker before 503; events are shed at twice as many",
    )
    max_batch: int = Field(default=16, ge=1, le=256, description="requests the compute thread takes at once")
    candidates: int = Field(
        default=200,
        ge=10,
        le=2_000,
        description="items ranked for a request, or 50 more than it asks for where that is more; training has 200",
    )
    redis_read_timeout_ms: int = Field(default=30, ge=1, le=10_000, description="for the one read of a request, ms")
    redis_write_timeout_ms: int = Field(
        default=3_000, ge=1, le=60_000, description="for events, which may wait for the disk, ms"
    )
    filter_cache_mb: int = Field(default=32, ge=0, le=4_096, description="memory for filter masks per worker, MiB")
    user_vectors_mb: int = Field(
        default=32, ge=0, le=65_536, description="memory for user vectors kept until a history changes, per worker, MiB"
    )
    reason_threshold: float = Field(
        default=0.05,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="item-to-item similarity below which no reason is given",
    )
    activation_timeout_s: float = Field(
        default=60.0, gt=0, le=3_600, allow_inf_nan=False, description="for all workers to swap, s"
    )
    drain_s: float = Field(
        default=1.5,
        ge=0,
        le=300,
        allow_inf_nan=False,
        description="time answers go on after SIGTERM while /readyz says 503, s",
    )
    stop_timeout_s: float = Field(
        default=10.0, gt=0, le=300, allow_inf_nan=False, description="for open requests after that, s"
    )

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> Any:
        entries = value.split() if isinstance(value, str) else value
        return tuple(ApiKey.parse(entry) if isinstance(entry, str) else entry for entry in entries)

    @field_validator("redis_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        return value or None

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        if not (self.api_keys or self.insecure or _is_loopback(self.host)):
            raise ValueError(
                f"listening on {self.host} without an API key would be open to everyone: set {PREFIX}API_KEYS "
                "(`shortlist key` makes one), or pass --insecure"
            )
        return self

    @property
    def bundles_dir(self) -> Path:
        return self.data_dir / "bundles"

    @property
    def run_dir(self) -> Path:
        return self.data_dir / "run"

    def environment(self) -> dict[str, str]:
        """The present environment with these settings in it, for a worker process."""
        own = {name for name in os.environ if name.upper().startswith(PREFIX)}
        inherited = {name: value for name, value in os.environ.items() if name not in own}
        values: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        values["api_keys"] = " ".join(key.entry for key in self.api_keys)
        values["data_dir"] = self.data_dir.resolve()
        values["deadline_ms"] = self.deadline_ms if self.deadline_ms is not None else "null"
        return inherited | {PREFIX + name.upper(): str(value) for name, value in values.items() if value is not None}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
