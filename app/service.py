"""What the routes share: the parts of the service, put together at start and taken apart at the end."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.feature_store.store import FeatureStore, StoreSettings
from app.lifecycle import Lifecycle
from app.limits import Gate
from app.logs import log
from app.metrics import WRITE_EVERY_S, Metrics
from app.recommender import Recommender, wall_clock_ms
from app.settings import Settings


class Service:
    """One worker's parts. `store` and `recommender` are there while `running` is entered.

    draining: set when the process was told to stop; /readyz says so and connections are closed after their answer.
    """

    store: FeatureStore
    recommender: Recommender

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics(settings.worker_index)
        self.gate = Gate(settings.max_concurrency)
        self.lifecycle = Lifecycle(settings, self.metrics.bundle)
        self.draining = False
        self.now_ms = wall_clock_ms
        self.clock = time.perf_counter

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the store and the active bundle; close them in reverse. Raises BundleError for a bundle that is bad."""
        if self.settings.redis_url is None:
            raise ValueError("no Redis: `shortlist serve` starts one of its own, or set SHORTLIST_REDIS_URL")
        self.settings.run_dir.mkdir(parents=True, exist_ok=True)
        self.store = await FeatureStore.connect(self.settings.redis_url, _store_settings(self.settings))
        try:
            await self.lifecycle.start()
            self.recommender = Recommender(
                self.lifecycle.current,
                self.store,
                self.settings,
                now_ms=self.now_ms,
                clock=self.clock,
                observe=self.metrics.stage,
            )
            background = [asyncio.create_task(self.lifecycle.watch())]
            if self.settings.workers > 1:  # an only worker answers /metrics with what it has
                background.append(asyncio.create_task(self._write_metrics()))
            try:
                yield
            finally:
                for task in background:
                    task.cancel()
                await asyncio.gather(*background, return_exceptions=True)
                self.recommender.close()
                self.lifecycle.stop()
        finally:
            await self.store.aclose()

    async def _write_metrics(self) -> None:
        while True:
            self.metrics.in_work.set(self.gate.in_work)
            try:
                self.metrics.write(self.settings.run_dir)
            except OSError as error:  # a full disk costs the other workers this one's figures, and nothing else
                log("metrics not written", logging.ERROR, error=error.strerror)
            await asyncio.sleep(WRITE_EVERY_S)


def _store_settings(settings: Settings) -> StoreSettings:
    return StoreSettings(
        prefix=settings.redis_prefix,
        cluster=settings.redis_cluster,
        read_timeout_s=settings.redis_read_timeout_ms / 1000,
        write_timeout_s=settings.redis_write_timeout_ms / 1000,
    )
