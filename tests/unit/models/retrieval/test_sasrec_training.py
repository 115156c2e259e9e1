"""What a step of SASRec's training learns from, by each loss, against the model asked prefix by prefix."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.data.interactions import Interactions
from models.fitting import Fit, fit_steps
from models.item_features import ItemFeatures
from models.options import SasRecOptions
from models.positives import Positives
from models.retrieval.batches import HistoryWindows
from models.retrieval.sasrec import ItemInputs, SasRec, SasRecConfig
from models.retrieval.sasrec_training import SasRecTask
from models.retrieval.timeline import DAY_MS
from models.run_log import Silent
from models.sampling import Proposal

NUM_ITEMS = 6
LOSSES = ["sampled_softmax", "softmax", "bce", "gbce"]
CYCLE = [[(start + n) % 12 for n in range(3)] for start in range(12)]


def make_task(histories: list[list[int]], num_items: int = NUM_ITEMS, **changed: object) -> tuple[SasRec, SasRecTask]:
    """One item a day. The model is in evaluation mode: no dropout."""
    options = SasRecOptions(
        **{"dim": 8, "layers": 1, "history_length": 6, "moments": 6, "batch_size": 8, "negatives": 3, **changed}
    )
    counts = [len(history) for history in histories]
    size = sum(counts)
    users = np.repeat(np.arange(len(histories)), counts)
    items = np.concatenate(histories)
    days = np.concatenate([np.arange(count) for count in counts])
    windows = HistoryWindows(
        Interactions(
            users.astype(np.int32),
            items.astype(np.int32),
            days * DAY_MS,
            np.zeros(size, np.uint8),
            np.ones(size, np.float32),
            {},
        ),
        options.history_length,
    )
    torch.manual_seed(0)
    config = SasRecConfig(options.dim, options.layers, options.heads, options.history_length, options.dropout)
    model = SasRec(
        ItemInputs(ItemFeatures.of_categories(torch.zeros(num_items, 0).long(), []), torch.linspace(-1, 1, num_items)),
        config,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    proposal = Proposal.of_popularity(np.arange(num_items, dtype=np.float64), 0.5)
    positives = Positives.of(users, items, len(histories), num_items)
    return model.eval(), SasRecTask(model, windows, proposal, positives, options, seed=0)


def logits(model: SasRec, history: list[int]) -> torch.Tensor:
    """Of every item before each interaction of a history, [n, N], each prefix asked on its own."""
    prefixes = [torch.tensor([[0, *(item + 1 for item in history[:n])]]) for n in range(len(history))]
    vectors = [model(prefix, torch.arange(prefix.shape[1], 0, -1) * (prefix > 0)) for prefix in prefixes]
    return torch.cat(vectors) @ model.item_vectors().T


def best_new(model: SasRec, history: list[int]) -> list[int]:
    """The first item before each interaction, of those not taken before: binary losses have nothing to say of these."""
    with torch.inference_mode():
        scores = logits(model, history).numpy()
    for n in range(len(history)):
        scores[n, history[:n]] = -np.inf
    best: list[int] = scores.argmax(1).tolist()
    return best


def found(task: SasRecTask, number: int = 0) -> float:
    return task.loss(0, number, np.random.default_rng(0)).mean.item()


def test_the_softmax_is_over_the_catalogue_before_each_interaction() -> None:
    """Histories of three and of five: eight moments, each of weight one."""
    histories = [[3, 0, 5], [1, 2, 3, 0, 4]]
    model, task = make_task(histories, loss="softmax")
    losses = [F.cross_entropy(logits(model, h), torch.tensor(h), reduction="none") for h in histories]
    assert found(task) == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)


@pytest.mark.parametrize(("loss", "calibration"), [("bce", 0.5), ("gbce", 0.0), ("gbce", 0.5), ("gbce", 1.0)])
def test_binary_losses_have_negatives_that_the_user_never_took(loss: str, calibration: float) -> None:
    """Users who have all items but one: that one is every negative, before it could be known that it is the one.

    Three negatives of five others: the power is 0.6 (t (1 - 1 / 0.6) + 1 / 0.6) = 1 - 0.4 t.
    """
    histories = {4: [3, 0, 5, 1, 2], 0: [1, 2, 3, 5, 4]}
    model, task = make_task(list(histories.values()), loss=loss, gbce_calibration=calibration)
    power = 1.0 if loss == "bce" else 1 - 0.4 * calibration
    expected = []
    for negative, history in histories.items():
        scores = logits(model, history)
        own = F.logsigmoid(scores[torch.arange(5), torch.tensor(history)])
        expected.append(-(power * own + 3 * F.logsigmoid(-scores[:, negative])) / 4)
    assert found(task) == pytest.approx(torch.cat(expected).mean().item(), rel=1e-5)


@pytest.mark.parametrize("loss", ["bce", "gbce"])
def test_binary_losses_learn_nothing_from_a_user_who_has_every_item(loss: str) -> None:
    """There is no negative for them. The other user's loss stays what it is, and alone they are a loss of nothing."""
    complete, other = [5, 3, 1, 0, 2, 4], [0, 1, 2, 3, 4]
    _, both = make_task([complete, other], loss=loss)
    _, alone = make_task([other], loss=loss)
    _, nobody = make_task([complete], loss=loss)
    assert found(both) == pytest.approx(found(alone), rel=1e-5)
    assert found(nobody) == 0.0


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_learns_from_some_moments_of_each_history(loss: str) -> None:
    """Of one moment a history the loss changes with the draw; it is that of some one prefix."""
    history = [3, 0, 5, 1, 2]
    model, task = make_task([history], loss=loss, moments=1)
    model.zero_grad()
    drawn = {round(task.loss(0, 0, np.random.default_rng(seed)).mean.item(), 4) for seed in range(40)}
    assert len(drawn) >= 5
    if loss == "softmax":
        losses = F.cross_entropy(logits(model, history), torch.tensor(history), reduction="none")
        assert drawn == {round(value, 4) for value in losses.tolist()}


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_what_comes_next(loss: str, tmp_path: Path) -> None:
    """Twelve items that follow each other in a circle, which popularity knows nothing of; users saw three of them."""
    model, task = make_task(CYCLE, 12, loss=loss, dropout=0.0, negatives=6, dim=16, batch_size=12)
    options = SasRecOptions(max_steps=100, max_epochs=1000, learning_rate=0.03)
    fit_steps(model, task, options, Fit("retrieval", "k", 0, 0, tmp_path / "checkpoint.npz"), Silent())
    for history in CYCLE:
        assert best_new(model, history)[1:] == history[1:]
