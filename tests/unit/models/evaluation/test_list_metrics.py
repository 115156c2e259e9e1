"""Metrics of lists, against arithmetic written out and, over random lists, against a loop that reads like the text."""

from math import log2

import numpy as np
import pytest
from numpy.typing import NDArray

from models import metrics

# user 0: targets {1, 5, 7}; hits at ranks 2 and 4.  user 1: targets {0}; hit at rank 1, list of two.
# user 2: targets {2, 3}; no hit.
RECOMMENDED = np.array([[9, 5, 8, 1], [0, 4, -1, -1], [5, 6, 7, 8]])
OFFSETS = np.array([0, 3, 4, 6])
ITEMS = np.array([1, 5, 7, 0, 2, 3])
COUNTS = np.array([3, 1, 2])


@pytest.fixture
def hits() -> NDArray[np.bool_]:
    return metrics.find_hits(RECOMMENDED, OFFSETS, ITEMS)


def test_hits_are_found_for_each_user_among_their_own_targets_only(hits: NDArray[np.bool_]) -> None:
    expected = [[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert hits.astype(int).tolist() == expected


def test_recall_is_the_share_of_targets_found(hits: NDArray[np.bool_]) -> None:
    assert metrics.recall(hits, COUNTS, 4).tolist() == [2 / 3, 1 / 1, 0 / 2]
    assert metrics.recall(hits, COUNTS, 2).tolist() == [1 / 3, 1 / 1, 0 / 2]


def test_precision_divides_by_k_even_where_the_list_is_shorter(hits: NDArray[np.bool_]) -> None:
    assert metrics.precision(hits, 4).tolist() == [2 / 4, 1 / 4, 0 / 4]
    assert metrics.precision(hits, 8).tolist() == [2 / 8, 1 / 8, 0 / 8]


def test_ndcg_is_relative_to_the_best_list_of_that_length(hits: NDArray[np.bool_]) -> None:
    first = (1 / log2(3) + 1 / log2(5)) / (1 / log2(2) + 1 / log2(3) + 1 / log2(4))
    np.testing.assert_allclose(metrics.ndcg(hits, COUNTS, 4), [first, 1.0, 0.0], rtol=1e-15)


def test_ideal_list_holds_no_more_than_k_targets(hits: NDArray[np.bool_]) -> None:
    first = (1 / log2(3)) / (1 / log2(2) + 1 / log2(3))
    np.testing.assert_allclose(metrics.ndcg(hits, COUNTS, 2), [first, 1.0, 0.0], rtol=1e-15)


def test_ndcg_beyond_the_length_of_the_lists_counts_the_missing_places_as_misses() -> None:
    hits = metrics.find_hits(np.array([[1]]), np.array([0, 2]), np.array([1, 2]))
    assert metrics.ndcg(hits, np.array([2]), 10).tolist() == [1 / (1 + 1 / np.log2(3))]


def test_mrr_looks_at_the_first_hit_within_k(hits: NDArray[np.bool_]) -> None:
    assert metrics.mrr(hits, 4).tolist() == [1 / 2, 1 / 1, 0.0]
    assert metrics.mrr(hits, 1).tolist() == [0.0, 1 / 1, 0.0]


def test_hit_rate_is_one_for_any_hit(hits: NDArray[np.bool_]) -> None:
    assert metrics.hit_rate(hits, 4).tolist() == [1, 1, 0]
    assert metrics.hit_rate(hits, 1).tolist() == [0, 1, 0]


def test_coverage_counts_distinct_items_and_no_padding() -> None:
    # {9, 5, 8, 1} + {0, 4} + {5, 6, 7, 8}: 8 of 16;  first places: {9, 0, 5}
    assert metrics.coverage(RECOMMENDED, 16, 4) == 8 / 16
    assert metrics.coverage(RECOMMENDED, 16, 1) == 3 / 16


def test_recall_ceiling_is_that_of_a_perfect_list() -> None:
    assert metrics.recall_ceiling(COUNTS, 2) == (2 / 3 + 1 / 1 + 2 / 2) / 3
    assert metrics.recall_ceiling(COUNTS, 3) == 1.0


def test_empty_lists_score_zero_everywhere() -> None:
    """A system that answers nothing is measured, not refused."""
    for width in (0, 3):
        hits = metrics.find_hits(np.full((3, width), -1), OFFSETS, ITEMS)
        found = metrics.list_metrics(hits, COUNTS, [2])
        assert {name: values.tolist() for name, values in found.items()} == {name: [0.0] * 3 for name in found}


def test_list_metrics_names_every_metric_at_every_k(hits: NDArray[np.bool_]) -> None:
    names = {f"{name}@{k}" for name in ("ndcg", "recall", "precision", "mrr", "hit_rate") for k in (2, 4)}
    assert set(metrics.list_metrics(hits, COUNTS, [2, 4])) == names


def test_an_item_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="user row 1 names an item twice"):
        metrics.find_hits(np.array([[1, 2], [3, 3]]), np.array([0, 1, 2]), np.array([1, 3]))


def test_padding_may_repeat() -> None:
    assert not metrics.find_hits(np.array([[-1, -1]]), np.array([0, 1]), np.array([0])).any()


def test_a_user_without_targets_is_refused() -> None:
    with pytest.raises(ValueError, match="user row 1 has no target"):
        metrics.find_hits(np.array([[1], [2]]), np.array([0, 1, 1]), np.array([1]))


def test_lists_of_another_number_of_users_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 2\); expected \[2, k\]"):
        metrics.find_hits(np.array([[1, 2]]), np.array([0, 1, 2]), np.array([1, 3]))


@pytest.mark.parametrize("k", [1, 3, 7, 10])
def test_random_lists_agree_with_a_loop_over_users(k: int) -> None:
    rng = np.random.default_rng(k)
    lists = np.stack([rng.permutation(30)[:10] for _ in range(50)])
    lists[rng.random(50) < 0.2, 6:] = -1
    targets = [np.sort(rng.choice(30, size=rng.integers(1, 15), replace=False)) for _ in range(50)]
    counts = np.array([len(wanted) for wanted in targets])
    hits = metrics.find_hits(lists, np.concatenate([[0], np.cumsum(counts)]), np.concatenate(targets))
    found = metrics.list_metrics(hits, counts, [k])
    for user, wanted in enumerate(targets):
        ranks = [rank for rank, item in enumerate(lists[user, :k], 1) if item in set(wanted.tolist())]
        ideal = sum(1 / log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1))
        assert found[f"recall@{k}"][user] == len(ranks) / len(wanted)
        assert found[f"precision@{k}"][user] == len(ranks) / k
        assert found[f"mrr@{k}"][user] == (1 / ranks[0] if ranks else 0)
        assert found[f"hit_rate@{k}"][user] == bool(ranks)
        assert found[f"ndcg@{k}"][user] == pytest.approx(sum(1 / log2(r + 1) for r in ranks) / ideal, rel=1e-12)
