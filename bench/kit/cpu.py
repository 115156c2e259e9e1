"""CPU time and memory of processes, from /proc (Linux).

CPU time per request is what holds on a noisy machine, where latency does not. Looking for descendants reads all of
/proc, some milliseconds; the rest is quick enough to be done at the edges of a measurement.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
REDIS_NAMES = ("valkey-server", "redis-server")
GONE = (FileNotFoundError, ProcessLookupError)  # a process may end between two reads


class Life(NamedTuple):
    """A process, told from a later one that was given the same pid.  started: ticks since the machine's start."""

    pid: int
    started: int


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """One process at one moment.

    command: its command line.  cpu_s: user and system time of all its threads, ended ones included.
    main_cpu_s: of the main thread, where an event loop runs.  threads: CPU seconds by thread id.
    """

    pid: int
    name: str
    command: str
    cpu_s: float
    main_cpu_s: float
    threads: dict[int, float]

    @property
    def is_redis(self) -> bool:
        return self.name in REDIS_NAMES


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds of several processes.  main_s: of the service's main threads.  others_s: of its other threads.
    redis_s: of a Redis among them, which is no part of the service's time."""

    main_s: float
    others_s: float
    redis_s: float

    @property
    def service_s(self) -> float:
        return self.main_s + self.others_s

    def since(self, before: "Cpu") -> "Cpu":
        return Cpu(self.main_s - before.main_s, self.others_s - before.others_s, self.redis_s - before.redis_s)


@dataclass(frozen=True, slots=True)
class Memory:
    """rss: resident bytes, shared ones included.  private: bytes that no other process shares."""

    pid: int
    name: str
    command: str
    rss: int
    private: int


def cpu(pids: Iterable[int]) -> Cpu:
    """Of these processes so far. One that has ended counts no more: compare two moments between which none ends."""
    found = usage(pids)
    own = [one for one in found if not one.is_redis]
    main = sum(one.main_cpu_s for one in own)
    return Cpu(main, sum(one.cpu_s for one in own) - main, sum(one.cpu_s for one in found if one.is_redis))


def usage(pids: Iterable[int]) -> list[ProcessUsage]:
    """Of these processes, but for those that have ended."""
    found = []
    for pid in pids:
        with suppress(*GONE):
            found.append(_usage(pid))
    return found


def memory(pids: Iterable[int]) -> list[Memory]:
    """Of these processes, but for those that have ended."""
    found = []
    for pid in pids:
        with suppress(*GONE):
            found.append(_memory(pid))
    return found


def descendants(pids: Iterable[int]) -> list[int]:
    """The processes themselves and all that they started, which are still there, ascending."""
    parents = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            with suppress(*GONE):
                parents[int(folder.name)] = int(_stat(folder / "stat")[1])
    found = set(pids) & set(parents)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def lives(pids: Iterable[int]) -> set[Life]:
    """Of the processes and their descendants."""
    found = set()
    for pid in descendants(pids):
        with suppress(*GONE):
            found.add(Life(pid, _started(pid)))
    return found


def is_alive(life: Life) -> bool:
    """False also for a zombie, which has ended and is only not yet waited for."""
    try:
        fields = _stat(PROC / str(life.pid) / "stat")
    except GONE:
        return False
    return int(fields[19]) == life.started and fields[0] != "Z"


def _started(pid: int) -> int:
    return int(_stat(PROC / str(pid) / "stat")[19])


def _usage(pid: int) -> ProcessUsage:
    threads = {}
    for folder in (PROC / str(pid) / "task").iterdir():
        with suppress(*GONE):
            threads[int(folder.name)] = _seconds(folder / "stat")
    name = _name(pid)
    return ProcessUsage(pid, name, _command(pid), _seconds(PROC / str(pid) / "stat"), threads.get(pid, 0.0), threads)


def _memory(pid: int) -> Memory:
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    size = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in lines)}
    return Memory(pid, _name(pid), _command(pid), size["Rss"], size["Private_Clean"] + size["Private_Dirty"])


def _name(pid: int) -> str:
    return (PROC / str(pid) / "comm").read_text().rstrip("\n")


def _command(pid: int) -> str:
    return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def _seconds(path: Path) -> float:
    fields = _stat(path)
    return (int(fields[11]) + int(fields[12])) / TICKS  # utime, stime


def _stat(path: Path) -> list[str]:
    """The fields after the name, which stands in parentheses and may hold anything."""
    return path.read_text().rpartition(")")[2].split()
