"""Which precision a graph ships in: does batching change its scores, how long does it take, does int8 cost quality."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import process_time_ns

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from export.graphs import Feed, open_session, run
from models.contract.manifest import Gate, GraphInfo

MAX_SLOWDOWN = 1.10
BATCHED = 16  # requests the service puts into one run


@dataclass(frozen=True, slots=True)
class Timing:
    """CPU time of one run of each graph, microseconds, median of interleaved rounds."""

    fp32_us: float
    int8_us: float

    @property
    def ratio(self) -> float:
        return self.int8_us / self.fp32_us


def join(requests: Sequence[Feed]) -> Feed:
    """One feed of several requests, as the service batches them: rows point to their own request's users."""
    joined = {name: np.concatenate([request[name] for request in requests]) for name in requests[0]}
    if "row_user" in joined:
        first_users = np.cumsum([0, *(len(request["user"]) for request in requests[:-1])])
        shifted = [request["row_user"] + first for request, first in zip(requests, first_users, strict=True)]
        joined["row_user"] = np.concatenate(shifted).astype(np.int64)
    return joined


def rows_changed_by_batching(graph: bytes, requests: Sequence[Feed], batched: int = BATCHED) -> int:
    """Number of output rows that are not bitwise the same alone and together with the rows of other requests."""
    session = open_session(graph)
    alone = np.concatenate([run(session, request) for request in requests])
    together = np.concatenate([run(session, join(group)) for group in _groups(requests, batched)])
    bits = [array.reshape(len(array), -1).view(np.uint32) for array in (alone, together)]
    return int((bits[0] != bits[1]).any(axis=1).sum())


def time_both(
    fp32: bytes,
    int8: bytes,
    feeds: Sequence[Feed],
    rounds: int = 15,
    clock_ns: Callable[[], int] = process_time_ns,
) -> Timing:
    """Run both graphs over all feeds in turn, so that a change of the machine's speed hits both alike."""
    sessions = open_session(fp32), open_session(int8)
    spent: tuple[list[int], list[int]] = ([], [])
    for session in sessions:
        _run_all(session, feeds)  # the first run allocates
    for _ in range(rounds):
        for session, times in zip(sessions, spent, strict=True):
            begin = clock_ns()
            _run_all(session, feeds)
            times.append(clock_ns() - begin)
    fp32_us, int8_us = (float(np.median(times)) / 1000 / len(feeds) for times in spent)
    return Timing(fp32_us, int8_us)


def choose(timing: Timing | None, quality: Sequence[Gate]) -> GraphInfo:
    """int8, unless there is nothing to quantize (no timing), a quality gate fails, or it is over 10 % slower."""
    if timing is None:
        return GraphInfo(precision="fp32", why="no product with constant weights is large enough to quantize")
    measured = f"int8 {timing.int8_us:.0f} us, fp32 {timing.fp32_us:.0f} us of CPU"
    if failed := [gate for gate in quality if not gate.passed]:
        misses = ", ".join(f"{gate.name} {gate.value:.4g} against {gate.limit:.4g}" for gate in failed)
        return GraphInfo(precision="fp32", why=f"int8 fails {misses} ({measured})")
    if not timing.ratio <= MAX_SLOWDOWN:
        return GraphInfo(precision="fp32", why=f"int8 is more than 10 % slower ({measured})")
    return GraphInfo(precision="int8", why=f"inside the quality gates ({measured})")


def top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Positions of the k largest scores of each row, int64 [Q, k], best first; ties by position."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int64)


def mean_overlap(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Mean share of the lists [Q, k] in `one` that is also in `other`, whatever the order; -1 is no item."""
    shared = (one[:, :, None] == other[:, None, :]).any(axis=2) & (one >= 0)
    counts = (one >= 0).sum(axis=1)
    shares = shared.sum(axis=1)[counts > 0] / counts[counts > 0]
    return float(shares.mean()) if len(shares) else 1.0


def _groups(requests: Sequence[Feed], size: int) -> Iterator[list[Feed]]:
    rest = iter(requests)
    while group := list(islice(rest, size)):
        yield group


def _run_all(session: ort.InferenceSession, feeds: Sequence[Feed]) -> None:
    for feed in feeds:
        run(session, feed)
