"""torch and ONNX agree in every size, and no score depends on the batch, for modules with the models' signatures."""

import warnings

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from export.graphs import (
    RANKING_HEAD_IO,
    RANKING_USER_IO,
    USER_TOWER_IO,
    Feed,
    describe,
    open_session,
    parity,
    resized,
    run,
    size_feeds,
    to_onnx,
)
from export.measure import rows_changed_by_batching
from export.quantize import quantize
from export.stable import stabilise_sums
from models.item_features import ItemFeatures
from models.ranking.build import build
from models.ranking.inputs import RankerInputs
from models.ranking.options import RankerOptions
from models.ranking.pieces import Ranker
from models.retrieval.sasrec import ItemInputs, SasRec, SasRecConfig

LENGTH, NUM_ITEMS = 12, 50
RNG = np.random.default_rng(0)
INPUTS = RankerInputs(
    {"a": 9, "b": 7, "c": 5}, 10, {"d": 40, "e": 12}, 1, 13
)  # wide enough for sums over fields to be order dependent


def histories(batch: int) -> Feed:
    """Right-aligned histories of every length from empty to full, sets of one or two items."""
    items, ordinals = np.zeros((batch, LENGTH), np.int64), np.zeros((batch, LENGTH), np.int64)
    for row in range(batch):
        filled = row % (LENGTH + 1)
        items[row, LENGTH - filled :] = RNG.integers(1, NUM_ITEMS + 1, filled)
        ordinals[row, LENGTH - filled :] = (np.arange(filled, 0, -1) + 1) // 2
    return {"history": items, "set_ordinal": ordinals}


def users(batch: int) -> Feed:
    codes = np.stack([RNG.integers(0, size, batch) for size in INPUTS.user_sizes.values()], 1)
    return {"user_categorical": codes, "user_numeric": floats(batch, INPUTS.user_numeric)}


def rows(count: int, batch: int = 1) -> Feed:
    width = 1 + 16 + 128
    return {
        "user": floats(batch, width),
        "item_part": floats(count, width),
        "cross": floats(count, INPUTS.cross),
        "row_user": RNG.integers(0, batch, count),
    }


def floats(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(size=shape).astype(np.float32)


def single(feed: Feed) -> list[Feed]:
    """Each row as a request of its own."""
    count = len(next(iter(feed.values())))
    return [{name: array[row : row + 1] for name, array in feed.items()} for row in range(count)]


@pytest.fixture(scope="module")
def tower() -> SasRec:
    torch.manual_seed(0)
    items = ItemInputs(ItemFeatures.of_categories(torch.randint(0, 5, (NUM_ITEMS, 2)), [5, 5]), torch.rand(NUM_ITEMS))
    return SasRec(items, SasRecConfig(dim=16, history_length=LENGTH)).eval()


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    torch.manual_seed(0)
    model = build(INPUTS, RankerOptions(model="deepfm")).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def test_user_tower_in_both_precisions(tower: SasRec) -> None:
    """Parity in every size, names in the manifest, and bitwise equal vectors alone and in batches of 16."""
    fp32 = to_onnx(tower, USER_TOWER_IO, histories(3))
    assert parity(tower, USER_TOWER_IO, fp32, size_feeds(USER_TOWER_IO, histories(16))) <= 1e-4
    assert [(t.name, t.dtype, t.shape) for t in describe([fp32])] == [
        ("history", "int64", ["batch", LENGTH]),
        ("set_ordinal", "int64", ["batch", LENGTH]),
        ("user_vector", "float32", ["batch", 16]),
    ]
    requests = single(histories(48))
    int8 = quantize(fp32, requests)
    assert int8 is not None
    assert rows_changed_by_batching(fp32, requests) == 0
    assert rows_changed_by_batching(int8, requests) == 0


def test_ranking_user_in_both_precisions(ranker: Ranker) -> None:
    fp32 = to_onnx(ranker.user_module, RANKING_USER_IO, users(3))
    assert parity(ranker.user_module, RANKING_USER_IO, fp32, size_feeds(RANKING_USER_IO, users(16))) <= 1e-4
    requests = single(users(48))
    int8 = quantize(fp32, requests)
    assert int8 is not None
    assert rows_changed_by_batching(fp32, requests) == 0
    assert rows_changed_by_batching(int8, requests) == 0


def test_ranking_head_in_both_precisions(ranker: Ranker) -> None:
    """A request's rows score the same with the rows of 15 other requests around them, be it one row or 200."""
    head = ranker.head_module
    fp32 = to_onnx(head, RANKING_HEAD_IO, rows(5, batch=3))
    assert parity(head, RANKING_HEAD_IO, fp32, size_feeds(RANKING_HEAD_IO, rows(64, batch=16))) <= 1e-4
    requests = [rows(count) for count in (1, 2, 3, 200, 199, 17, 1, 1, 64, 33, 5, 200, 7, 100, 150, 90, 1, 31)]
    int8 = quantize(fp32, [rows(200) for _ in range(8)])
    assert int8 is not None
    assert rows_changed_by_batching(fp32, requests) == 0
    assert rows_changed_by_batching(int8, requests) == 0


class Doubled(nn.Module):
    def forward(self, user_categorical: Tensor, user_numeric: Tensor) -> Tensor:
        return 2.0 * user_numeric + user_categorical.sum(1, keepdim=True)


def test_export_leaves_no_path_of_the_machine_and_changes_nothing_outside() -> None:
    module, filters = Doubled(), list(warnings.filters)
    module.train()
    raw = to_onnx(module, RANKING_USER_IO, users(3))
    assert module.training
    assert list(warnings.filters) == filters
    assert b".py" not in raw
    assert not onnx.load_model_from_string(raw).graph.node[0].metadata_props


def test_parity_sees_a_difference_and_nan() -> None:
    class Tripled(Doubled):
        def forward(self, user_categorical: Tensor, user_numeric: Tensor) -> Tensor:
            return 3.0 * user_numeric + user_categorical.sum(1, keepdim=True)

    feed: Feed = {"user_categorical": np.zeros((2, 3), np.int64), "user_numeric": np.full((2, 4), -7.0, np.float32)}
    raw = doubled_graph()
    assert parity(Doubled(), RANKING_USER_IO, raw, [feed]) == 0.0
    assert parity(Tripled(), RANKING_USER_IO, raw, [feed]) == 7.0
    assert np.isnan(parity(Doubled(), RANKING_USER_IO, raw, [{**feed, "user_numeric": floats(2, 4) * np.nan}, feed]))


def doubled_graph() -> bytes:
    """What Doubled exports to, by hand."""
    nodes = [
        helper.make_node("Add", ["user_numeric", "user_numeric"], ["twice"]),
        helper.make_node("ReduceSum", ["user_categorical", "axis"], ["total"]),
        helper.make_node("Cast", ["total"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["twice", "number"], ["user"]),
    ]
    inputs = [
        helper.make_tensor_value_info("user_categorical", TensorProto.INT64, ["b", 3]),
        helper.make_tensor_value_info("user_numeric", TensorProto.FLOAT, ["b", 4]),
    ]
    output = helper.make_tensor_value_info("user", TensorProto.FLOAT, ["b", 4])
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    graph = helper.make_graph(nodes, "doubled", inputs, [output], [axis])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def test_a_module_that_fixes_a_size_is_refused() -> None:
    class Fixed(nn.Module):
        def forward(self, user_categorical: Tensor, user_numeric: Tensor) -> Tensor:
            return user_numeric.reshape(3, 10) + user_categorical.sum()

    with pytest.raises(Exception, match="batch"):
        to_onnx(Fixed(), RANKING_USER_IO, users(3))


def test_a_sample_of_one_row_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 rows in user_categorical, user_numeric"):
        to_onnx(Doubled(), RANKING_USER_IO, users(1))


def test_a_resized_sample_points_into_its_own_batch() -> None:
    feed = resized(RANKING_HEAD_IO, rows(5, batch=3), {"batch": 2, "rows": 7})
    assert len(feed["user"]) == 2
    assert {len(feed[name]) for name in ("item_part", "cross", "row_user")} == {7}
    assert set(feed["row_user"].tolist()) <= {0, 1}


def sum_graph(op_type: str, keepdims: int, axes: list[int]) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(op_type, ["x", "axes"], ["y"], keepdims=keepdims)],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 13, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(axes, np.int64), "axes")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceMean"])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axis", [1, -2])
def test_sums_over_the_last_axis_but_one_become_stable(op_type: str, keepdims: int, axis: int) -> None:
    model = sum_graph(op_type, keepdims, [axis])
    feed: Feed = {"x": floats(48, 13, 16)}
    unstable = bytes(model.SerializeToString())
    assert stabilise_sums(model) == 1
    stable = bytes(model.SerializeToString())
    assert rows_changed_by_batching(unstable, single(feed)) > 0  # else this file guards against nothing
    assert rows_changed_by_batching(stable, single(feed)) == 0
    np.testing.assert_allclose(run(open_session(stable), feed), run(open_session(unstable), feed), atol=1e-5)


@pytest.mark.parametrize("axes", [[2], [1, 2], [0], [-1]])
def test_other_sums_are_left_alone(axes: list[int]) -> None:
    assert stabilise_sums(sum_graph("ReduceSum", 0, axes)) == 0
