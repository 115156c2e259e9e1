"""The FAISS index: the fastest kind that finds what the exact search finds, measured on the real vectors.

Recall depends on how clustered the vectors are, so no kind is right for a size. Search parameters are stored inside
the index; whoever loads it has nothing to set.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from export.gates import recall_limit
from export.index_kinds import Candidate, candidates_of, default_candidates, new_index, small_candidates, values_of
from export.index_measure import Wanted, exact_worst, one_thread, recall_of, search_us
from models.contract.manifest import IndexInfo
from models.contract.tables import Rows, RowTable

RECALL_AT = 200
CLEARLY_FASTER = 0.8
POINTS_A_LIST, ROUNDS = 64, 10  # of k-means: a million items are trained in seconds
SAME_LENGTH = 0.05  # relative spread of the lengths of vectors that counts as none


@dataclass(frozen=True, slots=True)
class IndexWish:
    """What a user asks for.  kind: FAISS factory string, None for an automatic choice.  parameters: of that kind; what
    they leave open is tuned.  recall: least recall@200 in place of the catalogue's."""

    kind: str | None = None
    parameters: dict[str, int] = field(default_factory=dict)
    recall: float | None = None

    def check(self, dim: int) -> None:
        """Raises ValueError with what is wrong, before anything is trained."""
        if self.recall is not None and not 0 < self.recall <= 1:
            raise ValueError(f"index recall {self.recall} is no share: it lies above 0 and is at most 1")
        if self.kind is not None:
            candidates_of(self.kind, self.parameters, dim)
        elif self.parameters:
            names = ", ".join(self.parameters)
            raise ValueError(f"index parameters ({names}) need the kind of index that they are for: name it too")


AUTOMATIC = IndexWish()


@dataclass(frozen=True, slots=True)
class Measured:
    """sure: recall of the users that the parameters were chosen by, less its standard error.  recall: of the others."""

    candidate: Candidate
    sure: float
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
    wish: IndexWish = AUTOMATIC,
    candidates: Sequence[Candidate] | None = None,
    k: int = RECALL_AT,
    *,
    smallest: bool = False,
) -> BuiltIndex:
    """The fastest candidate whose recall@k meets the limit for this catalogue; where none does, the one with the
    highest recall, and the gate then fails the export.

    item_vectors: N rows of d numbers, as the bundle stores them.  user_vectors: float32 [Q, d], of real users: every
    second one chooses the parameters, and the others tell the recall.
    smallest: the smallest one in place of the fastest.  An index of one kind repeats exactly; which kind is fastest
    depends on measured times, so one later in the list has to be clearly faster.
    Raises ValueError where the wish is none that FAISS can meet.
    """
    num_items, dim = item_vectors.shape
    wish.check(dim)
    vectors, users = (np.ascontiguousarray(array, np.float32) for array in (item_vectors[:], user_vectors))
    codes = item_vectors if isinstance(item_vectors, RowTable) and item_vectors.scales is not None else None
    if wish.kind is not None:
        candidates = candidates_of(wish.kind, wish.parameters, dim)
    if candidates is None:
        candidates = small_candidates(num_items) if smallest else default_candidates(num_items, dim)
    limit = wish.recall or recall_limit(num_items)
    k = min(k, num_items)
    trial = _Trial(vectors, Wanted(users, exact_worst(vectors, users, k), k), limit)
    tried: list[Measured] = []
    built: dict[str, Any] = {}
    for candidate in candidates:
        shared = codes if candidate.kind == "SQ8" else None  # the bundle has those codes already
        if candidate.kind not in built:
            built[candidate.kind] = _train(candidate.kind, vectors) if shared is None else index_of_codes(shared)
        tried.append(trial.measure(built[candidate.kind], candidate, stored=shared is None))
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


@dataclass(frozen=True, slots=True)
class _Trial:
    vectors: NDArray[np.float32]
    wanted: Wanted
    limit: float

    def measure(self, index: Any, candidate: Candidate, *, stored: bool) -> Measured:
        """With the least value of the tuned parameter that both halves of the users find enough with."""
        with one_thread():
            if candidate.tuned is not None:
                values = values_of(index, candidate.tuned)
                steps = range(len(values) - 1)  # the last one is taken where none suffices
                step = bisect_left(steps, True, key=lambda n: self._sure(index, candidate.at(values[n])) >= self.limit)
                while step < len(steps) and self._recall(index, candidate.at(values[step])) < self.limit:
                    step += 1
                candidate = candidate.at(values[step])
            return Measured(
                Candidate(candidate.kind, candidate.parameters),
                sure=self._sure(index, candidate),
                recall=self._recall(index, candidate),
                search_us=search_us(index, self.wanted.users, self.wanted.k),
                size=len(faiss.serialize_index(index)) if stored else 0,
            )

    def _sure(self, index: Any, candidate: Candidate) -> float:
        _set(index, candidate)
        found = recall_of(index, self.vectors, self.wanted.part(slice(0, None, 2)))
        return found.mean - found.error

    def _recall(self, index: Any, candidate: Candidate) -> float:
        _set(index, candidate)
        others = slice(1, None, 2) if len(self.wanted.users) > 1 else slice(None)
        return recall_of(index, self.vectors, self.wanted.part(others)).mean


def _train(kind: str, vectors: NDArray[np.float32]) -> Any:
    """A trained and filled index. FAISS seeds its k-means and its rotations with constants."""
    index = new_index(kind, vectors.shape[1])
    try:
        with _lists_by_nearness(index, vectors):
            index.train(vectors)
            index.add(vectors)
    except RuntimeError as error:
        reason = str(error).rsplit(": ", 1)[-1]
        raise ValueError(f'index kind "{kind}" cannot be made of {len(vectors)} items: {reason}') from error
    return index


@contextmanager
def _lists_by_nearness(index: Any, vectors: NDArray[np.float32]) -> Iterator[None]:
    """While it is filled, each item goes to the list of its nearest centroid. By the largest product, as FAISS does
    it for searches by product, the longest centroids take the items of others, and their lists grow without bound.

    Centroids of vectors of one length get that length, which makes both rules the same.
    """
    lists = faiss.try_extract_index_ivf(index)
    if lists is None:
        with one_thread():  # small steps, which take longer in turns with others
            yield
        return
    lists.cp.max_points_per_centroid, lists.cp.niter = POINTS_A_LIST, ROUNDS
    lengths = np.linalg.norm(vectors, axis=1)
    lists.cp.spherical = bool(lengths.std() <= SAME_LENGTH * lengths.mean())
    centroids = faiss.downcast_index(lists.quantizer)
    flat = isinstance(centroids, faiss.IndexFlat) and not lists.cp.spherical
    if flat:
        centroids.metric_type = faiss.METRIC_L2
    yield
    if flat:
        centroids.metric_type = faiss.METRIC_INNER_PRODUCT  # a search probes those with the largest products


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
    good = _good(tried, limit)
    least = min((measured.size for measured in good), default=0)
    return [measured for measured in good if measured.size <= 1.1 * least] or list(tried)


def _set(index: Any, candidate: Candidate) -> None:
    for name, value in candidate.parameters:
        faiss.ParameterSpace().set_index_parameter(index, name, value)


def _good(tried: Sequence[Measured], limit: float) -> list[Measured]:
    return [measured for measured in tried if measured.sure >= limit and measured.recall >= limit]


def _pick(tried: Sequence[Measured], limit: float) -> Measured:
    good = _good(tried, limit)
    if not good:
        return max(tried, key=lambda measured: measured.recall)
    best = good[0]
    for measured in good[1:]:
        if measured.search_us < CLEARLY_FASTER * best.search_us:
            best = measured
    return best
