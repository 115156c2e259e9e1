"""Hidden units are removed from every ranker that has some, across the split first layer."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from unsplit import Candidate, Unsplit

from models import checkpoint
from models.compress.units import cut, most_important, norms, ranker_layers, sizes_after, taylor
from models.ranking.build import build
from models.ranking.inputs import RankerInputs
from models.ranking.options import RankerOptions
from models.ranking.pieces import Ranker

INPUTS = RankerInputs({"user_id": 6, "age": 4}, 2, {"item_id": 7, "genre": 3}, 1, 3, torch.tensor([[1, 1], [2, 2]]))
DEEP = ("fnn", "ipnn", "opnn", "pnn", "wide_deep", "deepfm", "mlp", "neumf", "transformer")
HIDDEN, KEPT = [6, 5, 4], [[0, 2, 5], [1, 2, 4], [0, 3]]


def made(name: str, hidden: list[int], **options: Any) -> Ranker:
    """With weights, and statistics of the batch norm, that are far from those a model starts with."""
    torch.manual_seed(3)
    settings = RankerOptions(model=name, dim=4, hidden=hidden, history_length=3, **options)  # type: ignore[arg-type]
    model = build(INPUTS, settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d) and module.running_mean is not None:
                module.running_mean.normal_()
    return model


def asked(model: Ranker) -> list[Tensor]:
    """Four candidates of two users."""
    torch.manual_seed(0)
    inputs = [torch.tensor([[3, 1], [5, 2]]), torch.randn(2, 2), torch.tensor([[1, 2], [6, 1], [2, 0], [3, 1]])]
    inputs += [torch.randn(4, 1), torch.randn(4, 3), torch.tensor([0, 1, 1, 0])]
    history = [torch.tensor([[0, 1, 2], [0, 0, 1]]), torch.tensor([[0, 2, 1], [0, 0, 1]])]
    return inputs + (history if model.user_module.history_length else [])


def pruned(name: str, model: Ranker, kept: list[list[int]], **options: Any) -> Ranker:
    units = [np.array(layer) for layer in kept]
    smaller = made(name, [len(layer) for layer in kept], **options)
    checkpoint.set_weights(smaller, cut(checkpoint.weights(model), ranker_layers(model, name), units))
    return smaller


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", DEEP)
def test_units_whose_outgoing_weights_are_zero_can_go_without_a_trace(name: str, batch_norm: bool) -> None:
    model = made(name, HIDDEN, batch_norm=batch_norm)
    arrays = checkpoint.weights(model)
    for layer, kept in zip(ranker_layers(model, name), KEPT, strict=True):
        gone = np.setdiff1d(np.arange(arrays[layer.outgoing].shape[1]), kept)
        arrays[layer.outgoing][:, gone] = 0.0
    checkpoint.set_weights(model, arrays)
    smaller = pruned(name, model, KEPT, batch_norm=batch_norm)
    with torch.inference_mode():
        expected, found = (each(*asked(each)).numpy() for each in (model, smaller))
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["deepfm", "pnn", "neumf"])
def test_the_three_pieces_of_a_pruned_model_are_the_model_unsplit(name: str) -> None:
    model = pruned(name, made(name, HIDDEN), KEPT)
    users, user_x, items, item_x, cross, row_user = (array.numpy() for array in asked(model))
    unsplit = Unsplit(name, model, INPUTS, [])
    expected = [unsplit(Candidate(users[u], user_x[u], items[n], item_x[n], cross[n])) for n, u in enumerate(row_user)]
    with torch.inference_mode():
        np.testing.assert_allclose(model(*asked(model)).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_what_is_left_of_each_layer_is_smaller_by_its_units() -> None:
    whole, part = (sum(p.numel() for p in made("deepfm", hidden).parameters()) for hidden in ([6, 4], [3, 2]))
    inputs_of_first = (2 + 2) * 4 + (2 + 1) * 4 + 3 + 1  # fields of both sides, cross features, the bias
    assert whole - part == 3 * inputs_of_first + (6 * 4 - 3 * 2) + 2 + 2


@pytest.mark.parametrize("name", ["lr", "fm", "ffm", "gmf"])
def test_a_model_without_hidden_units_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"prune_units: model = '{name}' has no hidden units"):
        ranker_layers(made(name, [4]), name)


def two_units(incoming: list[list[float]]) -> Ranker:
    """A ranker of the cross features alone, whose perceptron has two units: relu(W x + b), then 2 a - 1 b."""
    torch.manual_seed(0)
    model = build(RankerInputs({}, 0, {}, 0, 2), RankerOptions(model="deepfm", dim=1, hidden=[2])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        deep = model.head_module.terms[1]
        deep.first.weight.copy_(torch.tensor(incoming))
        deep.mlp.out.weight.copy_(torch.tensor([[2.0, -1.0]]))
    return model


def test_importance_by_activation_and_gradient_worked_by_hand() -> None:
    """Units are x0 and x1 + x0, cut at 0. Activations [1, 3], [4, 3]; gradients of the sum of scores [2, -1]: changes
    |1 * 2| + |4 * 2| = 10 and |3| + |3| = 6; another batch adds |2 * 2| = 4 and nothing, its second unit being off."""
    model = two_units([[1.0, 0.0], [1.0, 1.0]])
    one, other = torch.tensor([[1.0, 2.0], [4.0, -1.0]]), torch.tensor([[2.0, -5.0]])
    nobody = torch.zeros(1, 0, dtype=torch.int64), torch.zeros(1, 0)

    def loss(cross: Tensor) -> Tensor:
        items = torch.zeros(len(cross), 0, dtype=torch.int64), torch.zeros(len(cross), 0)
        score: Tensor = model(*nobody, *items, cross, torch.zeros(len(cross), dtype=torch.int64))
        return score.sum()

    (found,) = taylor(model, ranker_layers(model, "deepfm"), (loss(cross) for cross in (one, other)))
    assert found.tolist() == [14.0, 6.0]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert most_important([found], [1])[0].tolist() == [0]


def test_importance_by_weights_worked_by_hand() -> None:
    """Incoming lengths 5 and 13, outgoing 2 and 1."""
    model = two_units([[3.0, 4.0], [5.0, 12.0]])
    (found,) = norms(checkpoint.weights(model), ranker_layers(model, "deepfm"))
    np.testing.assert_allclose(found, [10.0, 13.0])
    assert most_important([found], [1])[0].tolist() == [1]


def test_how_many_units_are_left() -> None:
    assert sizes_after([128, 64, 3, 1], 0.5) == [64, 32, 2, 1]
    assert sizes_after([10], 0.99) == [1], "a layer keeps one"
