"""int8 graphs whose scores do not depend on who shares the batch.

Requests share a batch when served, so activation ranges must be constants: dynamic quantization takes them from the
batch, and a user's list then changes with the neighbours in it (onnxruntime #10111). Ranges come from real requests.

What is quantized: the input and the weights of every MatMul and Gemm with constant weights. Each becomes a
QuantizeLinear, shared by all products of one input, and a MatMulIntegerToFloat: an exact int32 sum, then one
multiplication and one addition per element, the same for every batch size. These are the operators that onnxruntime
would make of a QDQ graph; written directly, since it fuses Gemm and Relu first and then runs the pair in fp32
(docs/decisions/06-quantization.md has the times). Products of two activations (attention) stay in fp32.

Weights are per channel, signed, 7 bits; activations unsigned, 8 bits. Without VNNI the kernels add two u8 x s8
products in 16 bits: 2 * 255 * 64 = 32,640 fits, 2 * 255 * 127 saturates. S8S8 is no way out, since onnxruntime
shifts signed activations to unsigned ones and uses the same kernels. So a bundle gives the same sums everywhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.graphs import Feed, open_session

WEIGHT_LIMIT = 64
ACTIVATION_LIMIT = 255
MIN_OUTPUTS = 8  # a narrower product is cheaper in fp32 than the quantization of its input
CONTRIB = "com.microsoft"


@dataclass(frozen=True, slots=True)
class _Product:
    """A node that multiplies an activation by constant weights.  weights: float32 [inputs, outputs].

    bias: name of the constant added to the result, "" for none.  output: the tensor that holds the sum.
    swallowed: the Add that the bias was taken from, by its output.
    """

    node: onnx.NodeProto
    weights: NDArray[np.float32]
    bias: str
    output: str
    swallowed: str = ""

    @property
    def activation(self) -> str:
        return str(self.node.input[0])


def quantize(graph: bytes, calibration: Iterable[Feed]) -> bytes | None:
    """The graph in int8, or None when it has no product worth quantizing.

    calibration: inputs of real requests; the range of an activation is the range seen there, and what lies outside
    in serving is clipped to it. Raises ValueError when a range is not finite or there is no request.
    """
    model = onnx.load_model_from_string(graph)
    products = _products(model)
    if not products:
        return None
    ranges = _ranges(graph, sorted({product.activation for product in products}), calibration)
    _rewrite(model, products, ranges)
    return bytes(model.SerializeToString())


def quantize_weights(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric 7-bit codes int8 [inputs, outputs] in -64..64 and a scale for each column, float32 [outputs]."""
    scales = np.maximum(np.abs(weights).max(axis=0) / WEIGHT_LIMIT, np.finfo(np.float32).tiny).astype(np.float32)
    codes = np.clip(np.rint(weights / scales), -WEIGHT_LIMIT, WEIGHT_LIMIT)
    return codes.astype(np.int8), scales


def activation_scale(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point of unsigned 8-bit codes that cover low..high and hold 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max((high - low) / ACTIVATION_LIMIT, float(np.finfo(np.float32).tiny)))
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, ACTIVATION_LIMIT))


def _products(model: onnx.ModelProto) -> list[_Product]:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in constants and node.input[0] not in constants:
            product = _product(node, constants, readers)
            if product is not None and product.weights.shape[1] >= MIN_OUTPUTS:
                found.append(product)
    return found


def _product(
    node: onnx.NodeProto, constants: Mapping[str, TensorProto], readers: Mapping[str, list[onnx.NodeProto]]
) -> _Product | None:
    """The product this node computes, None where it has a form that is left alone."""
    settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    weights = numpy_helper.to_array(constants[node.input[1]])
    if weights.ndim != 2 or settings.get("transA") or settings.get("alpha", 1.0) != 1.0:
        return None
    if settings.get("transB"):
        weights = weights.T
    bias = node.input[2] if len(node.input) > 2 else ""
    if bias:
        plain = bias in constants and list(constants[bias].dims) == [weights.shape[1]]
        return _Product(node, weights, bias, node.output[0]) if plain and settings.get("beta", 1.0) == 1.0 else None
    after = readers.get(node.output[0], [])
    if len(after) == 1 and after[0].op_type == "Add":
        (other,) = [name for name in after[0].input if name != node.output[0]] or [""]
        if other in constants and list(constants[other].dims) == [weights.shape[1]]:
            return _Product(node, weights, other, after[0].output[0], swallowed=after[0].output[0])
    return _Product(node, weights, "", node.output[0])


def _ranges(graph: bytes, names: list[str], feeds: Iterable[Feed]) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of each named tensor over all feeds."""
    probe = onnx.load_model_from_string(graph)
    present = {output.name for output in probe.graph.output}
    kinds = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in present]
    probe.graph.output.extend(kinds)
    session = open_session(probe.SerializeToString())
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for feed in feeds:
        values: list[NDArray[np.float32]] = session.run(names, dict(feed))
        low = np.minimum(low, [value.min(initial=np.inf) for value in values])  # keeps NaN
        high = np.maximum(high, [value.max(initial=-np.inf) for value in values])
    bad = [name for name, *ends in zip(names, low, high, strict=True) if not np.isfinite(ends).all()]
    if bad:
        raise ValueError(f"no finite range for {', '.join(bad)}: calibrate with requests that have rows and no NaN")
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def _rewrite(model: onnx.ModelProto, products: list[_Product], ranges: Mapping[str, tuple[float, float]]) -> None:
    by_output = {product.node.output[0]: product for product in products}
    swallowed = {product.swallowed for product in products} - {""}
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Any] = {}
    for node in model.graph.node:
        product = by_output.get(node.output[0])
        if product is None:
            if node.output[0] not in swallowed:
                nodes.append(node)
            continue
        source, name = product.activation, f"int8/{product.output}"
        scale, zero, codes = (f"int8/{source}/{part}" for part in ("scale", "zero", "codes"))
        if scale not in constants:
            constants[scale], constants[zero] = (np.array(value) for value in activation_scale(*ranges[source]))
            nodes.append(helper.make_node("QuantizeLinear", [source, scale, zero], [codes], name=codes))
        weights, weight_scales = quantize_weights(product.weights)
        constants |= {
            f"{name}/weights": np.ascontiguousarray(weights),
            f"{name}/weight_scales": weight_scales,
            f"{name}/weight_zeros": np.zeros(len(weight_scales), np.int8),
        }
        inputs = [codes, f"{name}/weights", scale, f"{name}/weight_scales", zero, f"{name}/weight_zeros"]
        if product.bias:
            inputs.append(product.bias)
        nodes.append(helper.make_node("MatMulIntegerToFloat", inputs, [product.output], name=name, domain=CONTRIB))
    _replace(model, nodes, constants)


def _replace(model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: Mapping[str, NDArray[Any]]) -> None:
    """Put in the new nodes and constants, and drop the constants that nobody reads any more."""
    graph = model.graph
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    added = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *added])
    if all(opset.domain != CONTRIB for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
