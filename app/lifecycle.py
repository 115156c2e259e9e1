"""Bundles while the service runs: which one is served, swapping it in every worker at once, and going back.

One pointer file names the active bundle. Whoever is asked to activate another verifies and loads it first, replaces
the pointer, and waits until every worker of this machine serves it; each worker watches the pointer and loads on its
own. When one of them cannot, the pointer goes back. A request keeps the engine it started with to its end.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from app.engine import Engine
from app.errors import ActivationFailed, BundleRefused, NotFound, NotReady
from app.logs import log
from app.opening import open_engine
from app.settings import Settings
from app.warmup import warm_up
from app.wire import Activation, BundleInfo, Bundles
from app.workers import (
    WorkerStatus,
    live_workers,
    only_one_activation,
    pointer_stamp,
    remove_status,
    write_status,
)
from models.contract.bundle import BundleError
from models.contract.versions import (
    ACTIVE,
    bundle_path,
    known_active,
    list_bundles,
    previous_active,
    read_active,
    roll_back,
    write_active,
)

WATCH_EVERY_S = 0.1


class Lifecycle:
    """The engine that this worker serves. Used on the event loop; loading happens in threads."""

    def __init__(self, settings: Settings, on_swap: Callable[[str], None]) -> None:
        self._settings = settings
        self._on_swap = on_swap
        self._engine: Engine | None = None
        self._pointer = ""
        self._untold: WorkerStatus | None = None  # a status that could not be written; `watch` tries again
        self._loading = asyncio.Lock()  # one load at a time: activation and watching must not race

    def current(self) -> Engine:
        """Raises NotReady before the first bundle is loaded."""
        if self._engine is None:
            raise NotReady("no bundle is loaded yet")
        return self._engine

    async def start(self) -> None:
        """Load the active bundle. Raises BundleError when there is none or it is damaged."""
        pointer = pointer_stamp(self._settings.bundles_dir)
        version = read_active(self._settings.bundles_dir)
        if version is None:
            raise BundleError("ACTIVE", f"there is no active bundle in {self._settings.bundles_dir}")
        self._serve(await self._load(version), pointer)

    def stop(self) -> None:
        remove_status(self._settings.run_dir, self._settings.worker_index)

    async def watch(self) -> None:
        """Follow the pointer, for ever."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            if self._untold is not None:
                self._tell(self._untold)
            if pointer_stamp(self._settings.bundles_dir) != self._pointer:
                async with self._loading:
                    await self._follow()

    def bundles(self) -> Bundles:
        folder = self._settings.bundles_dir
        active, previous = known_active(folder), previous_active(folder)
        listed = [BundleInfo(version=v, active=v == active, rollback=v == previous) for v in list_bundles(folder)]
        return Bundles(active=active, serving=self.current().version, bundles=listed)

    async def activate(self, version: str) -> Activation:
        """Serve this bundle from every worker. Raises NotFound, BundleRefused, ActivationBusy or ActivationFailed."""
        folder, before = self._settings.bundles_dir, self.current().version
        if version not in list_bundles(folder):
            raise NotFound(f"there is no bundle {version[:64]!r}; GET /bundles lists those there are")
        # Without a whole pointer to the running bundle there is no history to go back by.
        back = roll_back if known_active(folder) == before else lambda folder: write_active(folder, before)
        return await self._change(version, lambda: write_active(folder, version), lambda: back(folder))

    async def rollback(self) -> Activation:
        """Serve the bundle that was active before the present one. Raises as `activate` does."""
        folder, before = self._settings.bundles_dir, self.current().version
        version = previous_active(folder)
        if version is None:
            raise NotFound("there is no earlier bundle to go back to; activate one by name")
        return await self._change(version, lambda: roll_back(folder), lambda: write_active(folder, before))

    async def _change(self, version: str, write: Callable[[], object], undo: Callable[[], object]) -> Activation:
        folder, before = self._settings.bundles_dir, self.current()
        with only_one_activation(self._settings.run_dir):
            async with self._loading:
                try:
                    engine = before if version == before.version else await self._load(version)
                except BundleError as error:
                    raise refused(version, error) from error
                moved = known_active(folder) != version
                try:
                    if moved:
                        await asyncio.to_thread(write)
                except BundleError as error:
                    raise refused(version, error) from error
                except OSError as error:
                    told = f"{ACTIVE} cannot be written: {error.strerror}"
                    raise ActivationFailed(f"{told}; {before.version} stays active") from error
                self._serve(engine, pointer_stamp(folder))
            failure = await self._confirmed()
            if failure is not None:
                async with self._loading:
                    if moved:
                        await asyncio.to_thread(undo)
                    self._serve(before, pointer_stamp(folder))
                raise ActivationFailed(f"{failure}; {before.version} stays active")
        log("bundle activated", version=version, previous=before.version)
        return Activation(active=version, previous=before.version, workers=len(live_workers(self._settings.run_dir)))

    async def _confirmed(self) -> str | None:
        """Wait until every live worker has acted on the present pointer; what went wrong, or None."""
        deadline = asyncio.get_running_loop().time() + self._settings.activation_timeout_s
        while True:
            workers = live_workers(self._settings.run_dir)
            followed = [worker for worker in workers if worker.pointer == self._pointer]
            if failed := [worker for worker in followed if worker.error is not None]:
                return f"worker {failed[0].worker} could not load the bundle: {failed[0].error}"
            if len(followed) == len(workers):
                return None
            if asyncio.get_running_loop().time() > deadline:
                return f"not every worker confirmed within {self._settings.activation_timeout_s:g} s"
            await asyncio.sleep(WATCH_EVERY_S / 4)

    async def _follow(self) -> None:
        """Act on a pointer that someone else has replaced; on failure keep serving, and say why."""
        pointer, engine = pointer_stamp(self._settings.bundles_dir), self.current()
        if pointer == self._pointer:
            return
        error = None
        try:
            version = read_active(self._settings.bundles_dir)
            if version is not None and version != engine.version:
                engine = await self._load(version)
        except BundleError as problem:
            error = str(problem)
            log("bundle refused", logging.ERROR, error=error)
        except Exception as problem:  # noqa: BLE001  no bundle may end the task that watches for the next one
            error = "it cannot be loaded; this worker's log says why"
            log("bundle not loaded", logging.ERROR, exc_info=problem)
        self._serve(engine, pointer, error)

    async def _load(self, version: str) -> Engine:
        """Verify, open and warm up in a thread, so that requests go on meanwhile."""
        path = bundle_path(self._settings.bundles_dir, version)
        return await asyncio.to_thread(_open_warm, path, self._settings)

    def _serve(self, engine: Engine, pointer: str, error: str | None = None) -> None:
        """The swap itself: one assignment, after which every new request gets this engine."""
        changed = self._engine is None or self._engine.version != engine.version
        self._engine, self._pointer = engine, pointer
        self._tell(WorkerStatus(self._settings.worker_index, os.getpid(), pointer, engine.version, error))
        if changed:
            self._on_swap(engine.version)
            log("bundle served", version=engine.version)

    def _tell(self, status: WorkerStatus) -> None:
        """Write the status for the other workers. On a full disk an activation goes unconfirmed, so its pointer goes
        back; serving and watching go on."""
        try:
            write_status(self._settings.run_dir, status)
        except OSError as error:
            if self._untold is None:  # once, not ten times a second
                log("worker status not written", logging.ERROR, error=error.strerror)
            self._untold = status
        else:
            self._untold = None


def refused(version: str, error: BundleError) -> BundleRefused:
    return BundleRefused(
        f"bundle {version} is refused: {error.file}: {error.reason}", [{"field": error.file, "message": error.reason}]
    )


def _open_warm(path: Path, settings: Settings) -> Engine:
    engine = open_engine(path, settings.filter_cache_mb << 20, settings.user_vectors_mb << 20)
    warm_up(engine, settings)
    return engine
