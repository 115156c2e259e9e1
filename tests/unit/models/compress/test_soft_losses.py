"""What a teacher says, as a loss: by hand, 0 where the student agrees, and more use than few labels."""

from math import log

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.compress.soft import Soft, Vectors, soft_items, soft_lists, soft_rows
from models.losses import CHUNK

LISTS = torch.tensor([0, 0, 0, 1, 1])


def test_rows_by_hand() -> None:
    """Teacher's probabilities 1/2 and, with its logit divided by 2, 3/4; the student says 1/2 twice."""
    teacher, student = torch.tensor([0.0, 2 * log(3)]), torch.zeros(2)
    divergence = 0.75 * log(0.75 / 0.5) + 0.25 * log(0.25 / 0.5)
    assert soft_rows(student, teacher, 2.0).item() == pytest.approx(4 * divergence / 2, rel=1e-5)


def test_lists_by_hand() -> None:
    """Shares of the teacher 1/2, 1/4, 1/4 in the first list, those of the student 1/3 each; they agree in the other."""
    teacher, student = torch.tensor([log(4), log(2), log(2), 5.0, 5.0]), torch.tensor([7.0, 7.0, 7.0, 1.0, 1.0])
    divergence = 0.5 * log(0.5 * 3) + 2 * 0.25 * log(0.25 * 3)
    assert soft_lists(student, teacher, LISTS).item() == pytest.approx(divergence / 2, rel=1e-5)
    assert soft_lists(student, 2 * teacher, LISTS, 2.0).item() == pytest.approx(4 * divergence / 2, rel=1e-5)


def test_items_by_hand_with_what_they_were_drawn_with() -> None:
    """Two items; the first is drawn three times as often: the teacher's 3 : 1 becomes 1 : 1, the student's 1 : 1
    becomes 1 : 3."""
    teacher, student = torch.tensor([[log(3), 0.0]]), torch.zeros(1, 2)
    drawn_with = torch.tensor([0.75, 0.25]).log()
    expected = 0.5 * log(0.5 / 0.25) + 0.5 * log(0.5 / 0.75)
    own, told, hot = (Vectors(moments, torch.eye(2)) for moments in (student, teacher, 3 * teacher))
    assert soft_items(own, told, log_proposal=drawn_with).item() == pytest.approx(expected, rel=1e-5)
    assert soft_items(own, hot, 3.0, drawn_with).item() == pytest.approx(9 * expected, rel=1e-5)
    assert soft_items(own, told).item() == pytest.approx(0.75 * log(1.5) + 0.25 * log(0.5), rel=1e-5)


@pytest.mark.parametrize("is_drawn", [False, True])
def test_more_moments_than_are_made_at_a_time(is_drawn: bool) -> None:
    """Moment by moment, and its gradient, in dimensions of their own."""
    rng = torch.Generator().manual_seed(0)
    own, told = (
        Vectors(torch.randn(2 * CHUNK + 3, dim, generator=rng), torch.randn(9, dim, generator=rng)) for dim in (4, 7)
    )
    log_proposal = torch.rand(9, generator=rng).log() if is_drawn else None
    own.moments.requires_grad_()
    loss = soft_items(own, told, 2.0, log_proposal)
    loss.backward()
    shift = 0.0 if log_proposal is None else log_proposal
    found = own.moments.detach().requires_grad_()
    shares = [torch.softmax(m @ i.T / 2.0 - shift, 1) for m, i in ((found, own.items), told)]
    expected = 4.0 * (shares[1] * (shares[1] / shares[0]).log()).sum(1).mean()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(own.moments.grad, found.grad, rtol=1e-4, atol=1e-7)


def test_products_in_bfloat16_are_summed_in_float32() -> None:
    rng = torch.Generator().manual_seed(0)
    own, told = (
        Vectors(torch.randn(20, 3, generator=rng).bfloat16(), torch.randn(50, 3, generator=rng).bfloat16())
        for _ in range(2)
    )
    found, expected = (torch.log_softmax((one.moments @ one.items.T).float(), 1) for one in (own, told))
    divergence = (expected.exp() * (expected - found)).sum(1).mean()
    assert soft_items(own, told).item() == pytest.approx(divergence.item(), rel=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("kind", ["rows", "lists", "items"])
def test_a_student_that_agrees_has_no_loss_and_no_gradient(kind: str, temperature: float) -> None:
    teacher = torch.tensor([2.0, -1.0, 0.3, 40.0, -40.0])
    student = teacher.clone().requires_grad_()
    both = student, teacher
    losses = {
        "rows": lambda: soft_rows(student, teacher, temperature),
        "lists": lambda: soft_lists(student, teacher, LISTS, temperature),
        "items": lambda: soft_items(*(Vectors(one.unsqueeze(0), torch.eye(5)) for one in both), temperature),
    }
    loss = losses[kind]()
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(student.grad, 0, atol=1e-6)


def test_lists_say_nothing_of_the_level() -> None:
    student = torch.tensor([0.0, 1.0, 2.0, 3.0, 5.0])
    assert soft_lists(student, student + 9 * LISTS, LISTS).item() == pytest.approx(0, abs=1e-6)


def test_the_labels_have_the_rest_of_the_weight() -> None:
    teacher, student = torch.tensor([1.0, -1.0]), torch.tensor([0.0, 0.5])
    soft = soft_rows(student, teacher, 3.0).item()
    mixed = Soft(0.75, 3.0, "rows").mixed(torch.tensor(8.0), student, teacher, torch.tensor([0, 0]))
    assert mixed.item() == pytest.approx(0.25 * 8 + 0.75 * soft, rel=1e-6)


def test_a_planted_teacher_is_learned_better_from_what_it_says_than_from_few_labels() -> None:
    """A linear teacher; 60 rows of 20 numbers. Labels drawn by its probabilities leave the student far from its
    weights; its probabilities themselves give them."""
    rng = torch.Generator().manual_seed(0)
    truth = torch.randn(20, generator=rng)
    rows = torch.randn(60, 20, generator=rng)
    logits = rows @ truth
    labels = (torch.rand(60, generator=rng) < torch.sigmoid(logits)).float()

    def distance(taught: bool) -> float:
        weight = nn.Parameter(torch.zeros(20))
        optimizer = torch.optim.Adam([weight], 0.1)
        for _ in range(300):
            found = rows @ weight
            hard = nn.functional.binary_cross_entropy_with_logits(found, labels)
            loss: Tensor = Soft(0.9, 1.0, "rows").mixed(hard, found, logits, LISTS) if taught else hard
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float((weight.detach() - truth).norm() / truth.norm())

    assert distance(taught=True) < 0.3 < 1.0 < distance(taught=False)
