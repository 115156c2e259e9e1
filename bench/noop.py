"""The yardstick of HTTP alone: a FastAPI endpoint that does nothing and answers with the list of another day.

    python -m bench.noop --port 9000

The body is ignored, and the answer, of the size and shape of /recommend's with 20 items, is a dict made beforehand,
encoded by FastAPI at every request as in any FastAPI service: with the return type annotated, which lets pydantic write
the JSON and takes a quarter of the time it takes without.
"""

from typing import Any

from fastapi import FastAPI

from bench.kit.uvicorn_server import serve, yardstick_arguments

SOURCES = ("user_vector", "neighbours", "own_frequent", "popular")
ANSWER: dict[str, Any] = {
    "recommendation_id": "01KAN8Y0M3Q5T7V9X1Z3B5D7F9",
    "bundle": "20261121T204107Z-3f9a12",
    "items": [
        {
            "item_id": str(1_000_000 + 4_321 * rank),
            "rank": rank,
            "score": round(2.5 - 0.123457 * rank, 6),
            "source": SOURCES[rank % len(SOURCES)],
            "reason": {"kind": "because_of", "item_id": str(1_000_000 + 9_876 * rank)} if rank % 2 else None,
        }
        for rank in range(1, 21)
    ],
    "served_by": "ranking",
    "degraded": [],
    "warnings": [],
    "took_ms": 1.234,
}

app = FastAPI()


@app.post("/recommend")
async def recommend() -> dict[str, Any]:
    return ANSWER


@app.get("/readyz")
async def ready() -> dict[str, str]:
    return {"status": "ready"}


def main() -> None:
    serve(app, yardstick_arguments(__doc__).parse_args().port)


if __name__ == "__main__":
    main()
