"""Magnitude pruning: which weights go, when, and that none comes back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models import checkpoint
from models.compress.magnitude import NAME, Pruning, layer_weights, share_at, zeros
from models.ranking.build import build
from models.ranking.inputs import RankerInputs
from models.ranking.options import RankerOptions
from models.training_state import TrainingState


def test_the_share_grows_by_a_cubic_and_then_stays() -> None:
    """Of 4 steps: 0.8 (1 - (3/4)^3), 0.8 (1 - (2/4)^3), 0.8 (1 - (1/4)^3), 0.8."""
    expected = [0.8 * (1 - 27 / 64), 0.8 * (1 - 8 / 64), 0.8 * (1 - 1 / 64), 0.8, 0.8]
    assert [share_at(step, 0.8, 4) for step in range(5)] == pytest.approx(expected)
    assert share_at(0, 0.8, 1) == share_at(0, 0.8, 0) == 0.8


def test_the_smallest_weights_of_each_layer_go() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -4.0], [3.0, -2.0]]))
        model[2].weight.copy_(torch.tensor([[0.1, 0.4], [0.2, -0.3]]))
    biases = [model[place].bias.detach().clone() for place in (0, 2)]
    pruning = Pruning(model, 0.5, 1)
    pruning.at(0)
    pruning.finish()
    assert model[0].weight.tolist() == [[0.0, -4.0], [3.0, 0.0]]
    np.testing.assert_allclose(model[2].weight.detach(), [[0.0, 0.4], [0.0, -0.3]])
    assert all(torch.equal(model[place].bias, bias) for place, bias in zip((0, 2), biases, strict=True))
    assert zeros(checkpoint.weights(model), ["0.weight", "2.weight"]) == 0.5


def test_tables_and_biases_of_a_ranker_are_left_alone() -> None:
    model = build(RankerInputs({"age": 5}, 1, {"genre": 9}, 1, 2), RankerOptions(hidden=[4, 3]))
    found = {name.rpartition(".")[0].rpartition(".")[2] for name in layer_weights(model)}
    assert found == {"first", "0", "out"}
    assert not any("table" in name or "bias" in name for name in layer_weights(model))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.body(rows)
        return scores


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    rows = torch.randn(16, 6, generator=torch.Generator().manual_seed(number))
    loss = (model(rows) - rows.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def test_masked_weights_stay_zero_whatever_the_momentum(tmp_path: Path) -> None:
    """And a run that goes on from a checkpoint in the middle of it has the masks and weights of one that never broke
    off."""

    def run(start: int, stop: int, path: Path) -> dict[str, np.ndarray]:
        torch.manual_seed(0)
        model = Net()
        pruning, optimizer = Pruning(model, 0.75, 10), torch.optim.AdamW(model.parameters(), 0.05)
        state = TrainingState(path, "key", model, optimizer)
        if start:
            state.resume()
        masked = {name: torch.zeros_like(weight, dtype=torch.bool) for name, weight in layer_weights(model).items()}
        for number in range(start, stop):
            pruning.at(number)
            for name, weight in layer_weights(model).items():
                assert not (masked[name] & (weight != 0)).any(), "nothing comes back"
                masked[name] |= weight == 0
                assert int(masked[name].sum()) == round(share_at(number, 0.75, 10) * weight.numel())
            step(model, optimizer, number)
        state.step = stop
        state.save()
        pruning.finish()
        return checkpoint.weights(model)

    whole = run(0, 20, tmp_path / "whole.npz")
    run(0, 7, tmp_path / "part.npz")
    again = run(7, 20, tmp_path / "part.npz")
    assert not any(NAME in name for name in whole)
    assert zeros(whole, ["body.0.weight"]) == zeros(whole, ["body.2.weight"]) == 0.75
    assert {name: whole[name].tobytes() == again[name].tobytes() for name in whole} == dict.fromkeys(whole, True)
