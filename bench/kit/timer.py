"""A timer of nanoseconds on the event loop: the loop's own has milliseconds, which is as long as an answer takes.

Linux's timerfd; Python has it from 3.13 on.
"""

import asyncio
import ctypes
import os
import time
from collections.abc import Callable

_LIBC = ctypes.CDLL(None, use_errno=True)
_ABSOLUTE = 1
_Spec = ctypes.c_long * 4  # interval s, ns; first time s, ns


class Timer:
    """on_due: called on the loop once `at` has passed. Its clock is time.perf_counter_ns.  Raises OSError."""

    def __init__(self, on_due: Callable[[], None]) -> None:
        self._fd = int(_LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._on_due = on_due
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._fired)

    def at(self, time_ns: int) -> None:
        """Once, in place of what was set before; a time that has passed is due at once."""
        spec = _Spec(0, 0, *divmod(max(time_ns, 1), 1_000_000_000))
        if _LIBC.timerfd_settime(self._fd, _ABSOLUTE, spec, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _fired(self) -> None:
        os.read(self._fd, 8)
        self._on_due()
