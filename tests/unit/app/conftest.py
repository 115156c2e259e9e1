"""The service in this process: tiny real bundles, the real Redis of the session, no sockets."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.engine import Engine
from app.main import create_app
from app.opening import open_engine
from app.recommender import Recommender
from app.service import Service
from app.settings import Settings
from models.contract.versions import write_active
from tests.tiny_bundle import AS_OF_MS, write_tiny_bundle

NOW_MS = AS_OF_MS + 3_600_000


@pytest.fixture(scope="session")
def made_bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder of three bundles, whose versions stand in the order of their seeds; not to be written to."""
    folder = tmp_path_factory.mktemp("bundles")
    return folder, [write_tiny_bundle(folder, seed=seed) for seed in range(3)]


@pytest.fixture(scope="session")
def engine(made_bundles: tuple[Path, list[str]]) -> Engine:
    folder, versions = made_bundles
    return open_engine(folder / versions[0], 1 << 20)


@pytest.fixture
def settings(tmp_path: Path, made_bundles: tuple[Path, list[str]], redis_url: str, key_prefix: str) -> Settings:
    """A data folder of this test's own, the first bundle active, no deadline."""
    shutil.copytree(made_bundles[0], tmp_path / "bundles")
    write_active(tmp_path / "bundles", made_bundles[1][0])
    return Settings(
        data_dir=tmp_path,
        redis_url=redis_url,
        redis_prefix=key_prefix,
        redis_read_timeout_ms=2_000,
        redis_write_timeout_ms=5_000,
        deadline_ms=None,
    )


@pytest.fixture
async def recommender(engine: Engine) -> AsyncIterator[Recommender]:
    """Without a feature store: everything comes from the request."""
    made = Recommender(lambda: engine, None, Settings(deadline_ms=None), now_ms=lambda: NOW_MS)
    yield made
    made.close()


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    """The whole application, started, and a client that calls it."""
    async with running(settings) as both:
        yield both


class running:
    """`async with running(settings) as (service, client)`: the application, started, without a socket."""

    def __init__(self, settings: Settings) -> None:
        self._app = create_app(settings)
        self._open = self._app.service.running()
        transport = httpx.ASGITransport(app=self._app)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://shortlist")

    async def __aenter__(self) -> tuple[Service, httpx.AsyncClient]:
        await self._open.__aenter__()
        return self._app.service, self._client

    async def __aexit__(self, *error: object) -> None:
        await self._client.aclose()
        await self._open.__aexit__(None, None, None)
