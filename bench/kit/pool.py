"""The load client's connections: a broken one is made anew, and what cannot be made ends the run."""

import asyncio
from collections.abc import Callable

from bench.kit.connection import Connection, Outcome

RECONNECT_S = 0.01


class Pool:
    """on_answer: called at the end of each request.  on_free: called with a connection that may send the next one."""

    def __init__(
        self, port: int, on_answer: Callable[[Connection, Outcome], None], on_free: Callable[[Connection], None]
    ) -> None:
        self._port, self._on_answer, self._on_free = port, on_answer, on_free
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closed = False

    async def start(self, count: int) -> None:
        """Raises OSError when a connection cannot be made."""
        for _ in range(count):
            await self._connect(0.0)

    async def wait(self, seconds: float) -> None:
        """Raises OSError when a connection that broke could not be made again."""
        await asyncio.wait([self._failed], timeout=seconds)
        if self._failed.done():
            self._failed.result()

    def close(self) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for connection in self._connections:
            connection.close()

    def _answered(self, connection: Connection, outcome: Outcome) -> None:
        self._on_answer(connection, outcome)
        if self._closed:
            return
        if connection.open:
            self._on_free(connection)
            return
        connection.close()
        self._connections.discard(connection)
        task = asyncio.ensure_future(self._connect(RECONNECT_S))
        self._tasks.add(task)
        task.add_done_callback(self._connected)

    async def _connect(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)  # a service that refuses everything is not stormed
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self._answered), "127.0.0.1", self._port
        )
        self._connections.add(connection)
        self._on_free(connection)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not self._failed.done():
            self._failed.set_exception(error)
