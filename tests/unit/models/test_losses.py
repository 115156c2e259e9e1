"""Each loss by hand, sampled softmax against the full one, and what its correction is for."""

from collections.abc import Callable
from itertools import combinations_with_replacement, product

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.losses import (
    CHUNK,
    bce,
    bpr,
    full_softmax,
    gbce,
    in_batch_softmax,
    sampled_softmax,
)
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


def minimum_logits(expected_loss: Callable[[torch.Tensor], torch.Tensor], size: int) -> torch.Tensor:
    """Logits float64 [size] at which the loss is least."""
    logits = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=25, tolerance_grad=1e-9, tolerance_change=1e-13, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = expected_loss(logits)
        loss.backward()
        return loss

    optimizer.step(closure)
    return logits.detach()


SOLD = np.array([40.0, 25.0, 10.0, 5.0])
TRUTH = torch.tensor([0.2, 0.4, 0.1, 0.3], dtype=torch.float64)
POPULAR = Proposal.of_popularity(SOLD, 1.0)
LOG_POPULAR = torch.from_numpy(POPULAR.log_probability).double()


def loss_of_draw(logits: torch.Tensor, drawn: torch.Tensor, corrected: bool, mask: bool) -> torch.Tensor:
    """Every item as a positive, as often as the truth says."""
    items = torch.arange(4)
    ones = torch.ones(4, 1, dtype=torch.float64)
    vectors = logits[:, None]
    log_proposal = LOG_POPULAR if corrected else None
    return sampled_softmax(ones, items, vectors, drawn, vectors[drawn], log_proposal, TRUTH, mask)


def expected_loss(logits: torch.Tensor, corrected: bool = True, mask: bool = False) -> torch.Tensor:
    """The exact expectation over all draws of two negatives; unequal ones come in two orders."""
    total = torch.zeros((), dtype=torch.float64)
    for pair in combinations_with_replacement(range(4), 2):
        drawn = torch.tensor(pair)
        chance = LOG_POPULAR[drawn].sum().exp() * len(set(pair))
        total = total + chance * loss_of_draw(logits, drawn, corrected, mask)
    return total


def test_corrected_samples_recover_the_true_softmax() -> None:
    """Two draws by popularity: the trained distribution is the true one. Without the correction what is often drawn
    comes out too small."""
    found = minimum_logits(expected_loss, 4).softmax(0)
    np.testing.assert_allclose(found, TRUTH, atol=1e-6)
    uncorrected = minimum_logits(lambda logits: expected_loss(logits, corrected=False), 4).softmax(0)
    assert uncorrected[0] < 0.5 * TRUTH[0]
    assert uncorrected[3] > 1.5 * TRUTH[3]


def test_masking_accidental_positives_makes_the_probable_too_probable() -> None:
    """At the true softmax the corrected loss is at rest; with the mask it goes on to raise the most probable item."""
    gradients = []
    for mask in (False, True):
        logits = TRUTH.log().requires_grad_()
        expected_loss(logits, mask=mask).backward()
        assert logits.grad is not None
        gradients.append(logits.grad)
    np.testing.assert_allclose(gradients[0], np.zeros(4), atol=1e-6)
    assert int(gradients[1].argmin()) == int(TRUTH.argmax())
    assert float(gradients[1].min()) < -0.005


def test_training_step_by_step_on_draws_of_the_proposal_recovers_it() -> None:
    """256 draws a step from the proposal itself, each item many times; the steps grow smaller to the end."""
    rng = np.random.default_rng(0)
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    steps = 800
    optimizer = torch.optim.SGD([logits], lr=5.0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5.0 * (1 - step / steps)
        optimizer.zero_grad()
        drawn = torch.from_numpy(POPULAR.draw(256, rng))
        loss_of_draw(logits, drawn, corrected=True, mask=False).backward()
        optimizer.step()
    np.testing.assert_allclose(torch.softmax(logits.detach(), 0).numpy(), TRUTH.numpy(), atol=0.01)


def test_a_kept_accidental_positive_counts_as_one_more_negative() -> None:
    """Logits 1 for the positive 0, drawn once more, and 0 for item 1: e against e, e and 1."""
    one, items = torch.ones(1, 1), torch.tensor([[1.0], [0.0]])
    arguments = (one, torch.tensor([0]), items[:1], torch.tensor([0, 1]), items)
    assert sampled_softmax(*arguments, mask=False).item() == pytest.approx(np.log(2 + 1 / np.e), rel=1e-6)
    assert sampled_softmax(*arguments).item() == pytest.approx(np.log(1 + 1 / np.e), rel=1e-6)


def test_full_softmax_by_hand_and_in_chunks() -> None:
    """Logits 0, log 2 and log 3: shares of 1/6, 2/6 and 3/6. More rows than a chunk are the same mean."""
    users, items = torch.ones(2, 1), torch.tensor([1.0, 2.0, 3.0]).log()[:, None]
    positives = torch.tensor([0, 2])
    found = full_softmax(users, positives, items, torch.tensor([3.0, 1.0]))
    assert found.item() == pytest.approx((3 * np.log(6) + np.log(2)) / 4, rel=1e-6)
    many, catalogue = vectors(CHUNK + 3, 4, 0), vectors(7, 4, 1)
    own = torch.arange(CHUNK + 3) % 7
    assert full_softmax(many, own, catalogue).item() == pytest.approx(F.cross_entropy(many @ catalogue.T, own).item())


def test_in_batch_softmax_by_hand() -> None:
    """Products 1, 0 and 0, 1 over a temperature of 1/2 are 2 and 0; items in batches with shares of 1/4 and 3/4.

    First row: 4 e^2 against 4/3 beside it; second: 4/3 e^2 beside 4.
    """
    users = items = torch.eye(2)
    log_share = torch.tensor([0.25, 0.75]).log()
    losses = [np.log(1 + (4 / 3) / (4 * np.e**2)), np.log(1 + 4 / (4 / 3 * np.e**2))]

    def found(known: list[list[bool]] | None = None, weights: list[float] | None = None) -> float:
        mask = None if known is None else torch.tensor(known)
        own = None if weights is None else torch.tensor(weights)
        return in_batch_softmax(users, items, log_share, mask, own, temperature=0.5).item()

    assert found() == pytest.approx(sum(losses) / 2, rel=1e-6)
    assert found(weights=[1.0, 3.0]) == pytest.approx((losses[0] + 3 * losses[1]) / 4, rel=1e-6)
    assert found(known=[[True, True], [False, True]]) == pytest.approx(losses[1] / 2, rel=1e-6)
    assert in_batch_softmax(users, items).item() == pytest.approx(np.log(1 + 1 / np.e), rel=1e-6)


def test_in_batch_negatives_recover_the_true_softmax_by_their_share() -> None:
    """Two users of equal weight with opposite tastes; a batch is one interaction of each. All 9 batches are summed:
    the items' shares in batches are the mean of the tastes, and corrected by them both tastes come out."""
    tastes = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]], dtype=torch.float64)
    log_share = tastes.mean(0).log()
    batches = list(product(product(range(2), range(3)), repeat=2))  # (user, item) of both rows

    def expected(logits: torch.Tensor) -> torch.Tensor:
        table = logits.view(2, 3)
        total = torch.zeros((), dtype=torch.float64)
        for rows in batches:
            users, items = (torch.tensor(side) for side in zip(*rows, strict=True))
            chance = tastes[users, items].prod() / 4
            one_hot = F.one_hot(items, 3).double()
            total = total + chance * in_batch_softmax(table[users], one_hot, log_share[items])
        return total

    found = minimum_logits(expected, 6).view(2, 3).softmax(1)
    np.testing.assert_allclose(found.numpy(), tastes.numpy(), atol=1e-6)


def test_bce_by_hand() -> None:
    """sigmoid(log 3) = 3/4 of the positive; 1 - sigmoid = 1/2 and 1/4 of the negatives; the mean of three."""
    positive, negative = torch.tensor([3.0]).log(), torch.tensor([[1.0, 3.0]]).log()
    expected = -(np.log(3 / 4) + np.log(1 / 2) + np.log(1 / 4)) / 3
    assert bce(positive, negative).item() == pytest.approx(expected, rel=1e-6)
    rows = bce(positive.expand(2), torch.cat([negative, torch.zeros(1, 2)]), torch.tensor([1.0, 3.0]))
    other = -(np.log(3 / 4) + 2 * np.log(1 / 2)) / 3
    assert rows.item() == pytest.approx((expected + 3 * other) / 4, rel=1e-6)


def test_bces_logits_are_of_the_truth_over_the_proposal() -> None:
    """One negative by popularity, in expectation: the least loss is where sigmoid(s) = p / (p + q)."""
    proposal = LOG_POPULAR.exp()

    def expected(logits: torch.Tensor) -> torch.Tensor:
        pairs = torch.cartesian_prod(torch.arange(4), torch.arange(4))
        weights = TRUTH[pairs[:, 0]] * proposal[pairs[:, 1]]
        return bce(logits[pairs[:, 0]], logits[pairs[:, 1:]], weights)

    np.testing.assert_allclose(minimum_logits(expected, 4), (TRUTH / proposal).log(), atol=1e-5)


def test_gbce_by_hand() -> None:
    """2 of the 8 other items sampled, a = 1/4. With t = 1/2 the power is 1/4 (1/2 (1 - 4) + 4) = 5/8."""
    positive, negative = torch.tensor([3.0]).log(), torch.tensor([[1.0, 3.0]]).log()
    rest = np.log(1 / 2) + np.log(1 / 4)
    found = gbce(positive, negative, num_items=9, calibration=0.5).item()
    assert found == pytest.approx(-(5 / 8 * np.log(3 / 4) + rest) / 3, rel=1e-6)
    full = gbce(positive, negative, num_items=9, calibration=1.0).item()
    assert full == pytest.approx(-(1 / 4 * np.log(3 / 4) + rest) / 3, rel=1e-6)


def test_gbce_without_calibration_or_with_every_item_is_bce() -> None:
    positive, negative = vectors(5, 1, 0)[:, 0], vectors(5, 3, 1)
    weights = torch.rand(5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = pytest.approx(bce(positive, negative, weights).item(), rel=1e-12)
    assert gbce(positive, negative, 1000, 0.0, weights).item() == expected
    assert gbce(positive, negative, 4, 0.9, weights).item() == expected
    assert gbce(positive, negative, 3, 0.9, weights).item() == expected


def test_gbce_undoes_the_overconfidence_of_few_negatives() -> None:
    """One uniform negative of 4 others, t = 1: where bce says sigmoid = p / (p + q), gbce says p / (p + 4 q): less."""
    truth = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.1], dtype=torch.float64)

    def expected(logits: torch.Tensor) -> torch.Tensor:
        pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
        return gbce(logits[pairs[:, 0]], logits[pairs[:, 1:]], 5, 1.0, truth[pairs[:, 0]] / 5)

    found = torch.sigmoid(minimum_logits(expected, 5))
    np.testing.assert_allclose(found, truth / (truth + 4 / 5), atol=1e-5)


def test_bpr_by_hand_and_its_direction() -> None:
    """Margins log 3 and 0: sigmoids of 3/4 and 1/2. The positive is pushed up and the negatives down by as much."""
    positive = torch.tensor([3.0]).log().requires_grad_()
    negative = torch.tensor([[1.0, 3.0]]).log().requires_grad_()
    loss = bpr(positive, negative)
    assert loss.item() == pytest.approx(-(np.log(3 / 4) + np.log(1 / 2)) / 2, rel=1e-6)
    loss.backward()
    assert positive.grad is not None
    assert negative.grad is not None
    assert positive.grad.tolist() == pytest.approx([-3 / 8])
    assert negative.grad.flatten().tolist() == pytest.approx([1 / 8, 1 / 4])
    rows = bpr(positive.detach().expand(2), torch.tensor([[0.0], [3.0]]).log1p(), torch.tensor([1.0, 3.0]))
    assert rows.item() == pytest.approx(-(np.log(3 / 4) + 3 * np.log(3 / 7)) / 4, rel=1e-6)
