"""The service as it runs for real: the supervisor in a process of its own, workers, a port, an embedded Redis."""

import asyncio
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from models.contract.versions import write_active
from tests.tiny_bundle import write_tiny_bundle

REPOSITORY = Path(__file__).parent.parent
SERVE = "import typer; from cli.serve import serve; typer.run(serve)"
PATIENCE_S = 30.0


@dataclass(frozen=True)
class RunningService:
    url: str
    process: subprocess.Popen[str]
    data_dir: Path

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_S)


def environment(data_dir: Path, **settings: object) -> dict[str, str]:
    """This process's environment with these settings alone, a short drain, and patience with Redis: tests share the
    machine."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("SHORTLIST_")}
    patience = {"redis_read_timeout_ms": 300, "redis_write_timeout_ms": 5_000}
    values = {"data_dir": data_dir, "port": 0, "drain_s": 0.1, **patience, **settings}
    return inherited | {f"SHORTLIST_{name.upper()}": str(value) for name, value in values.items()}


def start_process(data_dir: Path, **settings: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SERVE],
        env=environment(data_dir, **settings),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own, as a terminal gives it
    )


@contextmanager
def serving(data_dir: Path, **settings: object) -> Iterator[RunningService]:
    """Start it, wait until it says that it serves, and stop it if the test has not."""
    process = start_process(data_dir, **settings)
    assert process.stdout is not None
    assert process.stderr is not None
    out: queue.Queue[str] = queue.Queue()
    errors: list[str] = []
    readers = [
        threading.Thread(target=_drain, args=(process.stdout, out.put)),
        threading.Thread(target=_drain, args=(process.stderr, errors.append)),
    ]
    for reader in readers:
        reader.start()
    try:
        line = out.get(timeout=PATIENCE_S)
        assert line.startswith("Shortlist serves on http://"), (line, errors)
        yield RunningService(line.split()[-1], process, data_dir)
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            for reader in readers:
                reader.join()
            process.stdout.close()
            process.stderr.close()


def make_bundles(data_dir: Path, count: int = 1) -> list[str]:
    """Bundles of different seeds; the first is active."""
    versions = [write_tiny_bundle(data_dir / "bundles", seed=seed) for seed in range(count)]
    write_active(data_dir / "bundles", versions[0])
    return versions


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not await condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        await asyncio.sleep(0.01)


@dataclass
class Load:
    """Requests that go on in the background. answers: those with status 200.  failures: everything else."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    go_on: bool = True

    async def more(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many more answers (or a failure), and return those."""
        start = len(self.answers)

        async def enough() -> bool:
            return len(self.answers) >= start + count or bool(self.failures)

        await eventually(enough, f"{count} more answers came")
        return self.answers[start:]

    async def send(self, client: httpx.AsyncClient, body: dict[str, Any]) -> None:
        try:
            response = await client.post("/recommend", json=body)
        except httpx.HTTPError as error:
            self.failures.append(repr(error))
            return
        if response.status_code == 200:
            self.answers.append(response.json())
        else:
            self.failures.append(f"{response.status_code} {response.text}")


@asynccontextmanager
async def load(service: RunningService, body: dict[str, Any], callers: int = 4) -> AsyncIterator[Load]:
    """Callers that each send one request after another, about 50 a second together, until the block ends."""
    state = Load()

    async def call() -> None:
        async with service.client() as client:
            while state.go_on:
                await state.send(client, body)
                await asyncio.sleep(callers / 50)

    tasks = [asyncio.create_task(call()) for _ in range(callers)]
    try:
        yield state
    finally:
        state.go_on = False
        await asyncio.gather(*tasks)


def _drain(stream: Any, put: Callable[[str], None]) -> None:
    for line in stream:
        put(line)
