"""CPU time of several variants of the same work, in turn, so that a change of the machine's speed hits all alike."""

from collections.abc import Callable, Sequence
from time import process_time_ns

import numpy as np

ROUNDS = 15


def interleaved_us(
    works: Sequence[Callable[[], None]],
    requests: int,
    rounds: int = ROUNDS,
    clock_ns: Callable[[], int] = process_time_ns,
) -> list[float]:
    """Microseconds a request of each work, median of the rounds.  requests: how many each work does."""
    for work in works:
        work()  # the first run allocates
    spent: list[list[int]] = [[] for _ in works]
    for _ in range(rounds):
        for work, times in zip(works, spent, strict=True):
            begin = clock_ns()
            work()
            times.append(clock_ns() - begin)
    return [float(np.median(times)) / 1000 / requests for times in spent]
