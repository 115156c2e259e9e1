"""EASE against the formula of the paper, and against what the formula minimises."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_dataset import SPLIT_MS, tiny_dataset

from models.fitting import Fit
from models.options import EaseOptions
from models.positives import Positives
from models.retrieval import ease
from models.retrieval.ease import item_weights
from models.retrieval.pairs import user_item_matrix
from models.run_log import Silent


def test_two_items_worked_by_hand() -> None:
    """Users 0 and 1 have both items, user 2 has item 0: X'X = [[3, 2], [2, 2]], with lambda 1 [[4, 2], [2, 3]], whose
    inverse is [[3, -2], [-2, 4]] / 8. So B[0, 1] = 2/4 and B[1, 0] = 2/3."""
    users, items = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 0])
    found = item_weights(user_item_matrix(Positives.of(users, items, 3, 2)), 1.0)
    np.testing.assert_allclose(found.numpy(), [[0, 1 / 2], [2 / 3, 0]], rtol=1e-6)


@pytest.mark.parametrize("block", [512, 4])
def test_the_formula_in_float64(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "BLOCK", block)
    dense = np.random.default_rng(0).random((50, 17)) < 0.25
    matrix = user_item_matrix(Positives.of(*np.nonzero(dense), 50, 17))
    inverse = np.linalg.inv(dense.T.astype(float) @ dense + 20.0 * np.eye(17))
    expected = np.eye(17) - inverse / np.diag(inverse)
    np.testing.assert_allclose(item_weights(matrix, 20.0).numpy(), expected, atol=1e-5)


def test_each_column_is_the_ridge_regression_of_one_item_on_the_others() -> None:
    dense = np.random.default_rng(1).random((40, 6)) < 0.4
    found = item_weights(user_item_matrix(Positives.of(*np.nonzero(dense), 40, 6)), 3.0).numpy()
    numbers = dense.astype(float)
    for item in range(6):
        others = np.delete(numbers, item, axis=1)
        weights = np.linalg.solve(others.T @ others + 3.0 * np.eye(5), others.T @ numbers[:, item])
        np.testing.assert_allclose(np.delete(found[:, item], item), weights, atol=1e-5)
    assert torch.equal(torch.from_numpy(found).diagonal(), torch.zeros(6))


def test_a_catalogue_too_large_for_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ease, "MAX_ITEMS", 3)
    run = Fit("x", "key", 0, SPLIT_MS, tmp_path / "x.npz")
    ease.fit(tiny_dataset([(0, 0), (0, 1)], 1, 3), EaseOptions(model="ease"), run, Silent())
    with pytest.raises(ValueError, match="takes at most 3 items; there are 4: use item_to_item or ials"):
        ease.fit(tiny_dataset([(0, 0), (0, 1)], 1, 4), EaseOptions(model="ease"), run, Silent())
