"""The tower of item-based models: sums over distinct items, and the factorisation behind them."""

import numpy as np
import pytest
import torch
from tiny_dataset import DAY_MS, SPLIT_MS, tiny_dataset

from models.options import EaseOptions
from models.positives import Positives
from models.retrieval import linear
from models.retrieval.linear import LinearTower, build, distinct_items, factorise
from models.retrieval.pairs import user_item_matrix
from models.retrieval.popularity import POPULARITY_WEIGHT, popularity_column


def random_matrix(num_users: int, num_items: int, seed: int = 0) -> torch.Tensor:
    taken = np.random.default_rng(seed).random((num_users, num_items)) < 0.3
    users, items = np.nonzero(taken)
    return user_item_matrix(Positives.of(users, items, num_users, num_items))


def test_repeats_and_padding_do_not_count() -> None:
    items, first = distinct_items(torch.tensor([[0, 0, 5, 2, 5, 2, 5], [0, 0, 0, 0, 0, 0, 0], [1, 1, 3, 2, 1, 7, 9]]))
    found = [sorted(row[mask > 0].tolist()) for row, mask in zip(items, first, strict=True)]
    assert found == [[1, 4], [], [0, 1, 2, 6, 8]]
    assert first.sum(1).tolist() == [2, 0, 5]


def test_a_user_vector_is_the_sum_over_distinct_items_whatever_their_order() -> None:
    """And the number that meets the popularity, the same for all."""
    model = LinearTower(torch.rand(20), 6, 5).eval()
    model.inputs, model.outputs = torch.randn(20, 6), torch.randn(20, 6)
    history = torch.tensor([[0, 3, 20, 3, 8], [8, 3, 8, 20, 20]])
    vectors = model(history, history)
    expected = model.inputs[2] + model.inputs[19] + model.inputs[7]
    torch.testing.assert_close(vectors[0, :6], expected)
    assert torch.equal(vectors[0], vectors[1])
    assert vectors[:, 6].tolist() == pytest.approx([POPULARITY_WEIGHT] * 2)


def test_a_user_without_history_gets_the_popular_items() -> None:
    """Items 2, 0, 1 and 3 have 3, 2, 1 and 0 interactions of about the same age."""
    dataset = tiny_dataset([(0, 2), (1, 2), (2, 2), (0, 0), (1, 0), (0, 1)], 3, 4)
    model = build(dataset, EaseOptions(model="ease", dim=4, history_length=3), SPLIT_MS, 0)
    model.inputs, model.outputs = torch.randn(4, 4), torch.randn(4, 4)
    scores = model(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.int64)) @ model.item_vectors().T
    assert scores.argsort(1, descending=True).tolist() == [[2, 0, 1, 3]] * 2


def test_a_known_user_is_the_sum_over_what_training_knew_of_them() -> None:
    """User 0 took items 0 and 2, item 2 twice, and item 1 on the day that training ended; user 2 took nothing."""
    dataset = tiny_dataset([(0, 0), (0, 2), (0, 2), (0, 1), (1, 1)], 3, 3)
    model = build(dataset, EaseOptions(model="ease", dim=4, history_length=1), 3 * DAY_MS, 0)
    model.inputs = torch.tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [0.5, 0.25, 0.0]])
    known = model.known_user_vectors()
    assert known is not None
    assert known[:, :3].tolist() == [[1.5, 2.25, 3.0], [10.0, 20.0, 30.0], [0.0, 0.0, 0.0]]
    assert known[:, 3].tolist() == pytest.approx([POPULARITY_WEIGHT] * 3)


def test_vectors_of_too_many_users_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two users of rank 4 are 8 numbers."""
    dataset, options = tiny_dataset([(0, 0), (1, 3)], 2, 4), EaseOptions(model="ease", dim=4, history_length=3)
    monkeypatch.setattr(linear, "KNOWN_CELLS", 8)
    assert build(dataset, options, SPLIT_MS, 0).known_user_vectors() is not None
    monkeypatch.setattr(linear, "KNOWN_CELLS", 7)
    assert build(dataset, options, SPLIT_MS, 0).known_user_vectors() is None


def test_popularity_is_scaled_to_one_and_without_interactions_zero() -> None:
    dataset = tiny_dataset([(0, 2), (1, 2), (0, 0)], 2, 4)
    column = popularity_column(dataset, 2 * DAY_MS, half_life_days=1e9)
    np.testing.assert_allclose(column.numpy(), [np.log(2) / np.log(3), 0, 1, 0], rtol=1e-6)
    assert popularity_column(dataset, 0).tolist() == [0, 0, 0, 0]


def test_at_full_rank_the_factorisation_is_the_matrix_itself() -> None:
    weights = torch.randn(7, 7)
    for given in (weights, weights.to_sparse_coo()):
        inputs, outputs = factorise(given, random_matrix(9, 7), 7, 0)
        assert torch.equal(inputs @ outputs.T, weights)


@pytest.mark.parametrize("dense", [True, False])
def test_a_low_rank_keeps_the_users_scores_as_well_as_any_can(dense: bool) -> None:
    """By Eckart and Young no matrix of rank 5 is nearer to the scores X B than the truncated SVD of X B."""
    matrix, weights = random_matrix(60, 40), torch.randn(40, 40)
    inputs, outputs = factorise(weights if dense else weights.to_sparse_coo(), matrix, 5, 0)
    assert inputs.shape == outputs.shape == (40, 5)
    scores = (matrix.to_dense() @ weights).double().numpy()
    left, values, right = np.linalg.svd(scores)
    best = (left[:, :5] * values[:5]) @ right[:5]
    found = (matrix.to_dense() @ inputs @ outputs.T).numpy()
    np.testing.assert_allclose(found, best, atol=1e-3 * np.abs(best).max())
