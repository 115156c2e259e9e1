"""Figures of a load run, from what was measured."""

import dataclasses
import math
from pathlib import Path

import orjson
import pytest

from bench.kit.plan import LoadPlan
from bench.kit.result import Load, latency_figures

LOAD = Load(
    requests=200,
    errors=1,
    degraded=2,
    dropped=3,
    seconds=2.0,
    rps=100.0,
    p50_us=10.0,
    p90_us=20.0,
    p99_us=30.0,
    p99_9_us=40.0,
    max_us=50.0,
    client_cpu_share=0.5,
    service_cpu_s=0.1,
    redis_cpu_s=0.01,
)


def test_percentiles_are_linear_between_neighbours() -> None:
    """Of 0, 1, ... 10 the p-th percentile lies at p / 10."""
    found = latency_figures(range(10, -1, -1))
    wanted = {"p50_us": 5.0, "p90_us": 9.0, "p99_us": 9.9, "p99_9_us": 9.99, "max_us": 10.0}
    assert found == pytest.approx(wanted, abs=1e-12)


def test_without_an_answer_there_is_no_latency() -> None:
    assert all(math.isnan(value) for value in latency_figures([]).values())


def test_cpu_of_a_request_is_that_of_the_window_over_the_answers_in_it() -> None:
    """0.1 s over 100 a second for 2 s is 500 us; `requests` may count answers that came after the window."""
    assert LOAD.cpu_us == pytest.approx(500.0)
    assert dataclasses.replace(LOAD, requests=400).cpu_us == pytest.approx(500.0)
    assert math.isnan(dataclasses.replace(LOAD, service_cpu_s=None).cpu_us)
    assert math.isnan(dataclasses.replace(LOAD, rps=0.0).cpu_us)


def test_a_load_is_read_back_from_json() -> None:
    """NaN is null there."""
    assert Load.of(orjson.loads(orjson.dumps(LOAD))) == LOAD
    none = dataclasses.replace(LOAD, requests=0, p99_us=math.nan)
    assert math.isnan(Load.of(orjson.loads(orjson.dumps(none))).p99_us)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"connections": 0}, "connections = 0"),
        ({"seconds": 0.0}, "seconds = 0.0"),
        ({"warmup_s": -1.0}, "warmup_s = -1.0"),
        ({"rate": 0.0}, "rate = 0.0"),
    ],
)
def test_a_plan_that_cannot_be_run_names_the_field(changes: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LoadPlan(port=1, bodies=Path("bodies"), **changes)  # type: ignore[arg-type]
