"""The compression report's figures by hand: lists, changes, times, places of labels, and what goes into the card."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from math import nan
from pathlib import Path

import numpy as np
import onnx
import orjson
import pytest
from onnx import TensorProto, helper, numpy_helper

from cli.compress_report import PICTURE, TEXT, write_report
from export.card import CompressionCard
from export.compression import REPORT
from export.compression.current import tells_of
from export.compression.plot import picture, spread
from export.compression.quantizers import dynamic, static_qdq
from export.compression.rankers import changed_by_batching
from export.compression.report import (
    BundleRow,
    CompressionReport,
    ListFigures,
    RankerRow,
    ScoreFigures,
    TowerRow,
    list_figures,
)
from export.compression.requests import best
from export.compression.tables import Table, markdown, tables
from export.compression.timing import interleaved_us
from export.graphs import Feed, open_session, run
from export.write import write_bundle
from models.bootstrap import Interval
from models.contract.bundle import open_bundle
from models.targets import Mode, Targets
from tests.tiny_bundle import CREATED, tiny_content

NOTHING = Interval(0.0, 0.0, 0.0)


def padded(*items: int) -> list[int]:
    return [*items, *[-1] * (10 - len(items))]


def targets(*items: list[int]) -> Targets:
    offsets = np.cumsum([0, *map(len, items)]).astype(np.int64)
    users = np.arange(len(items), dtype=np.int64)
    return Targets("all", users, np.zeros(len(items), np.int64), offsets, np.concatenate(items).astype(np.int64))


def test_change_and_overlap_of_hand_made_lists() -> None:
    """NDCG@10 of the reference: 1 and 1 / (1 + 1 / log2 3); of the variant: 1 / log2 3 and 1. Both keep the first
    list's items, and one of two of the second's."""
    reference = np.array([padded(1, 2), padded(5, 7)])
    variant = np.array([padded(2, 1), padded(5, 6)])
    found = list_figures(variant, reference, targets([1], [5, 6]), seed=0)
    second = 1 / np.log2(3)
    before, after = (1 + 1 / (1 + second)) / 2, (second + 1) / 2
    assert found.ndcg == pytest.approx(after)
    assert found.change.value == pytest.approx(after / before - 1)
    assert found.overlap == pytest.approx((2 / 2 + 1 / 2) / 2)
    assert found.change.low == pytest.approx(second - 1), "where both draws are the first user"
    assert found.change.high == pytest.approx(second), "where both draws are the second"


def test_the_same_lists_change_nothing() -> None:
    lists = np.array([padded(1, 2), padded(5, 7)])
    assert list_figures(lists, lists, targets([1], [5, 6]), seed=0) == ListFigures(
        pytest.approx((1 + 1 / (1 + 1 / np.log2(3))) / 2), NOTHING, 1.0
    )


def test_a_list_is_the_ten_best_in_the_candidates_order_where_scores_are_equal() -> None:
    items = np.arange(100, 112)
    assert best(items, np.zeros(12, np.float32)).tolist() == list(range(100, 110))
    assert best(items[:3], np.array([1, 3, 2], np.float32)).tolist() == padded(101, 102, 100)


def test_times_are_medians_of_rounds_in_which_all_take_their_turn() -> None:
    """Two works of 2 requests; the clock is moved by what each of them takes."""
    now, turns = 0, []

    def work(name: str, *spent: int) -> Callable[[], None]:
        left = iter([1_000_000, *spent])  # the run before the rounds is not counted

        def once() -> None:
            nonlocal now
            turns.append(name)
            now += next(left)

        return once

    works = [work("a", 4_000, 8_000, 6_000), work("b", 20_000, 20_000, 90_000)]
    assert interleaved_us(works, requests=2, rounds=3, clock_ns=lambda: now) == [3.0, 10.0]
    assert turns == ["a", "b"] * 4


def test_labels_keep_their_order_and_their_distance() -> None:
    assert spread([0.5, 0.5, 0.1], 0.1) == pytest.approx([0.5, 0.6, 0.1])
    assert spread([0.98, 1.0, 0.99], 0.1) == pytest.approx([0.8, 1.0, 0.9])
    assert spread([0.3], 0.1) == [0.3]


# onnxruntime's own quantizers


def two_products() -> bytes:
    """y = (x W) v: a product with a matrix, and one with a vector."""
    rng = np.random.default_rng(0)
    constants = {"W": rng.normal(size=(6, 16)).astype(np.float32), "v": rng.normal(size=16).astype(np.float32)}
    made = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "W"], ["h"], name="h"),
            helper.make_node("MatMul", ["h", "v"], ["y"], name="y"),
        ],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b"])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def requests(*scales: float) -> list[Feed]:
    rng = np.random.default_rng(1)
    return [{"x": (scale * rng.normal(size=(1, 6))).astype(np.float32)} for scale in scales]


def types(graph: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_model_from_string(graph).graph.node}


def test_dynamic_ranges_depend_on_who_shares_the_batch_and_static_ones_do_not() -> None:
    feeds = requests(1.0, 100.0, 2.0, 50.0)
    loose, fixed = dynamic(two_products(), feeds), static_qdq(two_products(), feeds)
    assert {"DynamicQuantizeLinear", "MatMulInteger"} <= types(loose)
    assert {"QuantizeLinear", "DequantizeLinear"} <= types(fixed)
    changed, tried = changed_by_batching((loose, feeds))
    assert tried == 4
    assert changed > 0
    assert changed_by_batching((fixed, feeds), (two_products(), feeds)) == (0, 8)


@pytest.mark.parametrize("make", [dynamic, static_qdq])
def test_the_quantized_graph_computes_about_the_same(make: Callable[[bytes, list[Feed]], bytes]) -> None:
    feeds = requests(1.0, 1.0, 1.0)
    before, after = (
        np.concatenate([run(open_session(graph), feed) for feed in feeds])
        for graph in (two_products(), make(two_products(), feeds))
    )
    assert before.tolist() != after.tolist()
    np.testing.assert_allclose(after, before, atol=0.05 * np.abs(before).max())


# the report


def figures(ndcg: float) -> dict[Mode, ListFigures]:
    return {"all": ListFigures(ndcg, Interval(ndcg / 0.4 - 1, -0.02, 0.01), 0.98)}


def ranker(variant: str, ndcg: float, made: list[str] | None = None) -> RankerRow:
    scores: dict[Mode, ScoreFigures] = {"all": ScoreFigures(0.8, -0.001, 0.01, float("nan"))}
    return RankerRow(variant, made or [], 1234, 2000, 3_000_000, 20.0, 80.0, 0, 64, figures(ndcg), scores)


def report(training_key: str = "key", **changes: object) -> CompressionReport:
    towers = [TowerRow("fp32", [], 99, 1000, 2_000_000, 50.0, 0, 32, figures(0.4))]
    bundles = [BundleRow("default", {"index": 6_000_000, "user tower": 4_000_000}, 70_000_000, 9_000_000, 900.0, {})]
    rows = [ranker("fp32", 0.4), replace(ranker("pruned fp32", 0.396, ["units halved"]), user_us=10.0, head_us=40.0)]
    plain = CompressionReport(training_key, "data", 0, {"pruned": "p"}, {"all": 7}, rows, towers, bundles, ["a note"])
    return replace(plain, **changes)  # type: ignore[arg-type]


def rows_of(title: str, found: list[Table]) -> list[list[str]]:
    return next(table.rows for table in found if table.title == title)


def test_tables_say_what_was_measured() -> None:
    """1 % of 0.4 lost, half the time; a table without rows is left out."""
    found = tables(report())
    assert rows_of("Ranker: what a request costs", found)[1] == [
        "pruned fp32", "1,234", "2", "3.00", "10 + 40", "0.50", "0 of 64"
    ]  # fmt: skip
    assert rows_of("Ranker, all items", found)[1] == [
        "pruned fp32", "0.8000", "-0.00100", "0.3960", "-1.00%", "-2.00% to +1.00%", "0.980", "0.0100", "-"
    ]  # fmt: skip
    assert rows_of("Bundles: what they cost", found) == [["default", "10.00", "1.000", "70", "9.0", "900"]]
    assert rows_of("Bundles: MB by part", found) == [["index", "6.00"], ["user tower", "4.00"]]
    assert not any("new" in table.title for table in found)


def test_the_text_names_what_was_done_and_left_out() -> None:
    text = markdown(report())
    assert "pruned: units halved" in text
    assert "a note" in text
    assert "| pruned fp32 | 1,234 |" in text


def test_what_was_not_measured_of_a_bundle_is_a_dash() -> None:
    [row] = report().bundles
    unknown = replace(row, private_bytes=nan, bundle_bytes=nan, request_us=nan)
    found = tables(report(bundles=[unknown]))
    assert rows_of("Bundles: what they cost", found) == [["default", "10.00", "1.000", "-", "-", "-"]]


@pytest.mark.parametrize("rankers", [report().rankers, []])
def test_the_picture_is_a_png_with_or_without_a_ranker(rankers: list[RankerRow]) -> None:
    assert BytesIO(picture(report(rankers=rankers))).read(8) == b"\x89PNG\r\n\x1a\n"


def written(tmp_path: Path, found: CompressionReport) -> Path:
    (tmp_path / "workshop").mkdir(parents=True)
    write_report(found, tmp_path, tmp_path / "workshop")
    return tmp_path / "compression"


def test_a_report_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = written(tmp_path, report())
    (folder / "of before").touch()
    again = tmp_path / "again"
    again.mkdir()
    write_report(report("other"), tmp_path, again)
    assert sorted(path.name for path in folder.iterdir()) == sorted([REPORT, TEXT, PICTURE])
    assert b'"training_key": "other"' in (folder / REPORT).read_bytes()


@pytest.mark.parametrize("key", ["key", "p"])
def test_a_report_tells_of_the_trained_models_and_of_the_compressed_ones(key: str) -> None:
    assert tells_of(orjson.loads(report().to_json()), key, {"pruned": "p", "distilled": None})


@pytest.mark.parametrize(
    ("key", "now"),
    [
        ("another", {"pruned": "p"}),
        ("d", {"pruned": "p", "distilled": "d"}),  # compressed, and not measured
        ("key", {"pruned": "made again"}),
        ("p", {"pruned": None}),
        ("key", {}),
    ],
)
def test_a_report_does_not_tell_of_others_nor_with_old_figures(key: str, now: dict[str, str | None]) -> None:
    assert not tells_of(orjson.loads(report().to_json()), key, now)


def test_card_and_picture_are_files_of_the_bundle(tmp_path: Path) -> None:
    """Named with their hashes in the manifest like every other; a bundle without a report has neither."""
    content = tiny_content(tmp_path / "items")
    card = CompressionCard("the table", b"picture")
    path = write_bundle(tmp_path / "bundles", replace(content, compression=card), CREATED)
    assert PICTURE in open_bundle(path).manifest.files
    assert (path / PICTURE).read_bytes() == b"picture"
    text = (path / "model_card.md").read_text("utf-8")
    assert f"## Compression\n\n![what each variant costs and gives]({PICTURE})\n\nthe table\n\n" in text
    plain = write_bundle(tmp_path / "others", content, CREATED)
    assert PICTURE not in open_bundle(plain).manifest.files
    assert "## Compression" not in (plain / "model_card.md").read_text("utf-8")
