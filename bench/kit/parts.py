"""The parts of a request by themselves, in one process with one thread: the index beside an exact scan, the ranker
beside the tiled float32 graph, and the CPU time of each stage.

    python -m bench.kit.parts 60k .shortlist/bench/60k

prints one line of JSON: unit and rounds of each figure by its name. All of it is CPU time of the thread, for real
users and their real candidates, others at every request, so that no table stays in the cache between two.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import thread_time_ns
from typing import Any

import faiss
import numpy as np
import onnxruntime
import orjson
from numpy.typing import NDArray

from app.answer import answer
from app.call import Call, features_of, read_user
from app.candidates import retrieve
from app.engine import Engine
from app.opening import open_engine
from app.ranking import rank
from app.settings import Settings
from app.wire import RecommendRequest
from bench.kit.naive_files import ITEM_CATEGORICAL, ITEM_NUMERIC, RANKER
from bench.kit.naive_graphs import naive_folder
from models.contract.candidates import NUM_RANKED
from models.contract.features import cross_features
from models.contract.state import pack, unpack
from models.contract.user_inputs import user_inputs
from models.contract.versions import bundle_path, read_active
from models.data.dataset import load_dataset
from models.states import UserStates

NUM_USERS = 128
ROUNDS = 15
AT = 200  # items that the index is asked for
BATCHES = {"alone": 1, "batches of 16": 16}

Found = dict[str, tuple[str, list[float]]]


def main() -> None:
    name, data_dir = sys.argv[1], Path(sys.argv[2])
    faiss.omp_set_num_threads(1)
    bundles = data_dir / "bundles"
    version = read_active(bundles)
    assert version is not None, f"no bundle is active in {bundles}"
    engine = open_engine(bundle_path(bundles, version), Settings().filter_cache_mb * 2**20)
    asked = Asked(engine, data_dir)
    found = index_figures(engine, asked, name) | stage_figures(engine, asked, name)
    if engine.ranking is not None:
        found |= ranker_figures(engine, asked, name, data_dir)
    print(orjson.dumps(found).decode())


class Asked:
    """Users spread over all of the data, as the feature store would have them now."""

    def __init__(self, engine: Engine, data_dir: Path) -> None:
        dataset, manifest = load_dataset(data_dir / "prepared"), engine.bundle.manifest
        known = np.unique(dataset.interactions.user_index)
        users = known[np.linspace(0, len(known) - 1, min(NUM_USERS, len(known))).astype(np.int64)]
        states = UserStates(dataset, manifest.clock_shift_ms)
        self._packed = [pack(states.at(user, manifest.as_of_ms)) for user in users.tolist()]
        self._now_ms = manifest.as_of_ms + manifest.clock_shift_ms
        self._engine = engine

    def calls(self) -> list[Call]:
        """New calls, each with its state as it comes from the store."""
        request = RecommendRequest(k=20)
        return [Call(request, self._engine, self._now_ms, 0.0, state=unpack(packed)) for packed in self._packed]

    def ready(self) -> list[Call]:
        """Calls that have candidates and features."""
        calls = self.calls()
        for call in calls:
            read_user(call)
            features_of(call)
        retrieve(calls, NUM_RANKED)
        return calls


def index_figures(engine: Engine, asked: Asked, name: str) -> Found:
    """The index beside FlatIP over the same vectors in float32, and how much of FlatIP's list it finds."""
    vectors = np.ascontiguousarray(engine.bundle.item_vectors[:], np.float32)
    flat: Any = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    users = [call.user_vector[None, :] for call in asked.ready() if call.user_vector is not None]
    k = min(AT, len(vectors))
    recalls = [
        _recall(vectors, user[0], flat.search(user, k)[0][0, -1], engine.index.search(user, k)[1][0]) for user in users
    ]
    rounds: dict[str, list[float]] = {"index_us": [], "flat_us": []}
    few = users[: len(users) if len(vectors) < 200_000 else len(users) // 4]
    for _ in range(ROUNDS):
        rounds["index_us"].append(_each_us(users, lambda user: engine.index.search(user, k)))
        rounds["flat_us"].append(_each_us(few, lambda user: flat.search(user, k)))
    found: Found = {f"{kind}/{name}": ("us", values) for kind, values in rounds.items()}
    return found | {f"recall/{name}": ("share", [float(np.mean(recalls))])}


def ranker_figures(engine: Engine, asked: Asked, name: str, data_dir: Path) -> Found:
    """User graph, item rows and head of the bundle beside one float32 graph over rows of user and item."""
    folder = naive_folder(data_dir)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    tiled = onnxruntime.InferenceSession(str(folder / RANKER), options, providers=["CPUExecutionProvider"])
    categorical, numeric = np.load(folder / ITEM_CATEGORICAL), np.load(folder / ITEM_NUMERIC)
    names = [value.name for value in tiled.get_inputs()]
    assert engine.ranking is not None
    length, given = engine.ranking.history_length, [_ranker_inputs(call) for call in asked.ready()]

    def tiled_once(inputs: "RankerInputs") -> None:
        call, items, cross = inputs
        user = user_inputs(names, length, [call.history], [features_of(call)])
        repeated = {key: np.repeat(row, len(items), axis=0) for key, row in user.items()}
        rows = {"item_categorical": categorical[items], "item_numeric": numeric[items], "cross": cross}
        tiled.run(None, {**rows, **repeated})

    rounds: dict[str, list[float]] = {"ranker_us": [], "ranker_tiled_us": []}
    for _ in range(ROUNDS):
        rounds["ranker_us"].append(_each_us(given, lambda one: _rank(engine, [one])))
        rounds["ranker_tiled_us"].append(_each_us(given, tiled_once))
    return {f"{kind}/{name}": ("us", values) for kind, values in rounds.items()}


def stage_figures(engine: Engine, asked: Asked, name: str) -> Found:
    """CPU time of a request by stage. Tower, index and ranker are measured by themselves; what is left of retrieval is
    the other sources and the merging, what is left of ranking is the features."""
    found: Found = {}
    for column, size in BATCHES.items():
        rounds = [_stages(engine, asked, size) for _ in range(ROUNDS + 1)][1:]
        for stage in rounds[0]:
            found[f"stage_us/{name}, {column}/{stage}"] = ("us", [one[stage] for one in rounds])
    return found


def _stages(engine: Engine, asked: Asked, size: int) -> dict[str, float]:
    packed_calls, calls = _timed(asked.calls)
    count = len(calls)
    groups = [calls[begin : begin + size] for begin in range(0, count, size)]
    state, _ = _timed(lambda: _for_each(read_user, calls))
    features = [[features_of(call) for call in group] if engine.tower_reads_features else [] for group in groups]
    tower, vectors = _timed(
        lambda: [engine.user_vectors([c.history for c in g], f) for g, f in zip(groups, features, strict=True)]
    )
    index, _ = _timed(
        lambda: [engine.nearest(u, [c.allowed for c in g], [AT] * len(g)) for u, g in zip(vectors, groups, strict=True)]
    )
    retrieval, _ = _timed(lambda: _for_each(lambda group: retrieve(group, NUM_RANKED), groups))
    again = [replace(call, features=None) for call in calls]
    ranking, _ = _timed(lambda: _for_each(rank, [again[begin : begin + size] for begin in range(0, count, size)]))
    given = [[_ranker_inputs(call) for call in group] for group in groups]
    ranker, _ = _timed(lambda: _for_each(lambda group: _rank(engine, group), given))
    listed, _ = _timed(lambda: [orjson.dumps(answer(call, 0.05)) for call in again])
    spent = {
        "state": packed_calls + state,
        "user tower": tower,
        "index": index,
        "other candidates": max(retrieval - tower - index, 0.0),
        "features": max(ranking - ranker, 0.0),
        "ranker": ranker,
        "answer": listed,
    }
    return {stage: us / count for stage, us in spent.items()}


RankerInputs = tuple[Call, NDArray[np.int64], NDArray[np.float32]]


def _ranker_inputs(call: Call) -> RankerInputs:
    assert call.candidates is not None
    items, info = call.candidates.items, call.engine.bundle.manifest.ranking
    num_cross = 0 if info is None else len(info.cross_features)
    cross = cross_features(items, call.candidates.scores, call.history, call.engine.tables, call.now_ms)
    return call, items, cross[:, :num_cross]


def _rank(engine: Engine, given: Sequence[RankerInputs]) -> None:
    calls = [call for call, _, _ in given]
    engine.rank(
        [c.history for c in calls], [features_of(c) for c in calls], [i for _, i, _ in given], [x for _, _, x in given]
    )


def _recall(vectors: NDArray[np.float32], user: NDArray[np.float32], worst: float, items: NDArray[np.int64]) -> float:
    """By score, since of equal items any will do."""
    known = items[items >= 0]
    return np.count_nonzero(vectors[known] @ user >= worst - 1e-5 * max(1.0, abs(worst))) / len(items)


def _each_us(given: Sequence[Any], do: Callable[[Any], Any]) -> float:
    return _timed(lambda: _for_each(do, given))[0] / len(given)


def _for_each(do: Callable[[Any], object], given: Sequence[Any]) -> None:
    for one in given:
        do(one)


def _timed(do: Callable[[], object]) -> tuple[float, Any]:
    """Microseconds of CPU time, and what it returned."""
    begin = thread_time_ns()
    returned = do()
    return (thread_time_ns() - begin) / 1000, returned


if __name__ == "__main__":
    main()
