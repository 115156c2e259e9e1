"""The benchmark's own chain: a yardstick in a process, loaded by the client in another, on cores of their own."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.wire import Recommendation
from bench.kit import load
from bench.kit.plan import LoadPlan
from bench.kit.processes import answers, clean_environment, free_port, running
from bench.kit.result import LoadFailed


@pytest.fixture(scope="module")
def noop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadPlan]:
    """A plan of one second for a running no-op."""
    folder, port = tmp_path_factory.mktemp("noop"), free_port()
    bodies = folder / "bodies.jsonl"
    bodies.write_text('{"user_id": "u1"}\n')
    with running(
        [sys.executable, "-m", "bench.noop", "--port", str(port)],
        log=folder / "noop.log",
        cores=[min(os.sched_getaffinity(0))],
        env=clean_environment(),
        ready=lambda: answers(f"http://127.0.0.1:{port}/readyz"),
    ) as process:
        yield LoadPlan(port=port, bodies=bodies, connections=4, seconds=1.0, warmup_s=0.2, watch=tuple(process.pids))


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
    plan = LoadPlan(**{**{name: getattr(noop, name) for name in noop.__dataclass_fields__}, "rate": 50.0})
    found = load.measure(plan)
    assert found.requests == found.offered_rps  # of one second
    assert (found.errors, found.dropped) == (0, 0)
    assert found.late_p99_us is not None


def test_a_service_that_is_not_there_is_reported(tmp_path: Path) -> None:
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_text("{}\n")
    with pytest.raises(LoadFailed, match="ConnectionRefusedError"):
        load.measure(LoadPlan(port=free_port(), bodies=bodies, seconds=0.1, warmup_s=0.0))
