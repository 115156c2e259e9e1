"""Embedding tables inside a graph, in fewer bits: rows are gathered as they are stored and then made float32."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.contract.tables import Precision, RowTable

MIN_BYTES = 65_536  # a smaller table is not worth the operators


def compact_embeddings(graph: bytes, precision: Precision) -> bytes | None:
    """The graph with its large embedding tables in this precision; None where it has none, and for fp32.

    An embedding table is a float32 matrix of which nodes gather rows, and which nothing else reads. Each gathered row
    is made float32 on its own, so it does not depend on the batch.
    """
    model = onnx.load_model_from_string(graph)
    tables = _tables(model)
    if not tables or precision == "fp32":
        return None
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.input and node.input[0] in tables:
            nodes += _from_codes(node, precision)
        else:
            nodes.append(node)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in tables]
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    for name, rows in tables.items():
        table = RowTable.of(rows, precision)
        model.graph.initializer.append(numpy_helper.from_array(table.stored, _stored(name)))
        if table.scales is not None:
            model.graph.initializer.append(numpy_helper.from_array(table.scales, f"table/{name}/scales"))
    return bytes(model.SerializeToString())


def _tables(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """Constant matrices that are only read row by row, by name."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    depths = {
        value.name: value.type.tensor_type.shape.dim[-1].dim_value
        for value in inferred.value_info
        if value.type.tensor_type.shape.dim
    }
    others = {
        name
        for node in model.graph.node
        for place, name in enumerate(node.input)
        if place > 0 or not _gathers_rows(node, depths)
    }
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if len(tensor.dims) == 2 and tensor.data_type == TensorProto.FLOAT
        if tensor.name not in others and 4 * tensor.dims[0] * tensor.dims[1] >= MIN_BYTES
    }


def _gathers_rows(node: onnx.NodeProto, depths: dict[str, int]) -> bool:
    settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Gather":
        return bool(settings.get("axis", 0) == 0)
    # with an index of one number, GatherND takes whole rows
    return node.op_type == "GatherND" and not settings.get("batch_dims") and depths.get(node.input[1]) == 1


def _from_codes(node: onnx.NodeProto, precision: Precision) -> list[onnx.NodeProto]:
    table, output = node.input[0], node.output[0]
    gather = onnx.NodeProto()
    gather.CopyFrom(node)
    gather.input[0], gather.output[0] = _stored(table), f"table/{output}/stored"
    if precision == "fp16":
        return [gather, _to_float(gather.output[0], output)]
    floats = f"table/{output}/codes"
    return [
        gather,
        _to_float(gather.output[0], floats),
        helper.make_node("Mul", [floats, f"table/{table}/scales"], [output], name=f"table/{output}"),
    ]


def _stored(table: str) -> str:
    return f"table/{table}/stored"


def _to_float(source: str, output: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [output], name=f"{output}/float", to=TensorProto.FLOAT)
