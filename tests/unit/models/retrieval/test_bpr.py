"""BPR: the loss by its formula, negatives that are none of the user's, and the fold-in."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.fitting import Fit
from models.options import BprOptions
from models.positives import Positives
from models.retrieval import bpr
from models.retrieval.bpr import Bpr, BprTask, bpr_loss, learn_fold_in, train
from models.retrieval.edge_batches import EdgeBatches
from models.retrieval.model import RetrievalModel
from models.retrieval.pairs import user_item_matrix
from models.run_log import Silent

NUM_USERS, NUM_ITEMS, DIM, LENGTH = 30, 20, 4, 20
TAKEN = np.random.default_rng(0).random((NUM_USERS, NUM_ITEMS)) < 0.4
TAKEN[7] = False
PAIRS = Positives.of(*np.nonzero(TAKEN), NUM_USERS, NUM_ITEMS)
OPTIONS = BprOptions(model="bpr", dim=DIM, history_length=LENGTH, batch_size=50, negatives=3, init_std=0.5)


def make_model() -> Bpr:
    torch.manual_seed(0)
    model = Bpr(NUM_USERS, NUM_ITEMS, OPTIONS)
    with torch.no_grad():
        model.bias.copy_(torch.randn(NUM_ITEMS))
    return model.eval()


def histories() -> torch.Tensor:
    rows = np.zeros((NUM_USERS, LENGTH), np.int64)
    for user, taken in enumerate(TAKEN):
        items = np.flatnonzero(taken)
        rows[user, LENGTH - len(items) :] = items + 1
    return torch.from_numpy(rows)


def test_the_loss_is_the_papers() -> None:
    """Two pairs against two other items each."""
    model = make_model()
    w, q, b = (tensor.detach().double().numpy() for tensor in (model.users, model.items, model.bias))
    users, items, others = [3, 5], [1, 2], [[4, 6], [4, 0]]
    expected, lengths = 0.0, 0.0
    for user, item, row in zip(users, items, others, strict=True):
        for other in row:
            margin = (w[user] @ q[item] + b[item]) - (w[user] @ q[other] + b[other])
            expected += np.log(1 + np.exp(-margin)) / 4
            lengths += (w[user] @ w[user] + q[item] @ q[item] + q[other] @ q[other]) / 4
    found = bpr_loss(model, torch.tensor(users), torch.tensor(items), torch.tensor(others), 0.1)
    assert found.item() == pytest.approx(expected + 0.1 * lengths, rel=1e-5)


def test_an_epoch_meets_every_pair_once_and_sets_none_of_the_users_items_against_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    met: list[tuple[int, int]] = []

    def note(model: Bpr, users: torch.Tensor, items: torch.Tensor, others: torch.Tensor, l2: float) -> torch.Tensor:
        assert others.shape == (len(users), 3)
        assert not TAKEN[users[:, None], others].any()
        met.extend(zip(users.tolist(), items.tolist(), strict=True))
        return torch.zeros(())

    monkeypatch.setattr(bpr, "bpr_loss", note)
    task = BprTask(make_model(), EdgeBatches(PAIRS, 50, 0), OPTIONS)
    for number in range(task.num_batches):
        task.loss(0, number, np.random.default_rng(number))
    assert sorted(met) == sorted(zip(*(indices.tolist() for indices in np.nonzero(TAKEN)), strict=True))


def test_the_fold_in_finds_an_affine_map_from_histories_to_users_that_is_there() -> None:
    """User vectors are made from the means of the items' vectors, so the tower can give every user their own."""
    model = make_model()
    turn, offset = torch.randn(DIM, DIM), torch.randn(DIM)
    shares = torch.from_numpy(TAKEN / np.maximum(TAKEN.sum(1, keepdims=True), 1)).float()
    with torch.no_grad():
        model.users.copy_(shares @ model.items @ turn + offset)
        model.users[7] = 100.0  # a user without history teaches nothing
    learn_fold_in(model, user_item_matrix(PAIRS))
    found, known = model(histories(), histories()).detach(), model.known_user_vectors().detach()
    others = np.arange(NUM_USERS) != 7
    torch.testing.assert_close(found[others], known[others], rtol=0, atol=0.02)
    torch.testing.assert_close(found[7, :-1], offset, rtol=0, atol=0.02)
    assert found[:, -1].tolist() == [1.0] * NUM_USERS


@pytest.mark.parametrize("validated", [True, False])
def test_the_fold_in_is_that_of_the_vectors_beside_it(validated: bool, tmp_path: Path) -> None:
    """At every validation and at the end: learned again, it is the same."""
    model, matrix = make_model(), user_item_matrix(PAIRS)
    turns = [model.turn.clone()]

    def validate(current: RetrievalModel) -> float:
        assert current is model
        turn = model.turn.clone()
        learn_fold_in(model, matrix)
        assert torch.equal(model.turn, turn)
        assert not any(torch.equal(turn, earlier) for earlier in turns)
        turns.append(turn)
        return len(turns)

    options = OPTIONS.model_copy(update={"max_steps": 6, "validations": 3})
    run = Fit("x", "key", 0, 0, tmp_path / "x.npz", validate=validate if validated else None)
    train(model, PAIRS, options, run, Silent())
    assert len(turns) == (4 if validated else 1)
    last = model.turn.clone()
    learn_fold_in(model, matrix)
    torch.testing.assert_close(model.turn, last)
    assert not torch.equal(last, turns[0])
