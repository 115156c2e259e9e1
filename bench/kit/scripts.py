"""Measurements in processes of their own: nothing else is in their memory, and their cores are chosen."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from bench.kit.figures import Measured
from bench.kit.processes import CannotRun, clean_environment, run_to_end

TIMEOUT_S = 600.0


def run(module: str, *arguments: object, cores: Sequence[int], threads: int = 1) -> Any:
    """What `python -m module arguments...` prints as its last line, which is JSON. Raises CannotRun."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = clean_environment() | {"OMP_NUM_THREADS": str(threads)}
    with TemporaryDirectory(prefix="shortlist-bench-") as folder:
        log = Path(folder, "log")
        try:
            code = run_to_end(command, log=log, cores=cores, env=environment, timeout_s=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise CannotRun(f"`{' '.join(command[2:])}` did not end within {TIMEOUT_S:g} s") from None
        lines = log.read_text(errors="replace").strip().splitlines()
    if code or not lines:
        raise CannotRun(f"`{' '.join(command[2:])}`: {lines[-1] if lines else 'it printed nothing'}")
    return orjson.loads(lines[-1])


def add_rounds(measured: Measured, found: dict[str, Any]) -> None:
    """found: unit and rounds by the figure's name, as such a process prints them."""
    for name, (unit, rounds) in found.items():
        for value in rounds:
            measured.add(name, unit, value)
