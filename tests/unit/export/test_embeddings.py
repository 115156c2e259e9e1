"""Embedding tables inside a graph in fewer bits: gathered rows are those of the table as it was stored."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.embeddings import MIN_BYTES, compact_embeddings
from export.graphs import open_session
from models.contract.tables import Precision, RowTable

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(MIN_BYTES // 32, 8)).astype(np.float32)  # 8 floats a row: just large enough
CODES = RNG.integers(0, len(TABLE), (3, 5))


def graph(gather: str, table: Any = TABLE, *, tied: bool = False) -> bytes:
    """codes [batch, 5] -> rows [batch, 5, 8].  tied: the table is multiplied with, too."""
    rows = "rows" if not tied else "gathered"
    nodes = [helper.make_node("Gather", ["table", "codes"], [rows])]
    if gather == "GatherND":
        nodes = [
            helper.make_node("Unsqueeze", ["codes", "last"], ["places"]),
            helper.make_node("GatherND", ["table", "places"], [rows]),
        ]
    if tied:
        nodes += [
            helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
            helper.make_node("MatMul", [rows, "turned"], ["rows"]),
        ]
    made = helper.make_graph(
        nodes,
        "embedding",
        [helper.make_tensor_value_info("codes", TensorProto.INT64, ["batch", 5])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 5, None])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([-1]), "last")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("gather", ["Gather", "GatherND"])
@pytest.mark.parametrize(("precision", "share"), [("int8", 0.25), ("fp16", 0.5)])
def test_gathered_rows_are_those_of_the_stored_table(gather: str, precision: Precision, share: float) -> None:
    compact = compact_embeddings(graph(gather), precision)
    assert compact is not None
    onnx.checker.check_model(onnx.load_model_from_string(compact), full_check=True)
    assert len(compact) < share * TABLE.nbytes + 1000
    found = open_session(compact).run(None, {"codes": CODES})[0]
    assert (found == RowTable.of(TABLE, precision)[CODES]).all()


def test_a_table_that_something_else_reads_stays_as_it_is() -> None:
    assert compact_embeddings(graph("Gather", tied=True), "int8") is None


def test_a_small_table_stays_as_it_is() -> None:
    assert compact_embeddings(graph("Gather", TABLE[:-1]), "int8") is None


def test_float32_is_what_the_graph_has() -> None:
    assert compact_embeddings(graph("Gather"), "fp32") is None
