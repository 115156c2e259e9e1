"""Products with constant vectors become products with columns, and give the same numbers."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.graphs import open_session, run
from export.measure import rows_changed_by_batching
from export.vector_products import as_columns

RNG = np.random.default_rng(0)
V = RNG.normal(size=13).astype(np.float32)


def model(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """From x float32 [n, 13] to y."""
    made = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 13])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(V, "v")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_the_same_numbers_whoever_shares_the_batch() -> None:
    """x v + x v, one vector read twice."""
    graph = model(
        helper.make_node("MatMul", ["x", "v"], ["a"], name="a"),
        helper.make_node("MatMul", ["x", "v"], ["b"], name="b"),
        helper.make_node("Add", ["a", "b"], ["y"], name="y"),
    )
    assert as_columns(graph) == 2
    onnx.checker.check_model(graph)
    assert {tensor.name: list(tensor.dims) for tensor in graph.graph.initializer} == {
        "column/v": [13, 1],
        "column/axis": [1],
    }
    raw = graph.SerializeToString()
    x = RNG.normal(size=(40, 13)).astype(np.float32)
    np.testing.assert_allclose(run(open_session(raw), {"x": x}), 2 * (x @ V), rtol=1e-5, atol=1e-5)
    assert rows_changed_by_batching(raw, [{"x": row[None]} for row in x]) == 0


def test_a_vector_that_others_read_as_well_stays() -> None:
    graph = model(
        helper.make_node("Mul", ["x", "v"], ["scaled"], name="scaled"),
        helper.make_node("MatMul", ["scaled", "v"], ["y"], name="y"),
    )
    assert as_columns(graph) == 1
    assert {tensor.name for tensor in graph.graph.initializer} == {"v", "column/v", "column/axis"}


def test_other_graphs_are_left_as_they_are() -> None:
    graph = model(helper.make_node("Mul", ["x", "v"], ["y"], name="y"))
    before = graph.SerializeToString()
    assert as_columns(graph) == 0
    assert graph.SerializeToString() == before
