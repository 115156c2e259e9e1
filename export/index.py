"""The FAISS index: the fastest kind that finds what the exact search finds, measured on the real vectors.

Recall depends on how clustered the vectors are, so no kind is right for a size. Search parameters are stored inside
the index; whoever loads it has nothing to set.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import process_time_ns
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from export.gates import recall_limit
from models.contract.manifest import IndexInfo
from models.contract.tables import Rows, RowTable

RECALL_AT = 200
MIN_PQ_ITEMS = 5_000  # below, nothing beats the flat scan, and 16 centroids a code lack training points
FLAT_LIMIT = 200_000
IVF_FROM = 50_000
NUM_TIMED = 100
TIMING_ROUNDS = 3
CLEARLY_FASTER = 0.8


@dataclass(frozen=True, slots=True)
class Candidate:
    """kind: FAISS factory string.  parameters: of FAISS's ParameterSpace."""

    kind: str
    parameters: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    candidate: Candidate
    recall: float
    search_us: float
    size: int = 0  # bytes that it adds to the bundle


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """data: from faiss.serialize_index, parameters set; None for an index of the item vectors' codes.

    tried: all that was measured, the chosen one included.
    """

    data: bytes | None
    info: IndexInfo
    tried: list[Measured]


def build_index(
    item_vectors: Rows,
    user_vectors: NDArray[np.float32],
    candidates: Sequence[Candidate] | None = None,
    k: int = RECALL_AT,
    *,
    smallest: bool = False,
) -> BuiltIndex:
    """The fastest candidate whose recall@k meets the limit for this catalogue; where none does, the one with the
    highest recall, and the gate then fails the export.

    item_vectors: N rows of d numbers, as the bundle stores them.  user_vectors: float32 [Q, d], of real users.
    smallest: the smallest one in place of the fastest.  An index of one kind repeats exactly; which kind is fastest
    depends on measured times, so one later in the list has to be clearly faster.
    """
    num_items, dim = item_vectors.shape
    vectors, users = (np.ascontiguousarray(array, np.float32) for array in (item_vectors[:], user_vectors))
    codes = item_vectors if isinstance(item_vectors, RowTable) and item_vectors.scales is not None else None
    if candidates is None:
        candidates = small_candidates(num_items) if smallest else default_candidates(num_items, dim)
    k = min(k, num_items)
    worst_wanted = exact_worst(vectors, users, k)
    tried: list[Measured] = []
    built: dict[str, Any] = {}
    with one_thread():
        for candidate in candidates:
            shared = codes if candidate.kind == "SQ8" else None  # the bundle has those codes already
            if candidate.kind not in built:
                built[candidate.kind] = _train(candidate.kind, vectors) if shared is None else index_of_codes(shared)
            index = built[candidate.kind]
            _set(index, candidate)
            recall = _recall(index, vectors, users, worst_wanted, k)
            size = len(faiss.serialize_index(index)) if shared is None else 0
            tried.append(Measured(candidate, recall, _search_us(index, users, k), size))
        limit = recall_limit(num_items)
        best = _pick(_smallest(tried, limit) if smallest else tried, limit)
        chosen = built[best.candidate.kind]
        _set(chosen, best.candidate)
    from_vectors = codes is not None and best.candidate.kind == "SQ8"
    info = IndexInfo(
        kind=best.candidate.kind,
        parameters=dict(best.candidate.parameters),
        from_vectors=from_vectors,
        recall=best.recall,
    )
    return BuiltIndex(None if from_vectors else faiss.serialize_index(chosen).tobytes(), info, tried)


def default_candidates(num_items: int, dim: int) -> list[Candidate]:
    """What is worth measuring for a catalogue of this size."""
    found = []
    if num_items < FLAT_LIMIT:
        found += [Candidate("Flat"), Candidate("SQfp16")]
        if num_items >= MIN_PQ_ITEMS:
            # Fast-scan codes of 4 bits for every 2 dimensions, then the best ones scored exactly. The codes need a
            # rotation, which also pads an odd d; a random one, since training OPQ takes minutes at this size.
            codes = (dim + 1) // 2
            kind = f"RR{2 * codes},PQ{codes}x4fs,RFlat"
            found += [Candidate(kind, (("k_factor_rf", factor),)) for factor in (2, 4, 8)]
    if num_items >= IVF_FROM:
        lists = 2 ** round(np.log2(4 * num_items**0.5))  # about 4 sqrt(N), as FAISS advises
        probes = [2**power for power in range(4, int(np.log2(lists)))]
        found += [Candidate(f"IVF{lists},SQ8", (("nprobe", probe),)) for probe in probes]
    return found


def small_candidates(num_items: int) -> list[Candidate]:
    """A byte a number where that finds enough; with lists where a scan of all would take too long."""
    if num_items < FLAT_LIMIT:
        return [Candidate("SQ8"), Candidate("SQfp16"), Candidate("Flat")]
    return [candidate for candidate in default_candidates(num_items, 1) if candidate.kind.startswith("IVF")]


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
    """FAISS as it runs in serving, and as training repeats exactly."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _train(kind: str, vectors: NDArray[np.float32]) -> Any:
    """A trained and filled index. FAISS seeds its k-means and its rotations with constants."""
    index = faiss.index_factory(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    return index


def index_of_codes(codes: RowTable) -> Any:
    """An SQ8 index over int8 rows: a search gives exactly their products. The service makes the same one."""
    ranges, unsigned = codes.sq8()
    index: Any = faiss.index_factory(codes.shape[1], "SQ8", faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(ranges, index.sq.trained)
    index.is_trained = True
    index.add_sa_codes(unsigned)
    return index


def _smallest(tried: Sequence[Measured], limit: float) -> list[Measured]:
    """Those that meet the limit and are about as small as the smallest of them; all where none does."""
    good = [measured for measured in tried if measured.recall >= limit]
    least = min((measured.size for measured in good), default=0)
    return [measured for measured in good if measured.size <= 1.1 * least] or list(tried)


def _set(index: Any, candidate: Candidate) -> None:
    for name, value in candidate.parameters:
        faiss.ParameterSpace().set_index_parameter(index, name, value)


def _recall(
    index: Any,
    vectors: NDArray[np.float32],
    users: NDArray[np.float32],
    worst_wanted: NDArray[np.float32],
    k: int,
) -> float:
    """Share of the exact top k that is found. Counted by score, since of equal items any will do."""
    _, found = index.search(users, k)
    hits = 0
    for user, items, wanted in zip(users, found, worst_wanted, strict=True):
        known = items[items >= 0]
        hits += int(np.count_nonzero(vectors[known] @ user >= wanted - 1e-5 * max(1.0, abs(wanted))))
    return hits / (len(users) * k)


def _search_us(index: Any, users: NDArray[np.float32], k: int) -> float:
    """CPU time of one search for one user, microseconds: the median over rounds."""
    timed = users[:NUM_TIMED]
    rounds = []
    for _ in range(TIMING_ROUNDS):
        begin = process_time_ns()
        for position in range(len(timed)):
            index.search(timed[position : position + 1], k)
        rounds.append((process_time_ns() - begin) / 1000 / len(timed))
    return float(np.median(rounds))


def _pick(tried: Sequence[Measured], limit: float) -> Measured:
    good = [measured for measured in tried if measured.recall >= limit]
    if not good:
        return max(tried, key=lambda measured: measured.recall)
    best = good[0]
    for measured in good[1:]:
        if measured.search_us < CLEARLY_FASTER * best.search_us:
            best = measured
    return best
