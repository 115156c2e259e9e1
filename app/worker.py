"""One worker process: `python -m app.worker <socket>`, started by the supervisor with the settings in its environment.

It stops in steps, so that no caller sees a broken connection: /readyz says 503 and connections close after their
answer, requests are answered for `drain_s` more while balancers notice, then the listener closes and what is in work
is finished.
"""

import app.no_gc  # noqa: F401

# isort: split
import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from types import FrameType
from typing import cast

import uvicorn

from app.http import Http
from app.logs import configure, log
from app.main import create_app
from app.protocol import Protocol
from app.settings import Settings
from app.workers import REFUSED
from models.contract.kernels.chosen import ADVICE, COMPILED

gc.freeze()  # what was imported stays
gc.set_threshold(20_000)  # a full batch makes thousands of objects, and its end frees them
gc.enable()

PARENT_CHECK_S = 0.5


class Server(uvicorn.Server):
    """uvicorn's server with a pause between the signal and the closing of the listener."""

    def __init__(self, config: uvicorn.Config, app: Http, parent: int) -> None:
        super().__init__(config)
        self._service = app.service
        self._parent = parent

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A second signal does not wait."""
        if self._service.draining:
            self.should_exit = True
        self._service.draining = True

    async def main_loop(self) -> None:
        self._ticking = asyncio.create_task(self._tick())  # to the end: the last connections are bounded, too
        drain = asyncio.create_task(self._drain())
        await super().main_loop()
        drain.cancel()

    async def _drain(self) -> None:
        while not self._service.draining:
            if os.getppid() != self._parent:  # the supervisor was killed: nobody else would stop this process
                self._service.draining = True
            await asyncio.sleep(PARENT_CHECK_S / 10)
        log("draining", seconds=self._service.settings.drain_s)
        await asyncio.sleep(self._service.settings.drain_s)
        self.should_exit = True

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            for connection in list(self.server_state.connections):
                cast(Protocol, connection).tick()


def run_in_turn() -> None:
    """Let neither thread take the core from the other as it wakes up: a request that arrives while a batch is computed
    would empty the caches for a few microseconds of reading. Where Linux does not let us, all is as it was."""
    with contextlib.suppress(AttributeError, OSError):
        if os.sched_getscheduler(0) == os.SCHED_OTHER:  # else somebody chose another
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def main() -> int:
    run_in_turn()
    settings = Settings()
    configure(str(settings.worker_index))
    if not COMPILED and settings.worker_index == 0:  # once, whatever the number of workers
        log("kernels not compiled: a request takes about twice the processor time", logging.WARNING, advice=ADVICE)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # nothing here reads the caller's address
        timeout_graceful_shutdown=int(settings.stop_timeout_s) or 1,
    )
    server = Server(config, app, os.getppid())
    try:
        server.run([socket.socket(fileno=int(sys.argv[1]))])
    except SystemExit:
        return REFUSED  # uvicorn gives up only when the start fails, and the log says why
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until uvicorn takes over; Ctrl-C reaches the supervisor alone
    sys.exit(main())
