"""The deadline ladder, on a clock that the test moves."""

from collections.abc import Callable

import pytest

from app.call import Call
from app.deadline import FORGET_S, StageTimes
from app.engine import Engine
from app.flow import Flow
from app.settings import Settings
from app.wire import Recommendation, RecommendRequest
from tests.unit.app.conftest import NOW_MS


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_p95_of_what_was_recorded_lately_and_nothing_of_what_is_old() -> None:
    clock = Clock()
    times = StageTimes(clock)
    assert times.p95("ranking") == 0.0
    for seconds in range(101):
        clock.now_s += 0.11 / 3  # the figure is kept up to date ten times a second
        times.record("ranking", seconds)
    clock.now_s += 1
    times.record("ranking", 101.0)
    assert times.p95("ranking") == pytest.approx(96.0, abs=1.0)  # 0..101: 5 of 102 lie above 96
    assert times.p95("retrieval") == 0.0
    clock.now_s += FORGET_S + 0.1
    assert times.p95("ranking") == 0.0


@pytest.fixture
def answer(engine: Engine) -> Callable[..., Recommendation]:
    """Answer one request with so much time left, when the stages have taken so long lately."""

    def run(left_s: float, *, retrieval_s: float, ranking_s: float, history: int = 3) -> Recommendation:
        clock = Clock()
        flow = Flow(Settings(), clock)
        for stage, seconds in (("retrieval", retrieval_s), ("ranking", ranking_s)):
            flow.times.record(stage, seconds)
        call = Call(RecommendRequest(k=5), engine, NOW_MS, clock.now_s, clock.now_s + left_s)
        call.session = engine.bundle.popular[:history]
        return flow.run([call])[0]

    return run


def test_with_time_for_everything_the_list_is_ranked(answer: Callable[..., Recommendation]) -> None:
    found = answer(0.050, retrieval_s=0.010, ranking_s=0.040)
    assert (found["served_by"], found["degraded"]) == ("ranking", [])


def test_ranking_goes_first(answer: Callable[..., Recommendation]) -> None:
    found = answer(0.030, retrieval_s=0.010, ranking_s=0.040)
    assert (found["served_by"], found["degraded"]) == ("retrieval", ["ranking"])
    assert len(found["items"]) == 5


def test_then_personal_retrieval_goes_and_the_popular_list_is_left(answer: Callable[..., Recommendation]) -> None:
    found = answer(0.005, retrieval_s=0.010, ranking_s=0.001)
    assert (found["served_by"], found["degraded"]) == ("popular", ["retrieval"])
    assert len(found["items"]) == 5


def test_a_request_whose_deadline_passed_in_the_queue_gets_the_popular_list(
    answer: Callable[..., Recommendation],
) -> None:
    found = answer(-0.001, retrieval_s=0.0, ranking_s=0.0)
    assert (found["served_by"], found["degraded"]) == ("popular", ["retrieval"])
    assert len(found["items"]) == 5


def test_a_cold_user_misses_nothing_and_is_not_degraded(answer: Callable[..., Recommendation]) -> None:
    found = answer(-0.001, retrieval_s=1.0, ranking_s=1.0, history=0)
    assert (found["served_by"], found["degraded"]) == ("popular", [])
