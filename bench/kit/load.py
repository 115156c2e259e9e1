"""The built-in load client, a process of its own that can be pinned to a core away from the service.

    python -m bench.kit.load --port 8000 --bodies requests.jsonl --connections 16 --seconds 5
    python -m bench.kit.load --port 8000 --bodies requests.jsonl --rate 500 --seconds 5

The first is a closed loop, for throughput, the second an open one with Poisson arrivals, for latency. It prints one
line of JSON: the fields of `bench.kit.result.Load`.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import uvloop

from bench.kit.closed_loop import run_closed
from bench.kit.connection import read_requests
from bench.kit.open_loop import run_open
from bench.kit.plan import LoadPlan
from bench.kit.processes import clean_environment, run_to_end
from bench.kit.result import Load, LoadFailed


def measure(plan: LoadPlan, cores: Sequence[int] | None = None) -> Load:
    """One run in a process of its own on these cores. Raises LoadFailed."""
    command = [sys.executable, "-m", "bench.kit.load", *arguments(plan)]
    with TemporaryDirectory(prefix="shortlist-load-") as folder:
        log = Path(folder, "load.log")
        try:
            code = run_to_end(command, log=log, cores=cores, env=clean_environment(), timeout_s=plan.time_limit_s)
        except subprocess.TimeoutExpired:
            raise LoadFailed(f"the load client did not end within {plan.time_limit_s:g} s") from None
        printed = log.read_bytes().strip()
    if code:
        raise LoadFailed(f"the load client failed: {printed.decode(errors='replace')}")
    return Load.of(orjson.loads(printed.splitlines()[-1]))


def arguments(plan: LoadPlan) -> list[str]:
    """The plan as options of this command."""
    options: dict[str, object] = {
        "port": plan.port,
        "bodies": plan.bodies,
        "connections": plan.connections,
        "seconds": plan.seconds,
        "warmup": plan.warmup_s,
        "seed": plan.seed,
        "path": plan.path,
        "queue-limit": plan.queue_limit,
    }
    if plan.rate is not None:
        options["rate"] = plan.rate
    listed = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return [*listed, "--watch", *map(str, plan.watch)] if plan.watch else listed


def read_plan(words: Sequence[str] | None = None) -> LoadPlan:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True, help="of loopback")
    parser.add_argument("--bodies", type=Path, required=True, help="file with a JSON body a line, sent in turn")
    parser.add_argument("--connections", type=int, default=16, help="kept alive")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the measured window")
    parser.add_argument("--warmup", type=float, default=1.0, dest="warmup_s", help="seconds before it")
    parser.add_argument("--rate", type=float, help="open loop: requests a second that fall due")
    parser.add_argument("--seed", type=int, default=0, help="open loop: of the arrivals")
    parser.add_argument("--path", default="/recommend")
    parser.add_argument("--queue-limit", type=int, default=10_000, help="open loop: requests that may wait")
    parser.add_argument("--watch", type=int, nargs="*", default=[], metavar="PID", help="count their CPU time")
    options = parser.parse_args(words)
    try:
        return LoadPlan(**{**vars(options), "watch": tuple(options.watch)})
    except ValueError as error:
        parser.error(str(error))


def main() -> None:
    plan = read_plan()
    try:
        requests = read_requests(plan.bodies, "127.0.0.1", plan.port, plan.path)
        found = uvloop.run(run_closed(plan, requests) if plan.rate is None else run_open(plan, requests))
    except (LoadFailed, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    sys.stdout.write(orjson.dumps(found).decode() + "\n")


if __name__ == "__main__":
    main()
