"""Fixtures shared by all tests: one real Redis for the session, a random key prefix for each test."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.feature_store.embedded import EmbeddedRedis
from app.feature_store.store import FeatureStore, StoreSettings

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as cli.main sets it, before anything imports onnxruntime


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an embedded server that lives as long as the tests."""
    folder: Path = tmp_path_factory.mktemp("redis")
    with EmbeddedRedis(folder) as server:
        yield server.url


@pytest.fixture
def key_prefix() -> str:
    """A prefix that no other test uses, so that nothing has to be flushed."""
    return f"test-{secrets.token_hex(8)}"


@pytest.fixture
async def store(redis_url: str, key_prefix: str) -> AsyncIterator[FeatureStore]:
    """A feature store on the embedded server. Its read timeout is generous: tests share the machine."""
    settings = StoreSettings(prefix=key_prefix, read_timeout_s=2.0, write_timeout_s=5.0)
    store = await FeatureStore.connect(redis_url, settings)
    yield store
    await store.aclose()
