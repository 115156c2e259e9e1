"""The ranker's item rows in fewer bits, and the head that reads them as they are stored.

Serving gathers rows and feeds them; what turns them back into float32 numbers stands at the start of the head's graph.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.contract.tables import DTYPES, Precision, int8_codes

INPUT, PLAIN = "item_part", "table/item_part"
STEP = 8  # widths are multiples of it: whole vector registers
ONNX_TYPES: dict[Precision, int] = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "int8": TensorProto.INT8}


@dataclass(frozen=True, slots=True)
class StoredRows:
    """table: [N, w] as stored.  nodes, constants: from the input `item_part` to the rows that the head was made for.

    what: for people.
    """

    table: NDArray[Any]
    precision: Precision
    what: str
    nodes: tuple[onnx.NodeProto, ...] = ()
    constants: tuple[onnx.TensorProto, ...] = ()


def stored_rows(rows: NDArray[np.float32], precision: Precision) -> StoredRows:
    """rows: float32 [N, h]."""
    if precision == "fp32":
        return StoredRows(rows, precision, precision)
    cast = _to_float("table/codes" if precision == "int8" else PLAIN)
    if precision == "fp16":
        return StoredRows(rows.astype(DTYPES[precision]), precision, precision, (cast,))
    codes, scales = int8_codes(rows)
    scaled = helper.make_node("Mul", ["table/codes", "table/scales"], [PLAIN], name=PLAIN)
    return StoredRows(codes, precision, precision, (cast, scaled), (numpy_helper.from_array(scales, "table/scales"),))


def principal_components(rows: NDArray[np.float32], max_residual: float) -> StoredRows | None:
    """int8 codes of the rows' first principal components; None where that is not at most half as wide.

    A row is mean + components @ directions. The rows of a model are linear in far fewer numbers than they have: the
    fields of the item. As many components are kept as leave out at most `max_residual` of the rows' spread around their
    mean (root of the sum of squares).
    """
    mean = rows.mean(axis=0, dtype=np.float64)
    centred = rows - mean
    # of the h x h matrix: the rows themselves may be millions
    values, vectors = np.linalg.eigh(centred.T @ centred)
    values, directions = np.maximum(values[::-1], 0.0), vectors[:, ::-1].T
    left = np.append(np.cumsum(values[::-1])[::-1], 0.0)  # [h + 1]: what is lost when only the first w are kept
    enough = int(np.argmax(left <= max_residual**2 * left[0]))
    width = STEP * max(1, -(-enough // STEP))
    if 2 * width > rows.shape[1]:
        return None
    codes, scales = int8_codes((centred @ directions[:width].T).astype(np.float32))
    constants = (
        numpy_helper.from_array((scales[:, None] * directions[:width]).astype(np.float32), "table/directions"),
        numpy_helper.from_array(mean.astype(np.float32), "table/mean"),
    )
    nodes = (
        _to_float("table/codes"),
        helper.make_node("Gemm", ["table/codes", "table/directions", "table/mean"], [PLAIN], name=PLAIN),
    )
    what = f"int8, {width} principal components of {rows.shape[1]} columns"
    return StoredRows(codes, "int8", what, nodes, constants)


def reading(head: bytes, stored: StoredRows) -> bytes:
    """The head with an input `item_part` of the stored type and width."""
    if not stored.nodes:
        return head
    model = onnx.load_model_from_string(head)
    graph = model.graph
    for node in graph.node:
        node.input[:] = [PLAIN if name == INPUT else name for name in node.input]
    (given,) = [value for value in graph.input if value.name == INPUT]
    given.type.tensor_type.elem_type = ONNX_TYPES[stored.precision]
    given.type.tensor_type.shape.dim[1].dim_value = stored.table.shape[1]
    nodes = [*stored.nodes, *graph.node]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(stored.constants)
    return bytes(model.SerializeToString())


def _to_float(output: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [INPUT], [output], name=f"{output}/float", to=TensorProto.FLOAT)
