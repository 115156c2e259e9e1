"""The kit's arithmetic: medians, ratios round by round, files, and what counts as a change."""

from pathlib import Path

import orjson
import pytest

from bench.kit.compare import compare, to_markdown
from bench.kit.figures import Figure, Measured, quotients
from bench.kit.ratios import RATIOS, Ratio
from bench.kit.results import Results, ResultsError, read_results, short, to_json
from bench.kit.results import to_markdown as run_markdown

ABOUT = {"machine": "two cores", "started": "2026-11-22"}


def figures(**rounds: list[float]) -> dict[str, Figure]:
    units = {"rps": "requests/s", "cpu_us": "us"}
    measured = Measured()
    for name, values in rounds.items():
        path = name.replace("__", "/").replace("naive_", "naive-")
        for value in values:
            measured.add(path, units.get(path.split("/")[0], "s"), value)
    return measured.figures()


def test_a_figure_is_the_median_of_its_rounds() -> None:
    figure = figures(rps__60k=[900, 1000, 100])["rps/60k"]
    assert (figure.value, figure.low, figure.high) == (900, 100, 1000)


def test_a_ratio_is_taken_within_each_round() -> None:
    """The machine was twice as slow in the second round: the ratio is the same."""
    run = Results(ABOUT, figures(rps__60k=[1600, 800], rps__noop=[8000, 4000]))
    assert run.ratios["rps_vs_noop_60k"].rounds == (0.2, 0.2)
    assert orjson.loads(to_json(run))["ratios"] == {"rps_vs_noop_60k": 0.2}


def test_a_round_without_a_yardstick_is_left_out() -> None:
    assert quotients(Figure("a", "s", (1.0, 2.0, 3.0)), Figure("b", "s", (2.0, 0.0))) == (0.5,)


def test_a_ratio_of_one_figure_has_its_unit_changed() -> None:
    run = Results(ABOUT, {"rss_bytes/rest": Figure("rss_bytes/rest", "bytes", (98_000_000.0,))})
    assert run.ratios["rest_rss_mb"].value == pytest.approx(98)


@pytest.mark.parametrize(
    ("better", "floor", "aim", "value", "standing"),
    [
        ("higher", 0.16, 0.28, 0.28, "aim"),
        ("higher", 0.16, 0.28, 0.27, "floor"),
        ("higher", 0.16, 0.28, 0.15, "below"),
        ("lower", 0.30, 0.15, 0.15, "aim"),
        ("lower", 0.30, 0.15, 0.30, "floor"),
        ("lower", 0.30, 0.15, 0.31, "below"),
    ],
)
def test_how_a_value_stands(better, floor, aim, value, standing) -> None:  # type: ignore[no-untyped-def]
    assert Ratio("r", "", "a", None, floor, aim, better).standing(value) == standing


def test_every_name_of_the_table_is_there_once() -> None:
    names = [ratio.name for ratio in RATIOS]
    assert len(set(names)) == len(names) == 17


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    run = Results(
        ABOUT,
        figures(rps__60k=[1600, 800], rps__noop=[8000, 4000]),
        ("60k: a round does not count",),
        ("naive: no k6",),
    )
    (tmp_path / "run.json").write_bytes(to_json(run))
    assert read_results(tmp_path / "run.json") == run


def test_the_tables_say_what_was_not_measured() -> None:
    found = figures(rps__60k=[1600], rps__noop=[8000])
    text = run_markdown(Results(ABOUT, found, ("noop: a round does not count",), ("k6 is not installed",)))
    assert "| `rps_vs_noop_60k` | throughput at 60k items / FastAPI POST no-op | 0.2 | 0.2 to 0.2 |" in text
    assert "| `import_s` | a worker's imports, s | | | 0.8 | 0.5 | not measured |" in text
    assert text.endswith("## Not measured\n\n- k6 is not installed\n- noop: a round does not count\n")


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"{", "not the results"), (b'{"version": 9}', "version 9"), (b"[]", "not the results"), (None, "No such file")],
)
def test_a_file_that_is_no_results_is_named(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ResultsError, match=f"run.json: .*{told}"):
        read_results(path)


def test_a_slower_machine_is_no_change() -> None:
    """Everything took twice as long, the no-op too."""
    first = Results(ABOUT, figures(rps__60k=[1600, 1640, 1580], rps__noop=[8000, 8100, 7950]))
    second = Results(ABOUT, figures(rps__60k=[800, 805, 795], rps__noop=[4000, 4050, 3960]))
    found = {difference.name: difference for difference in compare(first, second)}
    assert found["rps/60k"].relative
    assert found["rps/60k"].verdict == "no difference seen"
    assert found["rps/noop"].verdict == "slower"


def test_a_change_is_told_from_noise() -> None:
    first = Results(ABOUT, figures(cpu_us__60k=[700, 710, 690], cpu_us__noop=[150, 151, 149]))
    second = Results(ABOUT, figures(cpu_us__60k=[560, 571, 550], cpu_us__noop=[150, 152, 149]))
    (ours, _) = compare(first, second)
    assert ours.verdict == "faster"
    assert ours.low < ours.ratio < ours.high < 1
    assert ours.ratio == pytest.approx(0.8, abs=0.01)


def test_noise_is_told_from_a_change() -> None:
    first = Results(ABOUT, figures(cpu_us__60k=[500, 900, 700]))
    second = Results(ABOUT, figures(cpu_us__60k=[600, 480, 800]))
    assert [found.verdict for found in compare(first, second)] == ["no difference seen"]


def test_what_is_zero_has_no_ratio() -> None:
    """The no-op has no Redis."""
    first, second = (Results(ABOUT, figures(redis_us__noop=[0, 0, 0], cpu_us__60k=[5, 6, 7])) for _ in range(2))
    assert [found.name for found in compare(first, second)] == ["cpu_us/60k"]


def test_two_rounds_are_too_few_to_say() -> None:
    run = Results(ABOUT, figures(cpu_us__60k=[500, 510]))
    (found,) = compare(run, run)
    assert found.verdict == "too few rounds"
    assert "| `cpu_us/60k` | 1 |  | too few rounds |" in to_markdown([found])


def test_rounds_that_are_all_the_same() -> None:
    first, second = (Results(ABOUT, figures(cpu_us__60k=[value] * 3)) for value in (500, 600))
    assert [found.verdict for found in compare(first, first)] == ["no difference seen"]
    assert [found.verdict for found in compare(first, second)] == ["slower"]


@pytest.mark.parametrize(("value", "text"), [(0.18234, "0.182"), (12345.6, "12,346"), (7.0, "7"), (0.0, "0")])
def test_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text


def test_a_round_that_does_not_count_keeps_its_place(tmp_path: Path) -> None:
    """The second round of the service does not count: the third stays beside the third of the no-op."""
    run = Results(ABOUT, figures(rps__60k=[1600, float("nan"), 400], rps__noop=[8000, 4000, 2000]))
    assert run.ratios["rps_vs_noop_60k"].rounds == (0.2, 0.2)
    assert (run.figures["rps/60k"].value, run.figures["rps/60k"].low) == (1000, 400)
    (tmp_path / "run.json").write_bytes(to_json(run))
    assert read_results(tmp_path / "run.json").ratios == run.ratios
    assert next(found.verdict for found in compare(run, run)) == "too few rounds"


def test_a_figure_of_which_no_round_counts_is_none() -> None:
    assert figures(rps__60k=[float("nan")]) == {}
