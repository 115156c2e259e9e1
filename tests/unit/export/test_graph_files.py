"""Large tables of a graph lie in a file of their own, and the answers stay the same."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from app.opening import open_engine
from export.graph_files import LARGE, write_graph
from export.graphs import open_session
from export.write import write_bundle
from models.contract.history import EMPTY
from models.contract.user_inputs import user_inputs
from tests.tiny_bundle import tiny_content


def lookup(rows: int) -> bytes:
    """A graph that takes rows of a table of 16 float32 each: 64 bytes."""
    table = np.arange(rows * 16, dtype=np.float32).reshape(rows, 16)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "row"], ["found"])],
        "lookup",
        [helper.make_tensor_value_info("row", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def test_a_table_of_the_limit_is_kept_apart_and_a_smaller_one_stays(tmp_path: Path) -> None:
    rows = LARGE // 64
    write_graph(tmp_path / "large.onnx", lookup(rows))
    write_graph(tmp_path / "small.onnx", lookup(rows - 1))
    assert {path.name for path in tmp_path.iterdir()} == {"large.onnx", "large.onnx.data", "small.onnx"}
    assert (tmp_path / "small.onnx").read_bytes() == lookup(rows - 1)
    assert (tmp_path / "large.onnx").stat().st_size < 1_000
    assert np.fromfile(tmp_path / "large.onnx.data", np.float32).tolist() == list(range(rows * 16))
    session = open_session((tmp_path / "large.onnx").read_bytes(), tmp_path)
    assert session.run(None, {"row": np.array([rows - 1])})[0][0].tolist() == list(range(rows * 16 - 16, rows * 16))


def test_one_graph_gives_one_pair_of_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_graph(tmp_path / folder / "graph.onnx", lookup(5_000))
    for name in ("graph.onnx", "graph.onnx.data"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_service_opens_a_bundle_whose_tower_has_its_table_apart(tmp_path: Path) -> None:
    """2,500 items of 8 float32; the manifest has the table's hash like any other file's."""
    (tmp_path / "items").mkdir()
    content = tiny_content(tmp_path / "items", num_items=2_500)
    folder = write_bundle(tmp_path / "bundles", content, datetime(2026, 1, 2, tzinfo=UTC))
    engine = open_engine(folder, 1 << 20)
    assert engine.bundle.manifest.files["retrieval/user_tower.onnx.data"].size >= 80_000
    apart = onnx.load_model(folder / "retrieval/user_tower.onnx", load_external_data=False)
    assert any(table.data_location == TensorProto.EXTERNAL for table in apart.graph.initializer)
    length = content.retrieval.history_length
    history = EMPTY.extended(range(2_500 - length, 2_500), 1_000_000)
    inside = open_session(content.user_tower)
    feed = user_inputs({value.name for value in inside.get_inputs()}, length, [history], [])
    np.testing.assert_array_equal(engine.user_vectors([history]), inside.run(None, feed)[0])
