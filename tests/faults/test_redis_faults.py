"""Redis stopped, killed or absent while 50 requests a second come: every list is made, and says what it lacked."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.feature_store.embedded import EmbeddedRedis
from tests.service_process import Load, RunningService, eventually, load, make_bundles, serving

BODY = {"user_id": "u1", "k": 3, "deadline_ms": 5_000}
CALLERS = 4
EVENT = {"events": [{"user_id": "u1", "item_id": "i1", "event_type": "purchase"}]}


def stop(redis: EmbeddedRedis) -> None:
    os.kill(redis.pid, signal.SIGSTOP)


def go_on(redis: EmbeddedRedis) -> None:
    os.kill(redis.pid, signal.SIGCONT)


FAULTS: dict[str, tuple[Callable[[EmbeddedRedis], None], Callable[[EmbeddedRedis], None]]] = {
    "stopped": (stop, go_on),
    "killed": (EmbeddedRedis.kill, EmbeddedRedis.start),
}


async def is_whole(client: httpx.AsyncClient) -> bool:
    found = (await client.post("/recommend", json=BODY)).json()
    return found["served_by"] == "ranking" and not found["degraded"]


async def check_without_redis(service: RunningService, client: httpx.AsyncClient, state: Load) -> None:
    """All answers are lists that name the feature store; events are refused and not lost silently; still ready."""

    async def noticed() -> bool:
        return bool(state.answers) and "feature_store" in state.answers[-1]["degraded"]

    await eventually(noticed, "an answer was made without Redis")
    for found in await state.more(40):
        assert (found["degraded"], found["served_by"], len(found["items"])) == (["feature_store"], "popular", 3)
    refused = await client.post("/events", json=EVENT)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "feature_store_unavailable")
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["feature_store"]) == (200, "unavailable")
    own = (await client.post("/recommend", json={**BODY, "history": ["i3", "i7"]})).json()
    assert (own["degraded"], own["served_by"]) == (["feature_store"], "ranking")


async def check_whole(client: httpx.AsyncClient, state: Load) -> None:
    async def again() -> bool:
        return await is_whole(client)

    await eventually(again, "answers were whole again")
    await state.more(CALLERS)  # begun before that
    for found in await state.more(10):
        assert found["degraded"] == []
    assert (await client.post("/events", json=EVENT)).json()["accepted"] == 1


@pytest.mark.parametrize("fault", sorted(FAULTS))
async def test_lists_go_on_without_redis_and_are_whole_when_it_returns(tmp_path: Path, fault: str) -> None:
    make_bundles(tmp_path)
    fail, heal = FAULTS[fault]
    with (
        EmbeddedRedis(tmp_path / "other-redis") as redis,
        serving(tmp_path, redis_url=redis.url) as service,
    ):
        async with service.client() as client, load(service, BODY, CALLERS) as state:
            assert (await client.post("/events", json=EVENT)).json()["accepted"] == 1
            await check_whole(client, state)
            fail(redis)
            try:
                await check_without_redis(service, client, state)
            finally:
                heal(redis)
            await check_whole(client, state)
    assert state.failures == []


async def test_the_service_starts_and_answers_before_redis_is_there(tmp_path: Path) -> None:
    make_bundles(tmp_path)
    redis = EmbeddedRedis(tmp_path / "other-redis")
    with serving(tmp_path, redis_url=redis.url) as service:
        async with service.client() as client, load(service, BODY, CALLERS) as state:
            await check_without_redis(service, client, state)
            with redis:

                async def accepted() -> bool:
                    return (await client.post("/events", json=EVENT)).status_code == 200

                await eventually(accepted, "events were accepted")
                await check_whole(client, state)
    assert state.failures == []


async def test_the_embedded_redis_is_started_again_when_it_dies(tmp_path: Path) -> None:
    make_bundles(tmp_path)
    with serving(tmp_path) as service:
        async with service.client() as client, load(service, BODY, CALLERS) as state:
            assert (await client.post("/events", json=EVENT)).json()["accepted"] == 1
            await check_whole(client, state)
            os.kill(int((tmp_path / "redis" / "redis.pid").read_text()), signal.SIGKILL)
            await check_whole(client, state)
    assert state.failures == []
