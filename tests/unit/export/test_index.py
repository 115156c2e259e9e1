"""The index finds what a NumPy brute force finds, as often as the gate asks."""

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from export.index import IndexWish, Measured, _pick, _smallest, _train, build_index, index_of_codes
from export.index_kinds import Candidate, candidates_of, default_candidates, small_candidates, values_of
from export.index_measure import Wanted, exact_worst, recall_of
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
    [
        ("Flat", ()),
        ("SQfp16", ()),
        ("RR13,PQ13x4fs,Refine(SQfp16)", (("k_factor_rf", 2),)),
        ("IVF32,SQ8", (("nprobe", 8),)),
        ("RR13,IVF32,PQ13x4fsr,Refine(SQfp16)", (("k_factor_rf", 2), ("nprobe", 8))),
    ],
)
def test_measured_recall_is_that_of_a_brute_force(kind: str, parameters: tuple[tuple[str, int], ...]) -> None:
    """13 dimensions, which no code size divides; the parameters are inside the file, and every second user tells."""
    items, users = clustered(3000, 13), clustered(50, 13, seed=1)
    built = build_index(items, users, candidates=[Candidate(kind, parameters)], k=100)
    assert built.info.recall == pytest.approx(brute_recall(built.data, items, users[1::2], 100), abs=2e-3)
    assert built.info.kind == kind
    assert built.info.parameters == dict(parameters)


def test_an_exact_index_has_a_recall_of_one_and_a_poor_one_has_less() -> None:
    items, users = clustered(3000, 16), clustered(50, 16, seed=1)
    built = build_index(items, users, candidates=[Candidate("IVF64,SQ8", (("nprobe", 1),)), Candidate("Flat")])
    assert [measured.recall < 0.9 for measured in built.tried] == [True, False]
    assert (built.info.kind, built.info.recall) == ("Flat", 1.0)


def test_the_same_vectors_give_the_same_index() -> None:
    items, users = clustered(2000, 16), clustered(20, 16, seed=1)
    for kind in ("RR16,PQ16x4fs,Refine(SQfp16)", "RR16,IVF16,PQ16x4fsr,Refine(SQfp16)"):
        first, second = (build_index(items, users, candidates=[Candidate(kind)]).data for _ in range(2))
        assert first == second


def test_a_catalogue_smaller_than_k_is_searched_whole() -> None:
    built = build_index(clustered(7, 4), clustered(5, 4, seed=1))
    assert built.info.recall == 1.0


def test_equal_items_are_interchangeable() -> None:
    """Ten copies of one vector: any of them is a right answer for the top 3."""
    built = build_index(np.ones((10, 4), np.float32), np.ones((3, 4), np.float32), candidates=[Candidate("Flat")], k=3)
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
    tried = [Measured(Candidate(str(n)), r, r, t) for n, (t, r) in enumerate(zip(times, recalls, strict=True))]
    assert _pick(tried, 0.99) is tried[chosen]


@pytest.mark.parametrize(
    ("num_items", "kinds"),
    [
        (4_999, ["Flat", "SQfp16"]),
        (5_000, ["Flat", "SQfp16", "RR64,PQ64x4fs,Refine(SQfp16)"]),
        (
            100_000,
            [
                "Flat",
                "SQfp16",
                "RR64,PQ64x4fs,Refine(SQfp16)",
                "RR64,IVF1024,PQ64x4fsr,Refine(SQfp16)",
                "IVF1024,SQ8",
            ],
        ),
        (1_000_000, ["RR64,IVF4096,PQ64x4fsr,Refine(SQfp16)", "IVF4096,SQ8"]),
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
        Measured(Candidate(kind), recall, recall, us, size)
        for kind, recall, us, size in [("a", 0.9, 1, 10), ("b", 0.99, 9, 20), ("c", 0.99, 5, 22), ("d", 1.0, 1, 30)]
    ]
    assert [measured.candidate.kind for measured in _smallest(tried, 0.99)] == ["b", "c"]
    assert _smallest(tried[:1], 0.99) == tried[:1]


def test_large_catalogues_are_searched_by_lists_in_the_edge_profile_too() -> None:
    assert [candidate.kind for candidate in small_candidates(199_999)] == ["SQ8", "SQfp16", "Flat"]
    assert {candidate.kind for candidate in small_candidates(1_000_000)} == {"IVF4096,SQ8"}


@pytest.mark.parametrize("swapped", [0, 1])  # the half that needs more chooses, or tells
def test_the_tuned_parameter_is_the_least_with_which_all_users_find_enough(swapped: int) -> None:
    """With the chosen number of lists both halves of them do; with the next smaller number one half does not."""
    items, users = clustered(3000, 16), clustered(60, 16, seed=1)
    users[swapped::2] = np.random.default_rng(2).normal(size=(30, 16))  # of no cluster: they need more lists
    built = build_index(items, users, IndexWish(recall=0.9), [Candidate("IVF64,SQ8", tuned="nprobe")], k=100)
    index = faiss.deserialize_index(np.frombuffer(built.data, np.uint8))
    chosen, values = built.info.parameters["nprobe"], values_of(index, "nprobe")
    wanted = Wanted(users, exact_worst(items, users, 100), 100)

    def enough(probes: int) -> bool:
        index.nprobe = probes
        ours, others = (recall_of(index, items, wanted.part(slice(half, None, 2))) for half in (0, 1))
        return ours.mean - ours.error >= 0.9 and others.mean >= 0.9

    assert 1 < chosen < 32
    assert (enough(chosen), enough(values[values.index(chosen) - 1])) == (True, False)
    assert built.tried[0].candidate == Candidate("IVF64,SQ8", (("nprobe", chosen),))


def test_a_parameter_that_never_suffices_is_taken_at_its_most() -> None:
    items, users = clustered(2000, 16), clustered(20, 16, seed=1)
    wish = IndexWish("IVF64,PQ2x4fs", recall=0.999)
    assert build_index(items, users, wish, k=100).info.parameters == {"nprobe": 32}


def test_the_error_of_the_recall_is_that_of_a_mean_over_users() -> None:
    """Of 4 users 2 find both items and 2 one: mean 3/4, spread 1/4, over sqrt(4) users."""
    items = np.array([[1, 0], [0.9, 0], [0, 1]], np.float32)
    index = _train("Flat", np.array([[1, 0], [0.9, 0.0], [0, -1]], np.float32))
    users = np.array([[1, 0], [1, 0], [0.1, 1], [0.1, 1]], np.float32)
    found = recall_of(index, items, Wanted(users, exact_worst(items, users, 2), 2))
    assert found == pytest.approx((0.75, 0.125))


def test_a_search_with_more_lists_than_half_is_not_tried() -> None:
    assert values_of(faiss.index_factory(8, "IVF16,Flat"), "nprobe") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert values_of(faiss.index_factory(8, "IVF1,Flat"), "nprobe") == [1]


def test_an_own_kind_keeps_what_is_given_and_the_rest_is_tuned() -> None:
    refined = "RR16,IVF64,PQ16x4fsr,Refine(SQ8)"
    assert candidates_of("IVF64,SQ8", {"nprobe": 7}, 16) == [Candidate("IVF64,SQ8", (("nprobe", 7),))]
    assert candidates_of("HNSW16", {}, 16) == [Candidate("HNSW16", (), "efSearch")]
    assert candidates_of("Flat", {}, 16) == [Candidate("Flat")]
    assert candidates_of(refined, {"nprobe": 7}, 16) == [Candidate(refined, (("nprobe", 7),), "k_factor_rf")]
    assert candidates_of(refined, {}, 16)[0] == Candidate(refined, (("k_factor_rf", 2),), "nprobe")


def test_an_own_index_is_built_whatever_it_finds() -> None:
    items, users = clustered(2000, 16), clustered(20, 16, seed=1)
    built = build_index(items, users, IndexWish("IVF64,SQ8", {"nprobe": 1}), k=100)
    assert (built.info.kind, built.info.parameters) == ("IVF64,SQ8", {"nprobe": 1})
    assert built.info.recall < 0.9  # the gate refuses it


@pytest.mark.parametrize(
    ("wish", "named"),
    [
        (IndexWish("IVFF"), 'index kind "IVFF" is none that FAISS makes of 16 dimensions'),
        (IndexWish("Flat", {"nprobe": 4}), 'index parameter nprobe = 4 does not fit "Flat"'),
        (IndexWish(None, {"nprobe": 4}), "index parameters .nprobe. need the kind"),
        (IndexWish(recall=1.5), "index recall 1.5 is no share"),
        (IndexWish("IVF64,SQ8"), 'index kind "IVF64,SQ8" cannot be made of 20 items'),
    ],
)
def test_a_wish_that_faiss_cannot_meet_names_what_is_wrong(wish: IndexWish, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build_index(clustered(20, 16), clustered(4, 16, seed=1), wish)


def lists_of(items: NDArray[np.float32], num_lists: int) -> tuple[NDArray[np.float32], list[NDArray[np.int64]]]:
    """Centroids, and the items of each list, of an index as it is filled."""
    index = _train(f"IVF{num_lists},Flat", items)
    assert index.quantizer.metric_type == faiss.METRIC_INNER_PRODUCT  # which is what a search probes by
    ids = [faiss.rev_swig_ptr(index.invlists.get_ids(n), index.invlists.list_size(n)).copy() for n in range(num_lists)]
    return index.quantizer.reconstruct_n(0, num_lists), ids


def test_items_of_unlike_lengths_are_in_the_list_of_their_nearest_centroid() -> None:
    """Not in that of the largest product, which a few long centroids would have."""
    items = clustered(2000, 8) * np.random.default_rng(3).lognormal(0, 0.5, (2000, 1)).astype(np.float32)
    centroids, lists = lists_of(items, 16)
    nearest = ((items[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
    assert [np.flatnonzero(nearest == n).tolist() for n in range(16)] == [sorted(ids.tolist()) for ids in lists]
    assert (nearest != (items @ centroids.T).argmax(axis=1)).any()


def test_items_of_one_length_have_centroids_of_one_length() -> None:
    items = clustered(2000, 8)
    centroids, lists = lists_of(items / np.linalg.norm(items, axis=1, keepdims=True), 16)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-5)
    assert sum(map(len, lists)) == 2000
