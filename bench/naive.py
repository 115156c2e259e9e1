"""The same models as a team serves them in its first week: one file, everything on the event loop.

    python -m bench.naive --data-dir .shortlist --redis-url unix:///path/redis.sock --port 9001

FastAPI with pydantic models in and out; a Redis hash and a list for each user; float32 graphs, the ranker over 200
rows with the user's features repeated in each; an exact FAISS index. The graphs come from bench/kit/naive_graphs.py,
and `seed` writes the users. Scores are those of the models before quantization; items that the user has had are left
out, and nothing else is filtered. It answers with ids and scores, without reasons, sources, fallbacks or deadlines.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import onnxruntime
import orjson
from fastapi import FastAPI
from numpy.typing import NDArray
from pydantic import BaseModel
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from bench.kit.naive_files import FOLDER, ITEM_CATEGORICAL, ITEM_NUMERIC, ITEM_VECTORS, RANKER, TOWER, read_info
from bench.kit.uvicorn_server import serve, yardstick_arguments
from models.contract import features as contract_features
from models.contract import history as contract_history
from models.contract.bundle import open_bundle
from models.contract.features import DAY_MS, ItemTables, UserFeatures, cross_features, user_features
from models.contract.history import History, read_history
from models.contract.kernels import plain
from models.contract.schema import NumericFeature
from models.contract.state import COUNTER
from models.contract.state_parts import empty
from models.contract.user_inputs import user_inputs
from models.contract.versions import bundle_path
from models.data.dataset import Dataset
from models.states import UserStates

NUM_CANDIDATES = 200
SEEDED = "naive:seeded"
USERS_AT_ONCE = 500


class Asked(BaseModel):
    user_id: str
    k: int = 20
    context: dict[str, str] = {}


class Item(BaseModel):
    item_id: str
    score: float


class Answer(BaseModel):
    items: list[Item]


class NaiveRecommender:
    def __init__(self, data_dir: Path, redis_url: str) -> None:
        folder = data_dir / FOLDER
        self.info = read_info(folder)
        self.bundle = open_bundle(bundle_path(data_dir / "bundles", self.info.bundle))
        self.tables = ItemTables(
            np.asarray(self.bundle.neighbours),
            np.asarray(self.bundle.neighbours_similarity),
            np.asarray(self.bundle.tables["affinity"]),
        )
        vectors = np.load(folder / ITEM_VECTORS)
        self.index = faiss.IndexFlatIP(vectors.shape[1])
        self.index.add(vectors)
        self.item_categorical = np.load(folder / ITEM_CATEGORICAL)
        self.item_numeric = np.load(folder / ITEM_NUMERIC)
        self.tower, self.ranker = _session(folder / TOWER), _session(folder / RANKER)
        self.redis: Any = AsyncRedis.from_url(redis_url, decode_responses=True, protocol=2)

    async def recommend(self, asked: Asked) -> Answer:
        now_ms = time.time_ns() // 1_000_000
        profile = await self.redis.hgetall(f"naive:user:{asked.user_id}")
        entries = await self.redis.lrange(f"naive:history:{asked.user_id}", 0, -1)
        history = _history(entries)
        features = self.user_features(profile, history, asked.context, now_ms)
        items, retrieval_scores = self.candidates(history, features)
        scores = self.rank(items, retrieval_scores, history, features, now_ms)
        best = np.argsort(-scores)[: asked.k]
        ids = self.bundle.items
        return Answer(items=[Item(item_id=ids.item_id(int(items[i])), score=float(scores[i])) for i in best])

    def user_features(
        self, profile: dict[str, str], history: History, context: dict[str, str], now_ms: int
    ) -> UserFeatures:
        schema = self.bundle.schema
        static = {
            feature.name: float(profile[feature.name]) if isinstance(feature, NumericFeature) else profile[feature.name]
            for feature in schema.user_features
            if feature.name in profile
        }
        counts = [(0, 0, profile.get("interactions", 0)), (0, now_ms // DAY_MS, profile.get("interactions_28d", 0))]
        known = orjson.dumps({name: (value, now_ms) for name, value in static.items()})
        state = replace(empty(), counters=np.array(counts, COUNTER), features_json=known)
        return user_features(schema, state, history, context, now_ms)

    def candidates(self, history: History, features: UserFeatures) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Indices and retrieval scores of the 200 nearest items that the user has not had."""
        names = [value.name for value in self.tower.get_inputs()]
        inputs = user_inputs(names, self.info.tower_history_length, [history], [features])
        vector = self.tower.run(None, inputs)[0]
        had = np.unique(history.items)
        scores, items = self.index.search(vector, min(NUM_CANDIDATES + len(had), self.index.ntotal))
        new = ~np.isin(items[0], had)
        return items[0][new][:NUM_CANDIDATES], scores[0][new][:NUM_CANDIDATES]

    def rank(
        self,
        items: NDArray[np.int64],
        retrieval_scores: NDArray[np.float32],
        history: History,
        features: UserFeatures,
        now_ms: int,
    ) -> NDArray[np.float32]:
        cross = cross_features(items, retrieval_scores, history, self.tables, now_ms)
        names = [value.name for value in self.ranker.get_inputs()]
        user = user_inputs(names, self.info.ranker_history_length, [history], [features])
        inputs = {
            "item_categorical": self.item_categorical[items],
            "item_numeric": self.item_numeric[items],
            "cross": cross[:, : self.info.num_cross],
            **{name: np.repeat(row, len(items), axis=0) for name, row in user.items()},
        }
        scores: NDArray[np.float32] = self.ranker.run(None, inputs)[0]
        return scores


def seed(dataset: Dataset, redis_url: str, shift_ms: int, now_ms: int) -> None:
    """Write every user's hash and list, unless this was done. shift_ms: added to the data's times."""
    tag = f"{dataset.fingerprint}:{shift_ms}"
    states = UserStates(dataset, shift_ms)
    with Redis.from_url(redis_url, decode_responses=True, protocol=2) as redis, redis.pipeline(False) as pipeline:
        if redis.get(SEEDED) == tag:
            return
        for user in range(dataset.num_users):
            state = states.at(user, dataset.splits.end_ms)
            history, user_id = read_history(state, dataset.item_hashes), dataset.user_ids[user].decode()
            days, counts = state.counters["day"], state.counters["count"]
            profile: dict[str, Any] = {name: value for name, (value, _) in state.features.items()}
            profile["interactions"] = int(counts[days == 0].sum())
            profile["interactions_28d"] = int(counts[days > now_ms // DAY_MS - 28].sum())
            pipeline.delete(f"naive:history:{user_id}", f"naive:user:{user_id}")
            pipeline.hset(f"naive:user:{user_id}", mapping=profile)
            entries = zip(history.items.tolist(), history.times_ms.tolist(), strict=True)
            if len(history):
                pipeline.rpush(f"naive:history:{user_id}", *(f"{item}:{time_ms}" for item, time_ms in entries))
            if user % USERS_AT_ONCE == 0:
                pipeline.execute()
        pipeline.set(SEEDED, tag)
        pipeline.execute()


def create_app(recommender: NaiveRecommender) -> FastAPI:
    app = FastAPI()
    app.post("/recommend", response_model=Answer)(recommender.recommend)

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    return app


def _history(entries: list[str]) -> History:
    """entries: `item_index:time_ms`, oldest first."""
    pairs = np.array([entry.split(":") for entry in entries], np.int64).reshape(-1, 2)
    return History(pairs[:, 0], pairs[:, 1])


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main() -> None:
    parser = yardstick_arguments(__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="data folder with an active bundle")
    parser.add_argument("--redis-url", required=True, help="server that holds what `seed` wrote")
    arguments = parser.parse_args()
    for module in (contract_features, contract_history):
        vars(module)["kernels"] = plain  # a team's first week has NumPy and no C
    serve(create_app(NaiveRecommender(arguments.data_dir, arguments.redis_url)), arguments.port)


if __name__ == "__main__":
    main()
