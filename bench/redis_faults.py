"""What callers see while Redis is stopped, killed and absent: the real service at its default settings, on a copy of a
data folder, asked at a steady rate whatever it answers. Every answer should be 200 within the deadline of 100 ms and
what scheduling adds, say that it was degraded, and be whole again once Redis is back.

    python -m bench.redis_faults --data-dir .shortlist
"""

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from app.feature_store.embedded import EmbeddedRedis
from models.contract.columns import BytesColumn

ROOT = Path(__file__).parent.parent
START_S = 15.0


@dataclass(slots=True)
class Phase:
    """One state of Redis and what came back meanwhile.

    seconds: from when a request was due to its answer.  degraded_s: when, in the phase, the degraded answers' requests
    were due.  failures: answers other than 200, and those that never came.
    """

    name: str
    begin: Callable[[], None]
    seconds: list[float] = field(default_factory=list)
    degraded_s: list[float] = field(default_factory=list)
    failures: int = 0
    events: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """users: asked for in turn.  rate: requests a second.  length_s: of each phase."""

    client: httpx.AsyncClient
    users: Sequence[str]
    event: dict[str, str]
    rate: float
    length_s: float

    async def run(self, phase: Phase) -> None:
        """Send on schedule while the phase's fault takes effect; the events are sent halfway."""
        start = time.perf_counter()
        begun = asyncio.create_task(asyncio.to_thread(phase.begin))
        tasks: list[asyncio.Task[None]] = []
        num = int(self.rate * self.length_s)
        for number in range(num):
            await asyncio.sleep(max(start + number / self.rate - time.perf_counter(), 0))
            user = self.users[number % len(self.users)]
            tasks.append(asyncio.create_task(self._ask(phase, user, start, number / self.rate)))
            if number == num // 2:
                tasks.append(asyncio.create_task(self._tell(phase)))
        await asyncio.gather(begun, *tasks)

    async def _ask(self, phase: Phase, user: str, start: float, due_s: float) -> None:
        try:
            answer = await self.client.post("/recommend", json={"user_id": user})
        except httpx.HTTPError:
            phase.failures += 1
            return
        phase.seconds.append(time.perf_counter() - start - due_s)
        if answer.status_code != 200:
            phase.failures += 1
        elif answer.json()["degraded"]:
            phase.degraded_s.append(due_s)

    async def _tell(self, phase: Phase) -> None:
        try:
            phase.events = str((await self.client.post("/events", json={"events": [self.event]})).status_code)
        except httpx.HTTPError as error:
            phase.events = type(error).__name__


@contextmanager
def service(data_dir: Path, redis_url: str) -> Iterator[str]:
    """URL of a service of its own process, with no setting but these."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("SHORTLIST_")}
    command = [sys.executable, "-m", "cli.main", "serve", "--port", "0", "--data-dir", str(data_dir)]
    environment = inherited | {"SHORTLIST_REDIS_URL": redis_url}
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        patience = Timer(START_S, process.kill)
        patience.start()
        try:
            line = process.stdout.readline()
            patience.cancel()
            if not line:
                raise SystemExit(f"the service did not start within {START_S:g} s; its lines above may say why")
            yield line.split()[-1]
        finally:
            patience.cancel()
            process.terminate()


def phases(redis: EmbeddedRedis) -> list[Phase]:
    return [
        Phase("healthy", lambda: None),
        Phase("stopped (SIGSTOP)", lambda: os.kill(redis.pid, signal.SIGSTOP)),
        Phase("goes on (SIGCONT)", lambda: os.kill(redis.pid, signal.SIGCONT)),
        Phase("killed, then absent", redis.kill),
        Phase("back", redis.start),
    ]


async def measure(url: str, users: Sequence[str], todo: Sequence[Phase], options: argparse.Namespace) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=3) as client:
        first = (await client.post("/recommend", json={"user_id": users[0], "deadline_ms": 2_000})).raise_for_status()
        item = first.json()["items"][0]["item_id"]
        event = {"user_id": users[0], "item_id": item, "event_type": options.event_type}
        for phase in todo:
            await Load(client, users, event, options.rate, options.seconds).run(phase)


def table(done: Sequence[Phase]) -> Table:
    names = ("phase", "answers", "not 200", "degraded", "the last after", "p50 ms", "p99 ms", "max ms", "/events")
    made = Table(*names)
    for phase in done:
        took = np.array(phase.seconds or [np.nan]) * 1000
        made.add_row(
            phase.name,
            str(len(phase.seconds)),
            str(phase.failures),
            f"{len(phase.degraded_s) / max(len(phase.seconds), 1):.1%}",
            f"{max(phase.degraded_s):.2f} s" if phase.degraded_s else "",
            *(f"{value:.1f}" for value in (*np.percentile(took, [50, 99]), took.max())),
            phase.events,
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with a bundle and loaded users; is copied")
    parser.add_argument("--rate", type=float, default=50, help="requests a second")
    parser.add_argument("--seconds", type=float, default=4, help="length of each of the five phases")
    parser.add_argument("--event-type", default="purchase")
    options = parser.parse_args()
    ids = BytesColumn.load(options.data_dir / "prepared" / "users", "ids")
    users = [ids[index].decode() for index in range(len(ids))]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("bundles", "redis"):
            shutil.copytree(options.data_dir / name, copy / name, ignore=shutil.ignore_patterns("*.sock", "*.pid"))
        # Not the service's own embedded Redis: that one is started again at once.
        with EmbeddedRedis(copy / "redis") as redis, service(copy, redis.url) as url:
            todo = phases(redis)
            try:
                asyncio.run(measure(url, users, todo, options))
            finally:
                if redis.running:
                    os.kill(redis.pid, signal.SIGCONT)
    Console().print(table(todo))


if __name__ == "__main__":
    main()
