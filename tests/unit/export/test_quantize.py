"""int8 by hand-worked arithmetic, and scores that do not depend on who shares the batch."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.graphs import Feed, open_session, run
from export.measure import Timing, choose, join, mean_overlap, rows_changed_by_batching, time_both, top_k
from export.quantize import activation_scale, quantize, quantize_weights
from models.contract.manifest import Gate

PASSED = Gate(name="a", value=0.0, rule="at_most", limit=1.0, passed=True)
FAILED = Gate(name="int8 ndcg@10 loss", value=0.0061, rule="at_most", limit=0.005, passed=False)


def graph(nodes: list[onnx.NodeProto], constants: dict[str, NDArray[np.float32]], width: int) -> bytes:
    """A graph from x float32 [b, width] to y."""
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def weights(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def requests(width: int, count: int = 40) -> list[Feed]:
    return [{"x": weights(1, width, seed=seed)} for seed in range(count)]


def types(raw: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(raw).graph.node]


def test_weights_have_seven_bits_and_a_scale_for_each_column() -> None:
    codes, scales = quantize_weights(np.array([[0.64, -2.0], [-0.32, 1.0]], np.float32))
    assert codes.tolist() == [[64, -64], [-32, 32]]
    np.testing.assert_allclose(scales, [0.01, 2.0 / 64], rtol=1e-6)


def test_two_products_fit_in_16_bits_so_no_kernel_saturates() -> None:
    codes, _ = quantize_weights(weights(500, 64))
    assert 2 * 255 * int(np.abs(codes.astype(int)).max()) <= 32_767


def test_a_column_of_zeros_stays_zero() -> None:
    codes, scales = quantize_weights(np.zeros((3, 2), np.float32))
    assert not codes.any()
    assert np.isfinite(scales).all()


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero"), [(0.0, 2.55, 0.01, 0), (-1.0, 1.55, 0.01, 100), (-2.55, -1.0, 0.01, 255)]
)
def test_activation_codes_cover_the_range_and_hold_zero(low: float, high: float, scale: float, zero: int) -> None:
    found = activation_scale(low, high)
    assert found[0] == pytest.approx(scale)
    assert found[1] == zero


def test_exact_multiples_of_the_scales_come_out_exactly() -> None:
    """x = 1, 255 has scale 1; weights of 64 and -32 have scale 1: the integer sum is the answer."""
    constants = {"w": np.tile(np.array([[64.0], [-32.0]], np.float32), (1, 8)), "c": np.full(8, 0.5, np.float32)}
    raw = graph([helper.make_node("Gemm", ["x", "w", "c"], ["y"])], constants, 2)
    ranges: list[Feed] = [{"x": np.array([[0.0, 255.0]], np.float32)}]
    int8 = quantize(raw, ranges)
    assert int8 is not None
    found = run(open_session(int8), {"x": np.array([[3.0, 5.0], [255.0, 0.0]], np.float32)})
    assert found.tolist() == [[3 * 64 - 5 * 32 + 0.5] * 8, [255 * 64 + 0.5] * 8]


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_and_matmul_with_bias_become_one_integer_product(transposed: int) -> None:
    w, c = weights(32, 16), weights(16, seed=1)
    gemm = helper.make_node("Gemm", ["x", "w", "c"], ["y"], transB=transposed)
    split = [helper.make_node("MatMul", ["x", "v"], ["s"]), helper.make_node("Add", ["c", "s"], ["y"])]
    stored = np.ascontiguousarray(w.T) if transposed else w
    one = quantize(graph([gemm], {"w": stored, "c": c}, 32), requests(32))
    other = quantize(graph(split, {"v": w, "c": c}, 32), requests(32))
    assert one is not None
    assert other is not None
    assert types(one) == types(other) == ["QuantizeLinear", "MatMulIntegerToFloat"]
    x = requests(32)[3]
    np.testing.assert_array_equal(run(open_session(one), x), run(open_session(other), x))
    calibrated = np.concatenate([feed["x"] for feed in requests(32)])
    scale, zero = activation_scale(float(calibrated.min()), float(calibrated.max()))
    codes, scales = quantize_weights(w)
    activations = np.clip(np.rint(x["x"] / scale) + zero, 0, 255) - zero
    np.testing.assert_allclose(run(open_session(one), x), activations @ codes * (scale * scales) + c, atol=1e-4)


def test_one_input_of_several_products_is_quantized_once() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["p"]),
        helper.make_node("MatMul", ["x", "b"], ["q"]),
        helper.make_node("Add", ["p", "q"], ["y"]),
    ]
    int8 = quantize(graph(nodes, {"a": weights(16, 8), "b": weights(16, 8, seed=1)}, 16), requests(16))
    assert int8 is not None
    assert types(int8) == ["QuantizeLinear", "MatMulIntegerToFloat", "MatMulIntegerToFloat", "Add"]


def test_products_of_activations_and_narrow_ones_stay_in_fp32() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["p"]),
        helper.make_node("MatMul", ["x", "w"], ["q"]),
        helper.make_node("Add", ["p", "q"], ["y"]),
    ]
    assert quantize(graph(nodes, {"w": weights(16, 7)}, 16), requests(16)) is None


def test_the_fp32_weights_are_not_shipped_beside_the_int8_ones() -> None:
    raw = graph([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weights(64, 64)}, 64)
    int8 = quantize(raw, requests(64))
    assert int8 is not None
    assert len(int8) < len(raw) / 2


@pytest.mark.parametrize("feeds", [[], [{"x": np.zeros((0, 16), np.float32)}], [{"x": np.full((1, 16), np.nan)}]])
def test_calibration_without_a_finite_range_is_refused(feeds: Sequence[Feed]) -> None:
    raw = graph([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weights(16, 8)}, 16)
    feeds = [{"x": feed["x"].astype(np.float32)} for feed in feeds]
    with pytest.raises(ValueError, match="no finite range for x"):
        quantize(raw, feeds)


def test_values_outside_the_calibrated_range_are_clipped_to_it() -> None:
    raw = graph([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.full((1, 8), 64.0, np.float32)}, 1)
    int8 = quantize(raw, [{"x": np.array([[255.0]], np.float32)}])
    assert int8 is not None
    assert run(open_session(int8), {"x": np.array([[1000.0], [-3.0]], np.float32)})[:, 0].tolist() == [255 * 64, 0]


def test_dynamic_quantization_would_depend_on_the_batch_and_is_noticed() -> None:
    """The check itself can fail: with ranges taken from the batch most rows change."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    assert rows_changed_by_batching(graph(nodes, {}, 16), requests(16)) > 30


def test_joined_rows_point_to_their_own_users() -> None:
    def request(users: int, rows: list[int]) -> Feed:
        return {"user": np.zeros((users, 2), np.float32), "row_user": np.array(rows, np.int64)}

    joined = join([request(1, [0, 0]), request(2, [1, 0]), request(1, [0])])
    assert joined["row_user"].tolist() == [0, 0, 2, 1, 3]
    assert len(joined["user"]) == 4


def test_both_graphs_are_timed_in_turn_by_the_median() -> None:
    raw = graph([helper.make_node("Relu", ["x"], ["y"])], {}, 4)
    ticks = iter(np.cumsum([0, 4000, 0, 2000, 0, 4000, 0, 2000, 0, 99_000, 0, 2000]).tolist())
    timing = time_both(raw, raw, requests(4, count=2), rounds=3, clock_ns=lambda: next(ticks))
    assert timing == Timing(fp32_us=2.0, int8_us=1.0)
    assert timing.ratio == 0.5


@pytest.mark.parametrize(
    ("timing", "quality", "precision", "why"),
    [
        (Timing(100.0, 60.0), [PASSED], "int8", "inside the quality gates"),
        (Timing(100.0, 110.0), [PASSED], "int8", "inside the quality gates"),
        (Timing(100.0, 110.1), [PASSED], "fp32", "more than 10 % slower"),
        (Timing(100.0, 60.0), [PASSED, FAILED], "fp32", "fails int8 ndcg@10 loss 0.0061 against 0.005"),
        (None, [], "fp32", "no product"),
    ],
)
def test_int8_ships_unless_it_costs_quality_or_time(
    timing: Timing | None, quality: list[Gate], precision: str, why: str
) -> None:
    info = choose(timing, quality)
    assert info.precision == precision
    assert why in info.why


def test_overlap_counts_shared_items_whatever_their_order() -> None:
    """(2/3 + 3/3) / 2; an empty place is no item, and a user with none is left out."""
    one = np.array([[1, 2, 3], [4, 5, 6], [-1, -1, -1]])
    other = np.array([[3, 9, 1], [6, 5, 4], [-1, 1, 2]])
    assert mean_overlap(one, other) == pytest.approx((2 / 3 + 1) / 2)
    assert top_k(np.array([[0.1, 0.9, 0.9]], np.float32), 2).tolist() == [[1, 2]]
