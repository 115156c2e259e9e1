"""BPR and softmax over candidate lists, against sums written out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.ranking.losses import bpr, list_loss, softmax

# list 0: positives 2 and 1, negatives 0 and -1; list 1: no negative; list 2: no positive; list 3: one of each
LOGITS = torch.tensor([2.0, 0.0, 1.0, -1.0, 5.0, 3.0, 4.0, 0.5, 0.0])
LABELS = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0])
LISTS = torch.tensor([0, 0, 0, 0, 1, 2, 2, 3, 3])


def close(found: Tensor, expected: float) -> None:
    np.testing.assert_allclose(found.item(), expected, rtol=1e-6)


def test_bpr_is_the_mean_over_pairs_and_then_over_lists_that_have_one() -> None:
    def pair(difference: float) -> float:
        return float(np.log1p(np.exp(-difference)))

    first = (pair(2 - 0) + pair(2 + 1) + pair(1 - 0) + pair(1 + 1)) / 4
    close(bpr(LOGITS, LABELS, LISTS), (first + pair(0 - 0.5)) / 2)


def test_softmax_of_each_positive_among_the_negatives_of_its_list() -> None:
    """The other positive of the list is not in the sum."""
    negatives = np.exp(0.0) + np.exp(-1.0)
    first = -(np.log(np.exp(2) / (np.exp(2) + negatives)) + np.log(np.e / (np.e + negatives))) / 2
    last = -np.log(1 / (1 + np.exp(0.5)))
    close(softmax(LOGITS, LABELS, LISTS), (first + last) / 2)


def test_a_batch_without_a_pair_has_no_loss_and_no_gradient() -> None:
    logits = torch.tensor([1.0, 2.0], requires_grad=True)
    for labels in (torch.ones(2), torch.zeros(2)):
        for loss in (bpr(logits, labels, torch.zeros(2, dtype=torch.int64)), softmax(logits, labels, torch.arange(2))):
            assert loss.item() == 0.0
            (gradient,) = torch.autograd.grad(loss, logits)
            assert gradient.tolist() == [0.0, 0.0]


def test_large_logits_stay_finite() -> None:
    logits = torch.tensor([900.0, -900.0, 1000.0], requires_grad=True)
    loss = softmax(logits, torch.tensor([0.0, 1.0, 0.0]), torch.zeros(3, dtype=torch.int64))
    close(loss, 1900.0)
    assert torch.isfinite(torch.autograd.grad(loss, logits)[0]).all()


WEIGHTS = torch.tensor([4.0, 0.5, 2.0, 1.0, 1.0, 1.0, 0.25, 0.8, 3.0])


def test_a_pair_of_bpr_weighs_the_product_of_its_rows() -> None:
    def pair(difference: float) -> float:
        return float(np.log1p(np.exp(-difference)))

    first = (4 * 0.5 * pair(2 - 0) + 4 * pair(2 + 1) + 2 * 0.5 * pair(1 - 0) + 2 * pair(1 + 1)) / 4
    close(bpr(LOGITS, LABELS, LISTS, WEIGHTS), (first + 3 * 0.8 * pair(0 - 0.5)) / 2)


def test_a_positive_of_softmax_weighs_as_a_term_and_a_negative_as_a_part_of_the_sum() -> None:
    negatives = 0.5 * np.exp(0.0) + np.exp(-1.0)
    first = -(4 * np.log(np.exp(2) / (np.exp(2) + negatives)) + 2 * np.log(np.e / (np.e + negatives))) / 2
    last = -3 * np.log(1 / (1 + 0.8 * np.exp(0.5)))
    close(softmax(LOGITS, LABELS, LISTS, weights=WEIGHTS), (first + last) / 2)


def test_a_negative_of_softmax_that_weighs_nothing_is_not_there() -> None:
    logits = torch.tensor([1.0, 0.5, -1.0], requires_grad=True)
    lists, labels = torch.zeros(3, dtype=torch.int64), torch.tensor([1.0, 0.0, 0.0])
    loss = softmax(logits, labels, lists, weights=torch.tensor([1.0, 0.0, 1.0]))
    np.testing.assert_allclose(loss.item(), np.log1p(np.exp(-2)), rtol=1e-4)
    alone = softmax(logits, labels, lists, weights=torch.tensor([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(alone.item(), 0, atol=1e-5)
    loss = loss + alone
    assert torch.isfinite(torch.autograd.grad(loss, logits)[0]).all()


def test_a_row_of_log_loss_that_weighs_four_adds_four_times_as_much() -> None:
    """And the mean is still over the number of rows."""
    found = list_loss("log_loss", LOGITS[:2], LABELS[:2], LISTS[:2], WEIGHTS[:2])
    close(found, (4 * np.log1p(np.exp(-2)) + 0.5 * np.log(2)) / 2)


@pytest.mark.parametrize("name", ["log_loss", "bpr", "softmax"])
def test_weights_of_one_change_no_bit(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, generator=generator).requires_grad_()
    labels = (torch.rand(500, generator=generator) < 0.2).float()
    lists = torch.arange(500) // 23
    plain, weighed = (list_loss(name, logits, labels, lists, weights) for weights in (None, torch.ones(500)))
    assert torch.equal(plain, weighed)
    assert torch.equal(*(torch.autograd.grad(loss, logits)[0] for loss in (plain, weighed)))


def test_ratings_have_no_weights() -> None:
    with pytest.raises(ValueError, match="squared is the loss of ratings"):
        list_loss("squared", LOGITS, LABELS, LISTS, WEIGHTS)
