"""onnxruntime's own quantizers, for comparison with `export.quantize`: neither of them is shipped.

Dynamic quantization takes the range of an activation from the batch, so a user's scores change with who shares it. The
static one writes QuantizeLinear and DequantizeLinear and leaves the kernels to onnxruntime's fusions; the decisions'
note on quantization has what they make of it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.graphs import Feed

PRODUCTS = ["MatMul", "Gemm"]


def dynamic(graph: bytes, calibration: Sequence[Feed]) -> bytes:
    """int8 weights, ranges of activations from each batch."""
    return _quantized(graph, _dynamic)


def static_qdq(graph: bytes, calibration: Sequence[Feed]) -> bytes:
    """int8 in pairs of QuantizeLinear and DequantizeLinear."""
    return _quantized(graph, partial(_static, calibration=calibration))


def _dynamic(source: Path, target: Path, left_out: list[str]) -> None:
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=PRODUCTS,
        nodes_to_exclude=left_out,
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
    )


def _static(source: Path, target: Path, left_out: list[str], calibration: Sequence[Feed]) -> None:
    quantize_static(
        source,
        target,
        _Reader(calibration),
        op_types_to_quantize=PRODUCTS,
        nodes_to_exclude=left_out,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def _quantized(graph: bytes, write: Callable[[Path, Path, list[str]], None]) -> bytes:
    with TemporaryDirectory() as name, _quiet():
        plain, source, target = (Path(name) / f"{step}.onnx" for step in ("plain", "source", "target"))
        plain.write_bytes(graph)
        # what torch's exporter writes is refused until shapes have been inferred
        quant_pre_process(plain, source, skip_symbolic_shape=True)
        left_out = _with_columns(onnx.load(source))
        write(source, target, left_out)
        return target.read_bytes()


def _with_columns(model: onnx.ModelProto) -> list[str]:
    """Names of the products with a constant vector or a single column. Of a vector the quantizers make graphs that do
    not load; a column is cheaper in float32 than the quantization of what it is multiplied with."""
    narrow = {
        tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 1 or list(tensor.dims[1:]) == [1]
    }
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in narrow]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        feed = next(self._feeds, None)
        return None if feed is None else dict(feed)


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantizers advise through the root logger what has been done already."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
