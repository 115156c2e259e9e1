"""A circuit breaker: a server that hangs costs a few timeouts, not one for each request."""

from collections.abc import Callable
from types import TracebackType
from typing import Literal

from app.feature_store.errors import FeatureStoreUnavailable

BreakerState = Literal["closed", "open", "half_open"]


class Breaker:
    """Opens after `failures` failures in a row; every `open_s` seconds one call is let through as a probe.

    Calls that were under way together when one failed are one failure: what befell one connection befell them all, and
    says once that the server does not answer.  Not thread-safe: one event loop uses it.  clock: seconds, monotonic.
    """

    def __init__(self, failures: int, open_s: float, clock: Callable[[], float]) -> None:
        if failures < 1 or open_s <= 0:
            raise ValueError(f"breaker needs failures >= 1 and open_s > 0, got {failures} and {open_s}")
        self._limit, self._open_s, self._clock = failures, open_s, clock
        self._failures = 0
        self._counted = 0  # failures since ever
        self._retry_at = 0.0
        self._probing = False

    @property
    def state(self) -> BreakerState:
        if self._failures < self._limit:
            return "closed"
        return "half_open" if self._probing or self._clock() >= self._retry_at else "open"

    def guard(self, *failures: type[BaseException]) -> "Guard":
        """Run a call. `failures` raised in it count and become FeatureStoreUnavailable; so does an open breaker."""
        return Guard(self, failures)

    def enter(self) -> tuple[bool, int]:
        """Whether this call is the probe, and what to tell `failed`. Raises FeatureStoreUnavailable when calls are
        held back."""
        if self._failures < self._limit:
            return False, self._counted
        if self._probing or self._clock() < self._retry_at:
            raise FeatureStoreUnavailable("Redis did not answer lately; it is asked again in a moment")
        self._probing = True
        return True, self._counted

    def succeeded(self) -> None:
        self._failures = 0

    def probed(self) -> None:
        """Also when the caller was cancelled: the next call may probe."""
        self._probing = False

    def failed(self, began: int) -> None:
        """began: as `enter` gave it."""
        if began != self._counted:  # a failure was counted while this call was under way
            return
        self._counted += 1
        self._failures += 1
        if self._failures >= self._limit:
            self._retry_at = self._clock() + self._open_s


class Guard:
    """One call's context manager: written out, since the generators of contextlib cost each request more than it."""

    __slots__ = ("_began", "_breaker", "_failures", "_probe")

    def __init__(self, breaker: Breaker, failures: tuple[type[BaseException], ...]) -> None:
        self._breaker, self._failures = breaker, failures

    def __enter__(self) -> None:
        self._probe, self._began = self._breaker.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._probe:
            self._breaker.probed()
        if error is None:
            self._breaker.succeeded()
        elif isinstance(error, self._failures):
            self._breaker.failed(self._began)
            raise FeatureStoreUnavailable(f"Redis does not answer ({type(error).__name__})") from error
