"""Sampled softmax against the full one, and what its correction is for."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.losses import sampled_softmax
from models.sampling import Proposal


def vectors(rows: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_with_every_item_as_a_negative_it_is_the_full_softmax() -> None:
    """The positive among the negatives is masked, so it counts once."""
    users, items, positives = vectors(5, 4, 0), vectors(9, 4, 1), torch.tensor([0, 8, 3, 3, 7])
    found = sampled_softmax(users, positives, items[positives], torch.arange(9), items)
    assert found.item() == pytest.approx(F.cross_entropy(users @ items.T, positives).item(), rel=1e-12)


def test_a_uniform_proposal_needs_no_correction() -> None:
    users, items, positives, negatives = (
        vectors(3, 4, 0),
        vectors(9, 4, 1),
        torch.tensor([1, 2, 3]),
        torch.tensor([4, 5]),
    )
    uniform = torch.from_numpy(Proposal.of_popularity(np.zeros(9), 0.75).log_probability).double()
    arguments = (users, positives, items[positives], negatives, items[negatives])
    assert sampled_softmax(*arguments, uniform).item() == pytest.approx(sampled_softmax(*arguments).item(), rel=1e-6)


def test_the_correction_by_hand() -> None:
    """Logits 2 (positive), 1 and 0, proposed with 1/2, 1/4 and 1/4: exp(2) * 2 against exp(1) * 4 + exp(0) * 4."""
    user, items = torch.ones(1, 1), torch.tensor([[2.0], [1.0], [0.0]])
    found = sampled_softmax(
        user, torch.tensor([0]), items[:1], torch.tensor([1, 2]), items[1:], torch.log(torch.tensor([0.5, 0.25, 0.25]))
    )
    expected = -np.log(2 * np.e**2 / (2 * np.e**2 + 4 * np.e + 4))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_a_negative_that_is_a_rows_positive_is_masked_in_that_row_only() -> None:
    """Item 1 is a negative of the first row and the positive of the second, which has no other: no loss there."""
    users, items = torch.ones(2, 1), torch.tensor([[0.0], [3.0]])
    positives = torch.tensor([0, 1])
    found = sampled_softmax(
        users, positives, items, torch.tensor([1, 1]), items[[1, 1]], weights=torch.tensor([1.0, 0])
    )
    assert found.item() == pytest.approx(np.log(1 + 2 * np.e**3), rel=1e-6)
    second = sampled_softmax(
        users, positives, items, torch.tensor([1, 1]), items[[1, 1]], weights=torch.tensor([0, 1.0])
    )
    assert second.item() == pytest.approx(0, abs=1e-6)


def test_weights_are_of_rows() -> None:
    """Three quarters of the first row's loss and a quarter of the second's; without any weight, nothing to learn."""
    users, items, negatives = vectors(2, 3, 0), vectors(6, 3, 1), torch.tensor([4, 5])
    positives = torch.tensor([0, 1])

    def loss(rows: list[int], weights: list[float] | None = None) -> float:
        given = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        own = positives[rows]
        return sampled_softmax(users[rows], own, items[own], negatives, items[negatives], weights=given).item()

    assert loss([0, 1], [3.0, 1.0]) == pytest.approx(0.75 * loss([0]) + 0.25 * loss([1]))
    assert loss([0, 1]) == pytest.approx((loss([0]) + loss([1])) / 2)
    assert loss([0, 1], [0.0, 0.0]) == 0.0


def expected_gradient(logits: torch.Tensor, truth: torch.Tensor, proposal: torch.Tensor, corrected: bool) -> float:
    """Largest absolute gradient of the expected loss: every positive, every negative, each with its probability."""
    logits = logits[:, None].clone().requires_grad_()
    everyone = torch.arange(len(truth))
    total = torch.zeros((), dtype=torch.float64)
    for negative in everyone:
        drawn = negative.view(1)
        one = torch.ones(len(truth), 1, dtype=torch.float64)
        log_proposal = proposal.log() if corrected else None
        loss = sampled_softmax(one, everyone, logits, drawn, logits[drawn], log_proposal, truth)
        # a masked positive costs nothing, and the weights of the others still sum to one
        total = total + proposal[negative] * loss
    total.backward()
    return float(logits.grad.abs().max())


def test_only_the_corrected_loss_has_its_minimum_at_the_true_softmax() -> None:
    """20 items, the true distribution and the proposal drawn independently. The expectation over all draws is exact:
    with the correction its gradient vanishes where the logits are log p, without it where they are log p - log q:
    items that are often drawn would be pushed down for having been drawn often."""
    rng = np.random.default_rng(0)
    truth, proposal = (torch.from_numpy(rng.dirichlet(np.ones(20))) for _ in range(2))
    assert expected_gradient(truth.log(), truth, proposal, corrected=True) < 1e-12
    assert expected_gradient(truth.log() + 3.0, truth, proposal, corrected=True) < 1e-12
    assert expected_gradient(truth.log() - proposal.log(), truth, proposal, corrected=False) < 1e-12
    assert expected_gradient(truth.log(), truth, proposal, corrected=False) > 1e-2
    assert expected_gradient(truth.log() - proposal.log(), truth, proposal, corrected=True) > 1e-2
