"""k6's summary as figures of a load run."""

import math
from pathlib import Path
from typing import Any

import pytest

from bench.kit import k6
from bench.kit.cpu import Cpu
from bench.kit.plan import LoadPlan

PLAN = LoadPlan(port=1, bodies=Path("bodies"), rate=50.0, seconds=2.0, warmup_s=0.5)
MEASURED = "{scenario:measured}"


def summary(asked: int = 100, failed: int = 10) -> dict[str, dict[str, Any]]:
    """Of 150 requests in all, `asked` in the measured window; 5 more were never sent; milliseconds."""
    latency = {"p(50)": 1.5, "p(90)": 2.0, "p(99)": 3.0, "p(99.9)": 4.0, "max": 5.0}
    return {
        "http_reqs": {"count": 150, "rate": 42.0},
        f"http_reqs{MEASURED}": {"count": asked, "rate": 30.0},
        f"http_req_failed{MEASURED}": {"rate": failed / 100, "passes": failed, "fails": asked - failed},
        f"dropped_iterations{MEASURED}": {"count": 5, "rate": 1.0},
        f"degraded{MEASURED}": {"count": 2, "rate": 1.0},
        "http_req_duration{scenario:measured,expected_response:true}": latency,
    }


def test_figures_are_those_of_the_measured_window() -> None:
    """90 of 100 were answered in 2 s; the window has two thirds of the requests, so of the CPU time as well."""
    found = k6.read_summary(summary(), PLAN, Cpu(main_s=0.2, others_s=0.1, redis_s=0.03), client_cpu_share=0.4)
    assert (found.requests, found.errors, found.degraded, found.dropped) == (90, 10, 2, 5)
    assert (found.seconds, found.rps, found.offered_rps, found.client_cpu_share) == (2.0, 45.0, 52.5, 0.4)
    assert (found.p50_us, found.p90_us, found.p99_us, found.p99_9_us, found.max_us) == (1500, 2000, 3000, 4000, 5000)
    assert found.service_cpu_s == pytest.approx(0.2)
    assert found.redis_cpu_s == pytest.approx(0.02)
    assert found.cpu_us == pytest.approx(0.2 / 90 * 1e6)


def test_where_nothing_was_answered_there_is_no_latency() -> None:
    """k6 gives zeros then, which would look like an excellent service."""
    found = k6.read_summary(summary(asked=100, failed=100), PLAN, None, client_cpu_share=0.4)
    assert (found.requests, found.errors, found.service_cpu_s) == (0, 100, None)
    assert math.isnan(found.p50_us)
    assert math.isnan(found.max_us)


@pytest.mark.parametrize(
    ("changes", "said"), [({"rate": None}, "rate: k6 needs one"), ({"seconds": 0.5}, "seconds = 0.5")]
)
def test_what_k6_cannot_do_is_refused(changes: dict[str, Any], said: str) -> None:
    plan = LoadPlan(**{"port": 1, "bodies": Path("bodies"), "rate": 50.0, **changes})
    with pytest.raises(ValueError, match=said):
        k6.measure(plan)
