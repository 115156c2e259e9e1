"""What `shortlist doctor` finds out about the machine: processor, memory, disk, libraries, the data directory."""

import os
import platform
import shutil
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cli.doctor_check import Check
from models.contract.kernels.chosen import ADVICE, COMPILED

GIB = 2**30
PYTHON = (3, 11)
LITTLE_MEMORY, TOO_LITTLE_MEMORY = 2 * GIB, GIB // 2
LITTLE_DISK, TOO_LITTLE_DISK = 5 * GIB, GIB // 2
SERVING = {"onnxruntime": "onnxruntime", "faiss-cpu": "faiss", "numpy": "numpy", "redis": "redis", "uvloop": "uvloop"}
TRAINING = ("torch", "duckdb", "onnx")


def machine(data_dir: Path) -> list[Check]:
    return [
        python(sys.version_info[:3]),
        cores(available_cores()),
        instructions(platform.machine(), _read("/proc/cpuinfo")),
        memory(available_memory(_read("/proc/meminfo"), _read("/sys/fs/cgroup/memory.max"))),
        disk(data_dir),
        *libraries(),
        kernels(COMPILED),
        folder(data_dir),
    ]


def python(found: tuple[int, int, int]) -> Check:
    told = ".".join(map(str, found))
    if found[:2] != PYTHON:
        return Check("python", "problem", told, "Shortlist runs on Python 3.11: make its environment with that")
    return Check("python", "ok", told)


def available_cores() -> int:
    """What this process may use, which containers and taskset limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").strip().partition(" ")
    return min(cores, max(1, int(quota) // int(period))) if quota.isdigit() and period.isdigit() else cores


def cores(number: int) -> Check:
    if number == 1:
        return Check("cores", "warning", "1", "training takes twice the stated time and competes with the service")
    return Check("cores", "ok", str(number))


def instructions(architecture: str, cpuinfo: str) -> Check:
    """What int8 graphs are fast with: VNNI, or on Arm the dot product; FAISS wants AVX2."""
    words = set(cpuinfo.lower().split())
    if architecture not in ("x86_64", "AMD64"):
        return Check("instructions", "ok", f"{architecture}{', dot product' if 'asimddp' in words else ''}")
    if not words:
        return Check("instructions", "ok", f"{architecture}; the system does not list them")
    if "avx2" not in words:
        return Check("instructions", "warning", "no AVX2", "answers take several times as long: use a newer processor")
    vnni = sorted(words & {"avx512_vnni", "avx_vnni"})
    return Check("instructions", "ok", f"AVX2, {vnni[0] if vnni else 'no VNNI: int8 graphs gain little'}")


def available_memory(meminfo: str, limit: str) -> int | None:
    """Bytes that are free or can be freed, at most the container's limit; None where the system does not say."""
    lines = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    if "MemAvailable" not in lines:
        return None
    free = int(lines["MemAvailable"].split()[0]) * 1024
    return min(free, int(limit)) if limit.strip().isdigit() else free


def memory(free: int | None) -> Check:
    if free is None:
        return Check("memory", "ok", "the system does not say")
    told = f"{free / GIB:.1f} GiB available"
    if free < TOO_LITTLE_MEMORY:
        return Check("memory", "problem", told, "a worker needs about 0.5 GiB: free some, or take a larger machine")
    if free < LITTLE_MEMORY:
        return Check("memory", "warning", told, "enough to serve; training the demo needs about 2 GiB")
    return Check("memory", "ok", told)


def disk(data_dir: Path) -> Check:
    place = next(path for path in (data_dir.absolute(), *data_dir.absolute().parents) if path.exists())
    return free_disk(shutil.disk_usage(place).free, place)


def free_disk(free: int, place: Path) -> Check:
    told = f"{free / GIB:.1f} GiB free at {place}"
    if free < TOO_LITTLE_DISK:
        return Check("disk", "problem", told, "the embedded Redis stops taking events when it is full: free some space")
    if free < LITTLE_DISK:
        return Check("disk", "warning", told, "delete bundles that you will not roll back to, and prepared data")
    return Check("disk", "ok", told)


def libraries() -> list[Check]:
    """Those of serving are loaded, since a library can be there and not fit the machine."""
    found = [_serving(package, module) for package, module in SERVING.items()]
    return [*found, *(_training(package) for package in TRAINING)]


def _serving(package: str, module: str) -> Check:
    try:
        import_module(module)
        return Check(package, "ok", version(package))
    except (ImportError, OSError) as error:
        return Check(package, "problem", str(error), "install Shortlist anew: pip install -e .")


def _training(package: str) -> Check:
    try:
        return Check(package, "ok", version(package))
    except PackageNotFoundError:
        return Check(package, "ok", "not installed; only training needs it: pip install -e '.[train]'")


def kernels(compiled: bool) -> Check:
    """Which form of the contract's small calculations runs."""
    if compiled:
        return Check("kernels", "ok", "compiled")
    return Check("kernels", "warning", "not compiled: a request takes about twice the processor time", ADVICE)


def folder(data_dir: Path) -> Check:
    if not data_dir.exists():
        return Check("data directory", "warning", f"{data_dir} is not there yet", "start with: shortlist demo")
    if not data_dir.is_dir() or not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        told = f"{data_dir} is not a folder that this user may write to"
        return Check("data directory", "problem", told, "name another with --data-dir, or change its owner")
    parts = [name for name in ("prepared", "train", "bundles", "archive", "redis") if (data_dir / name).is_dir()]
    return Check("data directory", "ok", f"{data_dir}: {', '.join(parts) or 'empty'}")


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""
