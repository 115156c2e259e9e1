"""What an index finds, and how long it takes: searches for one user at a time on one thread, as in serving."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import process_time_ns
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

NUM_TIMED = 100
TIMING_ROUNDS = 3


class Recall(NamedTuple):
    """mean: share of the exact top k that is found.  error: standard error of that mean, over the users."""

    mean: float
    error: float


class Wanted(NamedTuple):
    """What some users should be given.  users: float32 [Q, d].  worst: float32 [Q], their k-th largest products."""

    users: NDArray[np.float32]
    worst: NDArray[np.float32]
    k: int

    def part(self, rows: slice) -> "Wanted":
        return Wanted(self.users[rows], self.worst[rows], self.k)


def exact_worst(
    item_vectors: NDArray[np.float32], user_vectors: NDArray[np.float32], k: int, block: int = 64
) -> NDArray[np.float32]:
    """The k-th largest inner product of each user, float32 [Q]: an item that reaches it belongs to the exact top k."""
    worst = np.empty(len(user_vectors), np.float32)
    for begin in range(0, len(user_vectors), block):
        scores = user_vectors[begin : begin + block] @ item_vectors.T  # [q, N]
        worst[begin : begin + block] = np.partition(scores, -k, axis=1)[:, -k]
    return worst


@contextmanager
def one_thread() -> Iterator[None]:
    """FAISS as it runs in serving."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def recall_of(index: Any, item_vectors: NDArray[np.float32], wanted: Wanted) -> Recall:
    """Counted by score, since of equal items any will do."""
    shares = np.empty(len(wanted.users))
    for row, (user, worst) in enumerate(zip(wanted.users, wanted.worst, strict=True)):
        items = index.search(user[None], wanted.k)[1][0]
        scores = item_vectors[items[items >= 0]] @ user
        shares[row] = np.count_nonzero(scores >= worst - 1e-5 * max(1.0, abs(worst))) / wanted.k
    return Recall(float(shares.mean()), float(shares.std() / np.sqrt(len(shares))))


def search_us(index: Any, users: NDArray[np.float32], k: int) -> float:
    """CPU time of one search for one user, microseconds: the median over rounds."""
    timed = users[:NUM_TIMED]
    rounds = []
    for _ in range(TIMING_ROUNDS):
        begin = process_time_ns()
        for position in range(len(timed)):
            index.search(timed[position : position + 1], k)
        rounds.append((process_time_ns() - begin) / 1000 / len(timed))
    return float(np.median(rounds))
