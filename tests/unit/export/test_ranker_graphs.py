"""The pieces of the ranking models export, in every size and both precisions, and no score depends on the batch.

Four models have every part of the twelve: FFM, PNN* (IPNN's and OPNN's products), Wide & Deep (crosses, linear terms,
perceptron) and NeuMF (GMF and MLP); DeepFM is in test_graphs.py.
"""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from export.graphs import RANKING_HEAD_IO, RANKING_USER_IO, Feed, GraphIO, parity, size_feeds, to_onnx
from export.measure import rows_changed_by_batching
from export.quantize import quantize
from models.ranking.build import build
from models.ranking.inputs import RankerInputs
from models.ranking.options import RankerOptions
from models.ranking.pieces import Ranker

INPUTS = RankerInputs({"a": 9, "user_id": 50, "b": 7}, 10, {"c": 40, "d": 12, "item_id": 300}, 1, 13)
SIZES = (1, 2, 3, 200, 199, 17, 1, 1, 64, 33, 5, 200, 7, 100, 150, 90, 1, 31)
CROSSES = [["a", "b"], ["c", "d"], ["b", "c"], ["user_id", "d"]]


class Requests:
    """Feeds of both graphs, with rows that the model's own pieces made."""

    def __init__(self, model: Ranker, inputs: RankerInputs) -> None:
        self.model, self.inputs, self.rng = model, inputs, np.random.default_rng(0)
        item = self.codes(500, inputs.item_sizes), self.floats(500, inputs.item_numeric)
        with torch.inference_mode():
            self.part = model.item_part(*map(torch.from_numpy, item)).numpy()

    def codes(self, count: int, sizes: Any) -> NDArray[np.int64]:
        columns = [self.rng.integers(0, size, count) for size in sizes.values()]
        return np.array(columns, np.int64).reshape(-1, count).T.copy()

    def floats(self, *shape: int) -> NDArray[np.float32]:
        return self.rng.normal(size=shape).astype(np.float32)

    def users(self, batch: int) -> Feed:
        numbers = self.floats(batch, self.inputs.user_numeric)
        return {"user_categorical": self.codes(batch, self.inputs.user_sizes), "user_numeric": numbers}

    def rows(self, count: int, batch: int = 1) -> Feed:
        with torch.inference_mode():
            user = self.model.user_module(*map(torch.from_numpy, self.users(batch).values())).numpy()
        return {
            "user": user,
            "item_part": self.part[self.rng.integers(0, 500, count)],
            "cross": self.floats(count, self.inputs.cross),
            "row_user": self.rng.integers(0, batch, count),
        }


def requests(name: str, inputs: RankerInputs, **options: Any) -> Requests:
    torch.manual_seed(0)
    model = build(inputs, RankerOptions(model=name, **options)).eval()  # type: ignore[arg-type]
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d) and module.running_mean is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    return Requests(model, inputs)


def check(module: nn.Module, io: GraphIO, sample: Feed, sizes: Feed, alone: list[Feed], *, int8: bool) -> None:
    """int8: whether the graph has a product that is worth quantizing."""
    fp32 = to_onnx(module, io, sample)
    assert parity(module, io, fp32, size_feeds(io, sizes)) <= 1e-4
    assert rows_changed_by_batching(fp32, alone) == 0
    quantized = quantize(fp32, alone)
    assert (quantized is not None) == int8
    if quantized is not None:
        assert rows_changed_by_batching(quantized, alone) == 0


@pytest.mark.parametrize(
    ("name", "options", "int8"),
    [
        ("ffm", {"dim": 6}, (False, False)),  # of its head only what is added to the sums has weights: it stays in fp32
        ("pnn", {"dim": 10, "hidden": [48, 16]}, (True, True)),
        ("wide_deep", {"dim": 10, "hidden": [48, 16], "batch_norm": True, "crosses": CROSSES}, (True, True)),
        ("neumf", {"dim": 10, "hidden": [48, 16]}, (True, True)),
    ],
)
def test_user_graph_and_head_in_both_precisions(name: str, options: dict[str, Any], int8: tuple[bool, bool]) -> None:
    asked = requests(name, INPUTS, **options)
    users = [asked.users(1) for _ in range(48)]
    check(asked.model.user_module, RANKING_USER_IO, asked.users(3), asked.users(16), users, int8=int8[0])
    rows = [asked.rows(count) for count in SIZES]
    check(asked.model.head_module, RANKING_HEAD_IO, asked.rows(5, 3), asked.rows(64, 16), rows, int8=int8[1])


def test_groups_without_fields_export_too() -> None:
    """Where a group has no fields there are tensors without columns, whose sums onnxruntime gets wrong."""
    asked = requests("ffm", RankerInputs({}, 0, {"c": 4}, 0, 0), dim=10)
    users = [asked.users(1) for _ in range(8)]
    check(asked.model.user_module, RANKING_USER_IO, asked.users(3), asked.users(16), users, int8=False)
    rows = [asked.rows(count) for count in SIZES[:8]]
    check(asked.model.head_module, RANKING_HEAD_IO, asked.rows(5, 3), asked.rows(64, 16), rows, int8=False)
