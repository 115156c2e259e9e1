"""iALS: half steps against the normal equations, and the exported fold-in against the exact solution."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_dataset import SPLIT_MS, tiny_dataset

from models import checkpoint
from models.fitting import Fit
from models.options import IalsOptions
from models.positives import Positives
from models.retrieval import ials
from models.retrieval.fold_in import fold_in
from models.retrieval.ials import Ials, finish, fit, improve, loss, solve, start
from models.retrieval.pairs import user_item_matrix
from models.run_log import Silent

NUM_USERS, NUM_ITEMS, DIM, LENGTH = 40, 25, 6, 25
TAKEN = np.random.default_rng(0).random((NUM_USERS, NUM_ITEMS)) < 0.2
TAKEN[3] = False  # a user without history
TAKEN[:, 4] = False  # an item that nobody has
PAIRS = list(zip(*(indices.tolist() for indices in np.nonzero(TAKEN)), strict=True))
MATRIX = user_item_matrix(Positives.of(*np.nonzero(TAKEN), NUM_USERS, NUM_ITEMS))
OPTIONS = IalsOptions(
    model="ials", dim=DIM, history_length=LENGTH, unobserved_weight=0.2, regularization=0.05, frequency_power=0.7
)


def trained(epochs: int = 3, options: IalsOptions = OPTIONS) -> Ials:
    model = Ials(torch.zeros(NUM_ITEMS), NUM_USERS, options).eval()
    start(model, options, 0)
    for _ in range(epochs):
        improve(model, MATRIX, options)
    finish(model, MATRIX, options)
    return model


def normal_equations(taken: NDArray[np.int64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vector of one row with the columns `taken`, as the paper has it, one column after another."""
    strength = 0.05 * (len(taken) + 0.2 * len(others)) ** 0.7
    system = strength * np.eye(others.shape[1]) + 0.2 * others.T @ others
    wanted = np.zeros(others.shape[1])
    for column in taken:
        system += np.outer(others[column], others[column])
        wanted += others[column]
    return np.linalg.solve(system, wanted)


@pytest.mark.parametrize("cells", [2**22, 150])
def test_a_half_step_solves_the_normal_equations_of_every_row(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of all lengths, in one padded batch and in many."""
    monkeypatch.setattr(ials, "BATCH_CELLS", cells)
    others = torch.from_numpy(np.random.default_rng(1).normal(size=(NUM_ITEMS, DIM))).float()
    users, items = MATRIX.indices()
    found = solve(users, items, NUM_USERS, others, OPTIONS)
    expected = [normal_equations(np.flatnonzero(row), others.double().numpy()) for row in TAKEN]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert found[3].tolist() == [0.0] * DIM


def test_the_loss_is_the_papers_and_falls_with_every_half_step() -> None:
    model = Ials(torch.zeros(NUM_ITEMS), NUM_USERS, OPTIONS)
    start(model, OPTIONS, 0)
    improve(model, MATRIX, OPTIONS)
    w, h = model.users.double().numpy(), model.items.double().numpy()
    scores = w @ h.T
    expected = ((1 - scores[TAKEN]) ** 2).sum() + 0.2 * (scores**2).sum()
    expected += 0.05 * ((TAKEN.sum(1) + 0.2 * NUM_ITEMS) ** 0.7 * (w**2).sum(1)).sum()
    expected += 0.05 * ((TAKEN.sum(0) + 0.2 * NUM_USERS) ** 0.7 * (h**2).sum(1)).sum()
    losses = [loss(model, MATRIX, OPTIONS)]
    assert losses[0] == pytest.approx(expected, rel=1e-5)
    for _ in range(4):
        improve(model, MATRIX, OPTIONS)
        losses.append(loss(model, MATRIX, OPTIONS))
    assert losses == sorted(losses, reverse=True)
    finish(model, MATRIX, OPTIONS)
    assert loss(model, MATRIX, OPTIONS) <= losses[-1] * (1 + 1e-6)


def test_turning_the_vectors_makes_the_items_gram_matrix_diagonal_and_keeps_the_scores() -> None:
    model = Ials(torch.zeros(NUM_ITEMS), NUM_USERS, OPTIONS)
    start(model, OPTIONS, 0)
    improve(model, MATRIX, OPTIONS)
    users, items = MATRIX.indices()
    before = solve(users, items, NUM_USERS, model.items, OPTIONS) @ model.items.T
    finish(model, MATRIX, OPTIONS)
    torch.testing.assert_close(model.users @ model.items.T, before, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.items.T @ model.items, torch.diag(model.spectrum), rtol=1e-4, atol=1e-5)


def test_the_tower_gives_known_users_their_trained_vectors() -> None:
    """From histories in any order, with repeats and padding; a user without one gets zeros and popularity."""
    model = trained()
    rng = np.random.default_rng(3)
    history = np.zeros((NUM_USERS, LENGTH), np.int64)
    for user, row in enumerate(TAKEN):
        items = rng.permutation(np.flatnonzero(row))
        items = np.concatenate([items, items[: LENGTH - len(items)]])[:LENGTH]
        history[user, LENGTH - len(items) :] = items + 1
    found = model(torch.from_numpy(history), torch.from_numpy(history))
    torch.testing.assert_close(found, model.known_user_vectors(), rtol=0, atol=1e-4)
    assert not found[3, :-1].any()


@pytest.mark.parametrize("dim", [5, 64])
@pytest.mark.parametrize("length", [1, 7, 200])
def test_fold_in_is_the_exact_solution(dim: int, length: int) -> None:
    generator = torch.Generator().manual_seed(dim + length)
    vectors = torch.randn(8, length, dim, generator=generator) * 0.3
    vectors[0] = 0.0
    vectors[1, length // 2 :] = 0.0
    diagonal = 5.0 + 40.0 * torch.rand(8, dim, generator=generator)
    exact = torch.linalg.solve(
        torch.diag_embed(diagonal.double()) + vectors.double().mT @ vectors.double(), vectors.double().sum(1)
    )
    found = fold_in(vectors, diagonal, 16)
    torch.testing.assert_close(found, exact.float(), rtol=0, atol=1e-4)
    assert not found[0].any()


def test_further_steps_behind_the_solution_do_no_harm() -> None:
    vectors, diagonal = torch.randn(4, 3, 5), torch.ones(4, 5)
    torch.testing.assert_close(fold_in(vectors, diagonal, 200), fold_in(vectors, diagonal, 6), rtol=0, atol=1e-5)


def test_a_refit_goes_on_from_the_weights_with_its_share_of_the_epochs(tmp_path: Path) -> None:
    """Two epochs, then half of two from their weights, are nearly three; from nothing it would be one."""
    dataset = tiny_dataset(PAIRS, NUM_USERS, NUM_ITEMS)
    options = OPTIONS.model_copy(update={"max_epochs": 2})
    run = Fit("first", "key", 0, SPLIT_MS, tmp_path / "x.npz")
    first = fit(dataset, options, run, Silent())
    again = Fit("refit", "key", 0, SPLIT_MS, tmp_path / "x.npz", budget=0.5, weights=checkpoint.weights(first))
    scores = [m.users @ m.items.T for m in (fit(dataset, options, again, Silent()), trained(3), trained(2))]
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-3, atol=1e-4)
    assert (scores[0] - scores[2]).abs().max() > 1e-2
