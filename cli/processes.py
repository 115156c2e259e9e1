"""`shortlist train --nproc`: the command in several processes, by torchrun."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

import typer

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_processes(nproc: int, max_restarts: int, threads: int | None, options: Sequence[str]) -> None:
    """`shortlist train` with these options in `nproc` processes. Raises typer.Exit where they do not come through.

    A signal to this process goes on to torchrun, which ends the processes it started: killed by itself, this process
    would leave them training.
    """
    each = threads or max(1, (os.cpu_count() or 1) // nproc)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={nproc}"]
    command = [*torchrun, f"--max-restarts={max_restarts}", "-m", "cli.main", "train", *options, "--threads", str(each)]
    # torch warns where every parameter happens to be used
    environment = os.environ | {"OMP_NUM_THREADS": str(each), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        process.send_signal(number)

    process = subprocess.Popen(command, env=environment)
    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        typer.echo("stopped; run it again: it goes on from the last checkpoint", err=True)
        raise typer.Exit(128 + received[0])
    if code:
        typer.echo("a process failed more often than --max-restarts allows; see above. Run again: it goes on", err=True)
        raise typer.Exit(code)
