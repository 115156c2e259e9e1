"""What a bundle costs a service process: its memory, and the CPU time of one request. A process of its own, so that
nothing but the service is in it:

    python -m cli.bundle_cost .shortlist/bundles/20261122T061744Z-5e2091 .shortlist

It prints one line of JSON.
"""

import sys
from pathlib import Path
from time import process_time_ns

import numpy as np
import orjson

import app.http  # noqa: F401  what a service process has loaded before it opens a bundle
from app.call import Call
from app.engine import Engine, open_engine
from app.flow import Flow
from app.settings import Settings
from app.wire import RecommendRequest

USERS = 64
ROUNDS = 15


def main() -> None:
    bundle, data_dir = (Path(argument) for argument in sys.argv[1:])
    before = private_bytes()
    engine = open_engine(bundle, Settings().filter_cache_mb * 2**20)
    after = private_bytes()
    found = {"private_bytes": after, "bundle_bytes": after - before, "request_us": request_us(engine, data_dir)}
    print(orjson.dumps(found).decode())


def private_bytes() -> int:
    """Memory that is this process's own, as Linux counts it."""
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text("ascii").splitlines()[1:])
    sizes = {name: int(size) for name, size, _ in lines}
    return 1024 * (sizes["Private_Clean:"] + sizes["Private_Dirty:"])


def request_us(engine: Engine, data_dir: Path) -> float:
    """CPU time of the flow for a known user, one request at a time: median of the rounds, microseconds."""
    from models.data.dataset import load_dataset
    from models.states import UserStates

    dataset = load_dataset(data_dir / "prepared")
    as_of_ms, shift_ms = engine.bundle.manifest.as_of_ms, engine.bundle.manifest.clock_shift_ms
    states = UserStates(dataset, shift_ms)
    known = np.unique(dataset.interactions.before(as_of_ms).user_index)
    users = known[np.unique(np.linspace(0, len(known) - 1, min(USERS, len(known))).astype(np.int64))].tolist()
    found = [states.at(user, as_of_ms) for user in users]
    flow, spent = Flow(Settings(deadline_ms=None)), []
    for _ in range(ROUNDS + 1):
        calls = [Call(RecommendRequest(k=10), engine, as_of_ms + shift_ms, 0.0, state=state) for state in found]
        begin = process_time_ns()
        for call in calls:
            flow.run([call])
        spent.append(process_time_ns() - begin)
    return float(np.median(spent[1:])) / 1000 / len(users)  # the first round allocates


if __name__ == "__main__":
    main()
