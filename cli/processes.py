"""`shortlist train --nproc`: the command in several processes, by torchrun."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

import typer

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_processes(nproc: int, max_restarts: int, threads: int | None, options: Sequence[str]) -> None:
    """`shortlist train` with these options in `nproc` processes. Raises typer.Exit where they do not come through.

    The first signal that stops this process goes on to torchrun, which ends the processes it started: killed by
    itself, this process would leave them training. What it was started to ignore (`nohup`) torchrun ignores, too.
    """
    each = threads or max(1, (os.cpu_count() or 1) // nproc)
    stops = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={nproc}"]
    torchrun += [f"--max-restarts={max_restarts}", f"--signals-to-handle={','.join(number.name for number in stops)}"]
    command = [*torchrun, "-m", "cli.main", "train", *options, "--threads", str(each)]
    # torch warns where every parameter happens to be used
    environment = os.environ | {"OMP_NUM_THREADS": str(each), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    process: subprocess.Popen[bytes] | None = None
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if process is not None and len(received) == 1:
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in stops}
    try:
        process = subprocess.Popen(command, env=environment)
        if received:  # while it was started
            process.send_signal(received[0])
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code and received:
        typer.echo("interrupted; run the same command again to go on", err=True)
        raise typer.Exit(128 + received[0])
    if code:
        typer.echo("a process failed more often than --max-restarts allows; see above. Run again: it goes on", err=True)
        raise typer.Exit(code)
