"""Results on disk: names that do not collide, pictures of what was measured and of nothing else."""

from pathlib import Path

import orjson

from bench.kit.figures import Figure
from bench.kit.machine import describe
from bench.kit.report import free_stem, ratio_table, write
from bench.kit.results import Results, read_results

PNG = b"\x89PNG"


def figure(name: str, *rounds: float) -> dict[str, Figure]:
    return {name: Figure(name, "us", rounds)}


FIGURES = (
    figure("rps/60k", 1500, 1600)
    | figure("rps/noop", 8000, 8000)
    | figure("loop_us/60k", 120, 130)
    | figure("stage_us/60k, alone/index", 250, 260)
    | figure("curve_p50_us/60k-70", 1500)
    | figure("curve_p99_us/60k-70", 4000)
)


def test_a_run_is_written_under_its_machine_and_day_and_a_second_one_beside_it(tmp_path: Path) -> None:
    run = Results(describe(), FIGURES)
    first, second = write(run, tmp_path, record=False), write(run, tmp_path, record=True)
    assert [path.suffix for path in first] == [".json", ".md", ".png", ".png", ".png"]
    assert {path.name for path in first}.isdisjoint(path.name for path in second)
    assert (tmp_path / "latest.json").read_bytes() == second[0].read_bytes()
    assert orjson.loads(first[0].read_bytes())["ratios"] == {"rps_vs_noop_60k": 0.19375}
    assert all(path.read_bytes().startswith(PNG) for path in first[2:])
    assert all(f"({path.name})" in first[1].read_text("utf-8") for path in first[2:])


def test_what_was_not_measured_has_no_picture(tmp_path: Path) -> None:
    paths = write(Results(describe(), figure("import_s/worker", 0.5)), tmp_path, record=False)
    assert [path.suffix for path in paths] == [".json", ".md"]


def test_names_are_counted_on(tmp_path: Path) -> None:
    (tmp_path / "a.json").touch()
    (tmp_path / "a-2.json").touch()
    assert [free_stem(tmp_path, "a"), free_stem(tmp_path, "b")] == ["a-3", "b"]


def test_the_table_says_how_each_ratio_stands() -> None:
    table = ratio_table(Results({}, FIGURES))
    assert "| throughput at 60k items / FastAPI POST no-op | 0.194 | 0.16 | 0.28 | floor |" in table
    assert "| a worker's imports, s |  | 0.8 | 0.5 | not measured |" in table


def test_the_table_in_the_documentation_is_that_of_the_run_of_record() -> None:
    root = Path(__file__).parents[3]
    text = (root / "docs" / "performance.md").read_text("utf-8")
    shown = text.split("<!-- ratios: bench/results/latest.json -->\n")[1].split("<!-- end -->")[0]
    assert shown == ratio_table(read_results(root / "bench" / "results" / "latest.json"))
