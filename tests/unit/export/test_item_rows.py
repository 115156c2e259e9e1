"""Item rows in fewer bits: the head gets back what was stored, and no row depends on the others."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.graphs import describe, open_session
from export.item_rows import StoredRows, principal_components, reading, stored_rows

RNG = np.random.default_rng(0)


def head(width: int) -> bytes:
    """score = sum of the row's squares: every number counts."""
    nodes = [
        helper.make_node("Mul", ["item_part", "item_part"], ["squares"]),
        helper.make_node("ReduceSum", ["squares", "last"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("item_part", TensorProto.FLOAT, ["rows", width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])],
        [numpy_helper.from_array(np.array([1]), "last")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def scores(graph: bytes, stored: StoredRows, items: NDArray[np.int64]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = open_session(graph).run(None, {"item_part": stored.table[items]})[0]
    return found


def test_int8_rows_are_codes_times_scales_inside_the_head() -> None:
    """Column 0 has the scale 1 / 127, column 1 the scale 2 / 127; 63.5 steps round to the even 64."""
    rows = np.array([[1.0, -2.0], [0.5, 1.0]], np.float32)
    stored = stored_rows(rows, "int8")
    assert stored.table.tolist() == [[127, -127], [64, 64]]
    read = reading(head(2), stored)
    expected = [1 + 4, (64 / 127) ** 2 + (128 / 127) ** 2]
    np.testing.assert_allclose(scores(read, stored, np.array([0, 1])), expected, rtol=1e-6)
    assert next((t.name, t.dtype, t.shape) for t in describe([read])) == ("item_part", "int8", ["rows", 2])


def test_float16_rows_are_what_their_rounding_gives() -> None:
    rows = RNG.normal(size=(50, 13)).astype(np.float32)
    stored = stored_rows(rows, "fp16")
    assert stored.table.dtype == np.float16
    expected = (rows.astype(np.float16).astype(np.float64) ** 2).sum(axis=1)
    np.testing.assert_allclose(scores(reading(head(13), stored), stored, np.arange(50)), expected, rtol=1e-6)


def test_float32_rows_and_their_head_stay_as_they_are() -> None:
    rows = RNG.normal(size=(5, 3)).astype(np.float32)
    stored = stored_rows(rows, "fp32")
    assert stored.table is rows
    assert reading(head(3), stored) == head(3)


@pytest.mark.parametrize("rank", [1, 8, 9])
def test_rows_that_are_linear_in_few_numbers_need_few_components(rank: int) -> None:
    """40 columns of rank 1 to 9 around a mean: a multiple of 8 components gives the rows back, but for the rounding."""
    rows = (RNG.normal(size=(400, rank)) @ RNG.normal(size=(rank, 40)) + 3.0).astype(np.float32)
    stored = principal_components(rows, max_residual=1e-4)
    assert stored is not None
    assert stored.table.shape == (400, 8 if rank <= 8 else 16)
    assert stored.table.dtype == np.int8
    found = scores(reading(head(40), stored), stored, np.arange(400))
    np.testing.assert_allclose(found, (rows.astype(np.float64) ** 2).sum(axis=1), rtol=0.05)


def test_what_is_left_out_is_at_most_the_share_of_the_spread_that_was_asked_for() -> None:
    """32 uncorrelated columns, the i-th with the standard deviation 0.6^i: an oracle counts what is lost."""
    rows = (RNG.normal(size=(3000, 32)) * 0.6 ** np.arange(32)).astype(np.float32)
    stored = principal_components(rows, max_residual=0.05)
    assert stored is not None
    spread = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    lost = [np.sqrt(spread[width:].sum() / spread.sum()) for width in (0, 8)]
    assert lost[0] > 0.05 >= lost[1]
    assert stored.table.shape[1] == 8
    assert stored.what == "int8, 8 principal components of 32 columns"


def test_rows_without_structure_have_no_components_worth_having() -> None:
    assert principal_components(RNG.normal(size=(500, 24)).astype(np.float32), 0.05) is None


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    rows = (RNG.normal(size=(300, 5)) @ RNG.normal(size=(5, 40))).astype(np.float32)
    components = principal_components(rows, 0.05)
    assert components is not None
    for stored in (stored_rows(rows, "int8"), stored_rows(rows, "fp16"), components):
        read = reading(head(40), stored)
        together = scores(read, stored, np.arange(300))
        alone = [scores(read, stored, np.arange(start, start + 20)) for start in range(0, 300, 20)]
        assert (np.concatenate(alone) == together).all()


def test_the_graph_is_valid_onnx() -> None:
    rows = (RNG.normal(size=(300, 5)) @ RNG.normal(size=(5, 40))).astype(np.float32)
    components = principal_components(rows, 0.05)
    assert components is not None
    onnx.checker.check_model(onnx.load_model_from_string(reading(head(40), components)), full_check=True)
