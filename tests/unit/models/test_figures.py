"""What TensorBoard is told of a model in training."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from models.distributed import BatchLoss
from models.figures import embedding_tables, figures_of
from models.fitting import Fit, Plan, run_steps
from models.options import BprOptions
from models.ranking.build import build
from models.ranking.inputs import RankerInputs
from models.ranking.options import RankerOptions
from models.retrieval.bpr import Bpr
from models.run_log import Silent


class Two(nn.Module):
    """A table of the rows (3, 4) and (0, 1), and a weight of 2."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = nn.Embedding.from_pretrained(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), freeze=False)
        self.weight = nn.Parameter(torch.tensor(2.0))


def test_the_rate_the_gradients_length_and_the_mean_length_of_rows() -> None:
    model = Two()
    optimizer = torch.optim.AdamW(model.parameters(), 0.25)
    (model.ids(torch.tensor([0])).sum() * model.weight).backward()  # 2 for each number of row 0, 7 for the weight
    expected = {"learning_rate": 0.25, "gradient_norm": (4 + 4 + 49) ** 0.5, "embedding_norm/ids": (5 + 1) / 2}
    assert figures_of(model, optimizer, None) == pytest.approx(expected)
    before_clipping = clip_grad_norm_(model.parameters(), 1.0)
    assert figures_of(model, optimizer, before_clipping) == pytest.approx(expected)


def test_tables_that_are_no_embedding_modules_are_found() -> None:
    """BPR's, and the fields' of a ranker; a table without a number, as a side without categories has, is left out."""
    assert [name for name, _ in embedding_tables(Bpr(3, 5, BprOptions(model="bpr", dim=4)))] == ["users", "items"]
    ranker = build(RankerInputs({"age": 3}, 0, {}, 2, 1), RankerOptions(model="fm", dim=4))
    assert [name for name, _ in embedding_tables(ranker)] == [
        "user_module.embedding.table",
        "user_module.halves.0.weights.table",
    ]


class Recorder(Silent):
    def __init__(self) -> None:
        self.names: list[list[str]] = []

    def step(self, stage: str, done: int, figures: Mapping[str, float]) -> None:
        self.names.append(list(figures))


def test_every_twentieth_step_is_looked_at(tmp_path: Path) -> None:
    model, log = Two(), Recorder()
    rate = Plan(41, 100, 1, 0.1, 0.0, lambda step: 1.0, max_gradient=1.0)
    loss = lambda step: BatchLoss(model.ids.weight.square().mean(), 1.0)  # noqa: E731
    run_steps(model, loss, None, rate, Fit("stage", "key", 0, 0, tmp_path / "c.npz"), log)
    looked = ["loss", "learning_rate", "gradient_norm", "embedding_norm/ids"]
    assert log.names == [looked if step % 20 == 0 else ["loss"] for step in range(1, 42)]
    assert np.isfinite(model.ids.weight.detach().numpy()).all()
