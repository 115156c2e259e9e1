"""The index finds what a NumPy brute force finds, as often as the gate asks."""

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from export.index import (
    Candidate,
    Measured,
    _pick,
    _smallest,
    build_index,
    default_candidates,
    exact_worst,
    index_of_codes,
    small_candidates,
)
from models.contract.tables import RowTable


def clustered(count: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(30, dim))
    return (centres[rng.integers(0, 30, count)] + 0.5 * rng.normal(size=(count, dim))).astype(np.float32)


def brute_recall(data: bytes, items: NDArray[np.float32], users: NDArray[np.float32], k: int) -> float:
    exact = np.argsort(-(users @ items.T), axis=1)[:, :k]
    index = faiss.deserialize_index(np.frombuffer(data, np.uint8))
    _, found = index.search(users, k)
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(exact.tolist(), found.tolist(), strict=True)]))


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [("Flat", ()), ("SQfp16", ()), ("RR14,PQ7x4fs,RFlat", (("k_factor_rf", 4),)), ("IVF32,SQ8", (("nprobe", 8),))],
)
def test_measured_recall_is_that_of_a_brute_force(kind: str, parameters: tuple[tuple[str, int], ...]) -> None:
    """13 dimensions, which no code size divides; the parameters are inside the file."""
    items, users = clustered(3000, 13), clustered(50, 13, seed=1)
    built = build_index(items, users, [Candidate(kind, parameters)], k=100)
    assert built.info.recall == pytest.approx(brute_recall(built.data, items, users, 100), abs=2e-3)
    assert built.info.kind == kind
    assert built.info.parameters == dict(parameters)


def test_an_exact_index_has_a_recall_of_one_and_a_poor_one_has_less() -> None:
    items, users = clustered(3000, 16), clustered(50, 16, seed=1)
    built = build_index(items, users, [Candidate("IVF64,SQ8", (("nprobe", 1),)), Candidate("Flat")])
    assert [measured.recall < 0.9 for measured in built.tried] == [True, False]
    assert (built.info.kind, built.info.recall) == ("Flat", 1.0)


def test_the_same_vectors_give_the_same_index() -> None:
    items, users = clustered(2000, 16), clustered(20, 16, seed=1)
    for kind in ("RR16,PQ8x4fs,RFlat", "IVF16,SQ8"):
        first, second = (build_index(items, users, [Candidate(kind)]).data for _ in range(2))
        assert first == second


def test_a_catalogue_smaller_than_k_is_searched_whole() -> None:
    built = build_index(clustered(7, 4), clustered(5, 4, seed=1))
    assert built.info.recall == 1.0


def test_equal_items_are_interchangeable() -> None:
    """Ten copies of one vector: any of them is a right answer for the top 3."""
    built = build_index(np.ones((10, 4), np.float32), np.ones((3, 4), np.float32), [Candidate("Flat")], k=3)
    assert built.info.recall == 1.0


def test_the_exact_limit_is_the_kth_score_in_every_block() -> None:
    items, users = clustered(50, 5), clustered(9, 5, seed=1)
    expected = np.sort(users @ items.T, axis=1)[:, -4]
    np.testing.assert_allclose(exact_worst(items, users, 4, block=2), expected, rtol=1e-5)


def test_the_thread_count_of_faiss_is_left_as_it_was() -> None:
    before = faiss.omp_get_max_threads()
    build_index(clustered(20, 4), clustered(2, 4))
    assert faiss.omp_get_max_threads() == before


@pytest.mark.parametrize(
    ("times", "recalls", "chosen"),
    [
        ((100.0, 79.0), (1.0, 0.99), 1),  # clearly faster and good enough
        ((100.0, 81.0), (1.0, 0.99), 0),  # not clearly faster
        ((100.0, 10.0), (1.0, 0.9899), 0),  # fast, but not good enough
        ((100.0, 10.0), (0.5, 0.7), 1),  # neither is: the better one, and the gate fails
    ],
)
def test_the_fastest_that_is_good_enough_is_chosen(
    times: tuple[float, ...], recalls: tuple[float, ...], chosen: int
) -> None:
    tried = [Measured(Candidate(str(n)), r, t) for n, (t, r) in enumerate(zip(times, recalls, strict=True))]
    assert _pick(tried, 0.99) is tried[chosen]


@pytest.mark.parametrize(
    ("num_items", "kinds"),
    [
        (4_999, ["Flat", "SQfp16"]),
        (5_000, ["Flat", "SQfp16", "RR64,PQ32x4fs,RFlat"]),
        (100_000, ["Flat", "SQfp16", "RR64,PQ32x4fs,RFlat", "IVF1024,SQ8"]),
        (1_000_000, ["IVF4096,SQ8"]),
    ],
)
def test_what_is_tried_depends_on_the_size(num_items: int, kinds: list[str]) -> None:
    assert list(dict.fromkeys(candidate.kind for candidate in default_candidates(num_items, 64))) == kinds


def test_an_index_of_codes_finds_exactly_what_the_rows_give() -> None:
    """Codes from -127 to 127 and unlike scales; the scores are the products with the stored rows."""
    rows = RowTable.of(clustered(500, 12) * np.linspace(0.1, 4, 12, dtype=np.float32), "int8")
    users = clustered(20, 12, seed=1)
    scores, found = index_of_codes(rows).search(users, 30)
    exact = users @ rows[:].T
    np.testing.assert_allclose(scores, -np.sort(-exact, axis=1)[:, :30], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores, np.take_along_axis(exact, found, 1), rtol=1e-4, atol=1e-4)


def test_the_smallest_index_of_int8_vectors_is_the_vectors_themselves() -> None:
    rows, users = RowTable.of(clustered(3000, 16), "int8"), clustered(50, 16, seed=1)
    built = build_index(rows, users, smallest=True)
    assert (built.data, built.info.kind, built.info.from_vectors) == (None, "SQ8", True)
    assert built.info.recall > 0.999  # two of a user's items may be equal to 1e-5


def test_the_smallest_index_that_finds_enough_is_chosen_and_of_about_equal_ones_the_fastest() -> None:
    tried = [
        Measured(Candidate(kind), recall, us, size)
        for kind, recall, us, size in [("a", 0.9, 1, 10), ("b", 0.99, 9, 20), ("c", 0.99, 5, 22), ("d", 1.0, 1, 30)]
    ]
    assert [measured.candidate.kind for measured in _smallest(tried, 0.99)] == ["b", "c"]
    assert _smallest(tried[:1], 0.99) == tried[:1]


def test_large_catalogues_are_searched_by_lists_in_the_edge_profile_too() -> None:
    assert [candidate.kind for candidate in small_candidates(199_999)] == ["SQ8", "SQfp16", "Flat"]
    assert {candidate.kind for candidate in small_candidates(1_000_000)} == {"IVF4096,SQ8"}
