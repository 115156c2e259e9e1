"""Sums that come out the same for one request and for a batch.

onnxruntime adds over the axis before the last in an order that depends on whether the leading dimensions are 1: a
request's score then changes in the last bits when it shares a batch. A product with a row of ones does the same sum
with one call per leading index, always the same.

Over the last axis its order is the same for most widths, and not for some (13 and 14 were seen): a model that sums
there does so as a product itself (`row_sums` of models/ranking/embedding.py), and the batch gate refuses what does not.

Other operators were measured to be stable: products with constant weights (packed once at load, so one kernel serves
every batch size; `session.disable_prepacking` breaks this), LayerNormalization, Softmax, element-wise functions.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper


def stabilise_sums(model: onnx.ModelProto) -> int:
    """Replace every sum and mean over the last axis but one, in place; returns how many were replaced.

    The model needs opset 18 or later, where axes are an input.
    """
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*inferred.value_info, *inferred.input, *inferred.output]
    }
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    replaced = 0
    for node in model.graph.node:
        length = _length(node, shapes, constants)
        if length:
            nodes += _as_product(model, node, length)
            replaced += 1
        else:
            nodes.append(node)
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    return replaced


def _length(node: onnx.NodeProto, shapes: dict[str, list[int]], constants: dict[str, onnx.TensorProto]) -> int:
    """The length of the axis this node sums over, if it is the last but one and fixed; 0 for any other node."""
    if node.op_type not in ("ReduceSum", "ReduceMean") or len(node.input) < 2 or node.input[1] not in constants:
        return 0
    shape = shapes.get(node.input[0], [])
    axes = numpy_helper.to_array(constants[node.input[1]]).ravel().tolist()
    if len(shape) < 3 or axes not in ([-2], [len(shape) - 2]):
        return 0
    return shape[-2]


def _as_product(model: onnx.ModelProto, node: onnx.NodeProto, length: int) -> list[onnx.NodeProto]:
    output = node.output[0]
    row, axis, kept = (f"stable/{output}/{part}" for part in ("row", "axis", "kept"))
    weight = 1.0 if node.op_type == "ReduceSum" else 1.0 / length
    model.graph.initializer.append(numpy_helper.from_array(np.full((1, length), weight, np.float32), row))
    if any(a.name == "keepdims" and a.i == 0 for a in node.attribute):
        model.graph.initializer.append(numpy_helper.from_array(np.array([-2], np.int64), axis))
        return [
            helper.make_node("MatMul", [row, node.input[0]], [kept], name=kept),
            helper.make_node("Squeeze", [kept, axis], [output], name=f"stable/{output}"),
        ]
    return [helper.make_node("MatMul", [row, node.input[0]], [output], name=f"stable/{output}")]
