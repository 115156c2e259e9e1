"""The benchmark's own chain: a yardstick in a process, loaded by the client in another, on cores of their own."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from app.wire import Recommendation
from bench.kit import k6, load, services
from bench.kit.plan import LoadPlan
from bench.kit.processes import free_port
from bench.kit.result import LoadFailed


@pytest.fixture(scope="module")
def noop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadPlan]:
    """A plan of one second for a running no-op."""
    folder = tmp_path_factory.mktemp("noop")
    bodies = folder / "bodies.jsonl"
    bodies.write_text('{"user_id": "u1"}\n')
    with services.noop(folder / "noop.log", cores=[min(os.sched_getaffinity(0))]) as service:
        pids = tuple(service.running.pids)
        yield LoadPlan(port=service.port, bodies=bodies, connections=4, seconds=1.0, warmup_s=0.2, watch=pids)


def test_the_noop_answers_in_the_shape_of_recommend(noop: LoadPlan) -> None:
    found = httpx.post(f"http://127.0.0.1:{noop.port}/recommend", content=b"not even JSON").json()
    assert set(found) == set(Recommendation.__annotations__)
    assert [item["rank"] for item in found["items"]] == list(range(1, 21))


def test_a_closed_loop_counts_what_the_service_answered(noop: LoadPlan) -> None:
    found = load.measure(noop, cores=[max(os.sched_getaffinity(0))])
    assert found.requests > 0
    assert (found.errors, found.degraded, found.dropped, found.offered_rps) == (0, 0, 0, None)
    assert found.seconds > 0.9
    assert found.p50_us <= found.p90_us <= found.p99_us <= found.p99_9_us <= found.max_us
    assert 0 < found.cpu_us < 1e6
    assert found.redis_cpu_s == 0


def test_an_open_loop_offers_its_rate(noop: LoadPlan) -> None:
    found = load.measure(replace(noop, rate=50.0))
    assert found.requests == found.offered_rps  # of one second
    assert (found.errors, found.dropped) == (0, 0)
    assert found.late_p99_us is not None


def test_k6_offers_its_rate(noop: LoadPlan) -> None:
    """A constant one: 50 in the second that is measured, and at most one at its end."""
    found = k6.measure(replace(noop, rate=50.0), cores=[max(os.sched_getaffinity(0))])
    assert 50 <= found.requests + found.dropped <= 51
    assert (found.errors, found.degraded) == (0, 0)
    assert 0 < found.p50_us <= found.p99_us <= found.max_us
    assert 0 < found.cpu_us < 1e6


def test_k6_counts_what_the_service_refuses(noop: LoadPlan) -> None:
    found = k6.measure(replace(noop, rate=50.0, warmup_s=0.0, path="/nothing"))
    assert 50 <= found.errors + found.dropped <= 51
    assert (found.requests, found.rps) == (0, 0)


def test_what_k6_says_of_its_failure_is_passed_on(noop: LoadPlan, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"k6 failed with code \d+: .*missing\.jsonl"):
        k6.measure(replace(noop, rate=50.0, bodies=tmp_path / "missing.jsonl"))


def test_a_service_that_is_not_there_is_reported(tmp_path: Path) -> None:
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_text("{}\n")
    with pytest.raises(LoadFailed, match="ConnectionRefusedError"):
        load.measure(LoadPlan(port=free_port(), bodies=bodies, seconds=0.1, warmup_s=0.0))
