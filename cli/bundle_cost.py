"""What a bundle costs a service process: its memory, and the CPU time of one request. A process of its own, so that
nothing but the service is in it:

    python -m cli.bundle_cost .shortlist/bundles/20261122T061744Z-5e2091 < states.json

It reads the packed states of the users who ask, a JSON list of hexadecimal strings, and prints one line of JSON.
"""

import sys
from pathlib import Path
from time import process_time_ns

import numpy as np
import orjson

import app.http  # noqa: F401  what a service process has loaded before it opens a bundle
from app.call import Call
from app.engine import Engine
from app.flow import Flow
from app.opening import open_engine
from app.settings import Settings
from app.wire import RecommendRequest
from models.contract.state import UserState, unpack

ROUNDS = 15
MEMORY = Path("/proc/self/smaps_rollup")


def main() -> None:
    if not MEMORY.exists():
        sys.exit(f"there is no {MEMORY}, which only Linux has")
    states = [unpack(bytes.fromhex(one)) for one in orjson.loads(sys.stdin.buffer.read())]
    before = private_bytes()
    engine = open_engine(Path(sys.argv[1]), Settings().filter_cache_mb * 2**20)
    spent = request_us(engine, states)
    after = private_bytes()  # the tables are mapped: their pages come with the requests that read them
    found = {"private_bytes": after, "bundle_bytes": after - before, "request_us": spent}
    print(orjson.dumps(found).decode())


def private_bytes() -> int:
    """Memory that is this process's own, as Linux counts it."""
    lines = (line.split() for line in MEMORY.read_text("ascii").splitlines()[1:])
    sizes = {name: int(size) for name, size, _ in lines}
    return 1024 * (sizes["Private_Clean:"] + sizes["Private_Dirty:"])


def request_us(engine: Engine, states: list[UserState | None]) -> float:
    """CPU time of the flow for a known user, one request at a time: median of the rounds, microseconds."""
    now_ms = engine.bundle.manifest.as_of_ms + engine.bundle.manifest.clock_shift_ms
    flow, spent = Flow(Settings(deadline_ms=None)), []
    for _ in range(ROUNDS + 1):
        calls = [Call(RecommendRequest(k=10), engine, now_ms, 0.0, state=state) for state in states]
        begin = process_time_ns()
        for call in calls:
            flow.run([call])
        spent.append(process_time_ns() - begin)
    return float(np.median(spent[1:])) / 1000 / len(states)  # the first round allocates


if __name__ == "__main__":
    main()
