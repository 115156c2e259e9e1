"""The breaker by a clock that the test moves."""

import pytest

from app.feature_store.breaker import Breaker
from app.feature_store.errors import FeatureStoreUnavailable


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def fail(breaker: Breaker) -> None:
    with pytest.raises(FeatureStoreUnavailable, match="TimeoutError"), breaker.guard(TimeoutError):
        raise TimeoutError


def refused(breaker: Breaker) -> bool:
    try:
        with breaker.guard(TimeoutError):
            return False
    except FeatureStoreUnavailable:
        return True


def test_opens_after_failures_in_a_row_and_refuses_without_calling() -> None:
    clock = Clock()
    breaker = Breaker(3, 2.0, clock)
    fail(breaker)
    fail(breaker)
    assert not refused(breaker)  # a success: the count starts again
    fail(breaker)
    fail(breaker)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"
    assert refused(breaker)


def test_lets_one_probe_through_after_its_time_and_closes_when_that_succeeds() -> None:
    clock = Clock()
    breaker = Breaker(1, 2.0, clock)
    fail(breaker)
    clock.now += 1.99
    assert refused(breaker)
    clock.now += 0.01
    assert breaker.state == "half_open"
    with breaker.guard(TimeoutError):
        assert refused(breaker)  # others wait for the probe
    assert breaker.state == "closed"


def test_a_failed_probe_opens_it_for_another_time() -> None:
    clock = Clock()
    breaker = Breaker(1, 2.0, clock)
    fail(breaker)
    clock.now += 2
    fail(breaker)
    assert breaker.state == "open"
    assert refused(breaker)


def test_calls_that_were_under_way_when_one_failed_are_one_failure_with_it() -> None:
    """Five callers wait on a connection that is lost: the breaker sees one thing go wrong, and so for the next five."""
    breaker = Breaker(3, 2.0, Clock())
    for opened in ("closed", "closed", "open"):
        together = [breaker.guard(TimeoutError) for _ in range(5)]
        for guard in together:
            guard.__enter__()
        for guard in together:
            with pytest.raises(FeatureStoreUnavailable):
                guard.__exit__(TimeoutError, TimeoutError(), None)
        assert breaker.state == opened


def test_a_call_from_before_the_breaker_opened_does_not_keep_it_open_longer() -> None:
    clock = Clock()
    breaker = Breaker(1, 2.0, clock)
    early = breaker.guard(TimeoutError)
    early.__enter__()
    fail(breaker)
    clock.now += 1.9
    with pytest.raises(FeatureStoreUnavailable):
        early.__exit__(TimeoutError, TimeoutError(), None)
    clock.now += 0.1
    assert not refused(breaker)


def test_a_cancelled_probe_makes_room_for_the_next() -> None:
    """The caller went away: nothing is known of the server, so it may be asked again at once."""
    clock = Clock()
    breaker = Breaker(1, 2.0, clock)
    fail(breaker)
    clock.now += 2
    with pytest.raises(KeyboardInterrupt), breaker.guard(TimeoutError):
        raise KeyboardInterrupt
    assert breaker.state == "half_open"
    assert not refused(breaker)
    assert breaker.state == "closed"


def test_other_errors_pass_through_and_do_not_count() -> None:
    breaker = Breaker(1, 2.0, Clock())
    with pytest.raises(KeyError), breaker.guard(TimeoutError):
        raise KeyError("a defect of ours")
    assert breaker.state == "closed"


@pytest.mark.parametrize(("failures", "open_s"), [(0, 1.0), (1, 0.0)])
def test_refuses_limits_that_mean_nothing(failures: int, open_s: float) -> None:
    with pytest.raises(ValueError, match="breaker needs"):
        Breaker(failures, open_s, Clock())
