"""A user graph of one table gives the rows of the model's own, where they are a sum over the user's features."""

import numpy as np
import pytest
import torch
from torch import Tensor

from export.graphs import RANKING_USER_IO, Feed, parity, to_onnx
from export.measure import rows_changed_by_batching
from export.user_tables import MAX_BYTES, SummedSide, summed
from models.ranking.build import build
from models.ranking.inputs import RankerInputs
from models.ranking.options import RankerName, RankerOptions
from models.ranking.pieces import Ranker

SIZES = [9, 4, 7]
INPUTS = RankerInputs({"a": 9, "b": 4, "c": 7}, 2, {"g": 5}, 1, 3)


def made(name: RankerName, inputs: RankerInputs = INPUTS, crosses: list[list[str]] | None = None) -> Ranker:
    torch.manual_seed(1)
    model = build(inputs, RankerOptions(model=name, dim=5, hidden=[16, 4], crosses=crosses or [])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
    return model


def users(count: int) -> Feed:
    rng = np.random.default_rng(count)
    codes = np.stack([rng.integers(0, size, count) for size in SIZES], 1)
    return {"user_categorical": codes, "user_numeric": rng.normal(size=(count, 2)).astype(np.float32)}


@pytest.mark.parametrize("name", ["deepfm", "fnn", "wide_deep"])
def test_the_graph_gives_the_rows_of_the_models_own_side(name: RankerName) -> None:
    side = made(name).user_module
    tables = summed(side, SIZES, 2)
    assert tables is not None
    graph = to_onnx(tables, RANKING_USER_IO, users(3))
    assert parity(side, RANKING_USER_IO, graph, [users(count) for count in (1, 2, 40)]) <= 1e-5
    assert rows_changed_by_batching(graph, [users(1) for _ in range(20)]) == 0


@pytest.mark.parametrize(
    ("name", "crosses"),
    [("pnn", []), ("ffm", []), ("wide_deep", [["a", "b"]])],
)
def test_products_of_two_features_are_no_sum(name: RankerName, crosses: list[list[str]]) -> None:
    assert summed(made(name, crosses=crosses).user_module, SIZES, 2) is None


def test_squares_are_calculated_only_where_the_model_has_them() -> None:
    found = [summed(made(name).user_module, SIZES, 2) for name in ("deepfm", "fnn")]
    assert [tables is not None and tables.curved for tables in found] == [True, False]


def test_without_numbers_the_graph_takes_the_same_inputs() -> None:
    side = made("deepfm", RankerInputs({"a": 9, "b": 4, "c": 7}, 0, {"g": 5}, 1, 3)).user_module
    tables = summed(side, SIZES, 0)
    feeds = [{**users(count), "user_numeric": np.zeros((count, 0), np.float32)} for count in (3, 1, 40)]
    assert tables is not None
    graph = to_onnx(tables, RANKING_USER_IO, feeds[0])
    assert parity(side, RANKING_USER_IO, graph, feeds) <= 1e-5


def test_of_many_values_no_table_is_made() -> None:
    """A row has 1 + 5 + 16 numbers of 4 bytes."""
    most = MAX_BYTES // (4 * 22)
    for size, is_made in ((most, True), (most + 1, False)):
        side = made("deepfm", RankerInputs({"a": size}, 0, {"g": 5}, 1, 3)).user_module
        assert side.width == 22
        assert (summed(side, [size], 0) is not None) == is_made


def test_rows_worked_by_hand() -> None:
    """Values 1 and 0: [4] + [10], the number 3: 3 * 5 + 9 * 7."""
    table: Tensor = torch.tensor([[2.0], [4.0], [10.0], [20.0]])
    side = SummedSide(table, [2, 2], torch.tensor([[5.0]]), torch.tensor([[7.0]]))
    assert side(torch.tensor([[1, 0]]), torch.tensor([[3.0]])).tolist() == [[4 + 10 + 15 + 63]]
