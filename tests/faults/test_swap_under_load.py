"""Bundles swapped under load with two workers, and a stop under load: nobody's request fails."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.call import Call, resolve_items
from app.flow import Flow
from app.opening import open_engine
from app.settings import Settings
from app.wire import RecommendRequest
from tests.service_process import RunningService, eventually, load, make_bundles, serving
from tests.tiny_bundle import AS_OF_MS

REQUEST = {"k": 10, "history": ["i1", "i6", "i11"], "deadline_ms": 10_000}


def expected_list(data_dir: Path, version: str) -> list[str]:
    """The list that this bundle gives, computed here from its files."""
    engine = open_engine(data_dir / "bundles" / version, 0)
    call = Call(RecommendRequest.model_validate(REQUEST), engine, AS_OF_MS, 0.0)
    resolve_items(call)
    return [item["item_id"] for item in Flow(Settings()).run([call])[0]["items"]]


async def test_three_swaps_and_a_rollback_fail_no_request_and_mix_no_answer(tmp_path: Path) -> None:
    """Every answer is the one list of the bundle that it names; once a swap is confirmed, no worker answers with
    the bundle before it."""
    versions = make_bundles(tmp_path, count=4)
    expected = {version: expected_list(tmp_path, version) for version in versions}
    assert len({tuple(found) for found in expected.values()}) == 4
    steps = [*(f"{version}/activate" for version in versions[1:]), "rollback"]
    results = [*versions[1:], versions[2]]
    with serving(tmp_path, workers=2) as service:
        async with load(service, REQUEST, callers=8) as state, service.client() as client:
            await state.more(20)
            for step, result in zip(steps, results, strict=True):
                done = (await client.post(f"/bundles/{step}")).json()
                assert (done["active"], done["workers"]) == (result, 2)
                in_flight = len(state.answers) + 8
                await state.more(30)
                assert {found["bundle"] for found in state.answers[in_flight:]} == {result}
            assert await workers_that_answered(client) == {"0", "1"}
    assert state.failures == []
    for found in state.answers:
        assert [item["item_id"] for item in found["items"]] == expected[found["bundle"]]
    assert {found["bundle"] for found in state.answers} == set(versions)


async def workers_that_answered(client: httpx.AsyncClient) -> set[str]:
    answered: set[str] = set()

    async def both() -> bool:
        for line in (await client.get("/metrics")).text.splitlines():
            if line.startswith('shortlist_requests_total{route="/recommend",status="200"'):
                answered.add(line.split('worker="')[1][0])
        return answered == {"0", "1"}

    await eventually(both, "both workers had answered")
    return answered


async def watch_readiness(service: RunningService, stopped: asyncio.Event) -> None:
    """What a balancer does."""
    async with service.client() as client:
        while not stopped.is_set():
            try:
                if (await client.get("/readyz")).status_code != 200:
                    stopped.set()
            except httpx.HTTPError:
                stopped.set()
            await asyncio.sleep(0.05)


def terminate(service: RunningService) -> None:
    service.process.terminate()


def press_ctrl_c(service: RunningService) -> None:
    """A terminal sends SIGINT to the whole process group."""
    os.killpg(service.process.pid, signal.SIGINT)


@pytest.mark.parametrize("stop", [terminate, press_ctrl_c])
async def test_a_stop_under_load_fails_nothing_for_who_watches_readyz(
    tmp_path: Path, stop: Callable[[RunningService], None]
) -> None:
    """The process then ends with code 0, and its Redis with it."""
    make_bundles(tmp_path)
    with serving(tmp_path, workers=2, drain_s=1.5) as service:
        stopped = asyncio.Event()
        async with load(service, REQUEST, callers=8) as state:
            await state.more(20)
            watcher = asyncio.create_task(watch_readiness(service, stopped))
            stop(service)
            await stopped.wait()
            answered = len(state.answers)
            state.go_on = False
        await watcher
        assert state.failures == []
        assert len(state.answers) >= answered
        assert await asyncio.to_thread(service.process.wait, 30) == 0
        assert not (tmp_path / "redis" / "redis.pid").exists()
