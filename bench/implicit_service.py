"""What many teams write in a day: `implicit`'s ALS behind FastAPI, users and factors in memory, no Redis, no ranker.

    python -m bench.implicit_service --data-dir .shortlist --port 9002

The model learns from the prepared interactions at the first start and is kept beside them. A user's list is 64 numbers
times all items, less what they have had; it changes only with the next fit. The yardstick of one stage alone.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when scipy and implicit are imported; implicit warns without it

from pathlib import Path

import numpy as np
from fastapi import FastAPI, HTTPException
from implicit.als import AlternatingLeastSquares
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.sparse import csr_matrix

from bench.kit.uvicorn_server import serve, yardstick_arguments
from models.data.dataset import Dataset, load_dataset

FOLDER = Path("bench", "implicit")  # of a data folder
FACTORS, ITERATIONS = 64, 5


class Asked(BaseModel):
    user_id: str
    k: int = 20


class Item(BaseModel):
    item_id: str
    score: float


class Answer(BaseModel):
    items: list[Item]


def user_items(dataset: Dataset) -> csr_matrix:
    """How often each user had each item, float32 [U, N]."""
    rows = dataset.interactions
    ones = np.ones(len(rows), np.float32)
    return csr_matrix((ones, (rows.user_index, rows.item_index)), shape=(dataset.num_users, dataset.num_items))


def fitted(dataset: Dataset, counts: csr_matrix, folder: Path) -> AlternatingLeastSquares:
    """The model of this data, learnt now or read from `folder`."""
    model = AlternatingLeastSquares(factors=FACTORS, iterations=ITERATIONS, num_threads=1, random_state=0)
    path = folder / f"als-{dataset.fingerprint[:16]}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as stored:
            model.user_factors, model.item_factors = stored["users"], stored["items"]
        return model
    model.fit(counts, show_progress=False)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as file:
        np.savez(file, users=model.user_factors, items=model.item_factors)
    unfinished.rename(path)
    return model


def create_app(data_dir: Path) -> FastAPI:
    dataset = load_dataset(data_dir / "prepared")
    counts = user_items(dataset)
    model = fitted(dataset, counts, data_dir / FOLDER)
    users = {dataset.user_ids[user].decode(): user for user in range(dataset.num_users)}
    items = [dataset.item_ids[item].decode() for item in range(dataset.num_items)]
    app = FastAPI()

    @app.post("/recommend", response_model=Answer)
    async def recommend(asked: Asked) -> Answer:
        user = users.get(asked.user_id)
        if user is None:
            raise HTTPException(404, f"no user {asked.user_id}")
        found: tuple[NDArray[np.int32], NDArray[np.float32]] = model.recommend(
            user, counts[user], N=asked.k, filter_already_liked_items=True
        )
        ids, scores = (values.tolist() for values in found)
        return Answer(items=[Item(item_id=items[i], score=s) for i, s in zip(ids, scores, strict=True)])

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    return app


def main() -> None:
    parser = yardstick_arguments(__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="data folder with prepared data")
    arguments = parser.parse_args()
    serve(create_app(arguments.data_dir), arguments.port)


if __name__ == "__main__":
    main()
