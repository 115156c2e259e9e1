"""The compression benchmark: what is kept of a report, means over seeds, and what counts as reached."""

import os
from pathlib import Path
from typing import Any

import pytest

from bench.compression.results import CONDITIONS, Figures, markdown, means, merge, reached, read_results
from bench.compression.run import entry, holds, is_newer

CHANGE = {"value": -0.004, "low": -0.01, "high": 0.0}
REPORT: dict[str, Any] = {
    "seed": 2,
    "training_key": "key",
    "rankers": [
        {
            "variant": "int8",
            "parameters": 100,
            "graph_bytes": 30,
            "item_bytes": 70,
            "user_us": 10.0,
            "head_us": 90.0,
            "lists": {"all": {"ndcg": 0.4, "change": CHANGE, "overlap": 0.97}},
            "scores": {"all": {"auc": 0.8, "auc_change": -0.002, "calibration_error": 0.01}},
        }
    ],
    "models": {"pruned": "p"},
    "towers": [
        {
            "variant": "int8",
            "parameters": 50,
            "graph_bytes": 3,
            "item_bytes": 4,
            "request_us": 60.0,
            "lists": {"all": {"ndcg": 0.3, "change": CHANGE, "overlap": 0.98}},
        }
    ],
    "bundles": [
        {
            "variant": "edge",
            "sizes": {"index": 1, "user tower": 4},
            "private_bytes": 50,
            "request_us": 900.0,
            "lists": {"all": {"ndcg": 0.4, "change": {"value": None, "low": None, "high": None}, "overlap": 1.0}},
        }
    ],
}


def ranker(auc: float, us: float, parameters: float = 100.0, change: float = 0.0) -> dict[str, float]:
    of_mode = {
        f"{name} {mode}": value
        for mode in ("all", "new")
        for name, value in {
            "auc": auc,
            "auc change": auc - 0.8,
            "ndcg": 0.4,
            "ndcg change": change,
            "overlap": 1,
        }.items()
    }
    return {"parameters": parameters, "bytes": 1e6, "us": us, **of_mode}


def all_good() -> Figures:
    return {
        "fp32": ranker(0.8, 400),
        "int8": ranker(0.7995, 300, change=-0.005),
        "pruned fp32": ranker(0.799, 300),
        "distilled fp32": ranker(0.797, 200, 25),
        "distilled int8": ranker(0.797, 150, 25),
        "small fp32": ranker(0.796, 200, 25),
    }


def verdicts(rankers: Figures, bundles: Figures) -> dict[str, str]:
    return {name: verdict for name, _, _, verdict in reached(rankers, bundles)}


def test_what_is_kept_of_a_report() -> None:
    found = entry(REPORT, "demo")
    assert (found["data"], found["seed"]) == ("demo", 2)
    assert found["rankers"]["int8"] == {
        "parameters": 100,
        "bytes": 100,
        "us": 100.0,
        "auc all": 0.8,
        "auc change all": -0.002,
        "calibration error all": 0.01,
        "ndcg all": 0.4,
        "ndcg change all": -0.004,
        "overlap all": 0.97,
    }
    assert found["towers"]["int8"] == {
        "parameters": 50,
        "bytes": 7,
        "us": 60.0,
        "ndcg all": 0.3,
        "ndcg change all": -0.004,
        "overlap all": 0.98,
    }
    assert found["bundles"]["edge"]["bytes"] == 5


def test_a_folder_run_again_replaces_its_own_entry(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for seed, key in ((1, "a"), (0, "b"), (1, "c")):
        merge(entry({**REPORT, "seed": seed, "training_key": key}, "demo"), path)
    merge(entry({**REPORT, "seed": 1}, "another"), path)
    found = [(one["data"], one["seed"], one["training_key"]) for one in read_results(path)]
    assert found == [("another", 1, "key"), ("demo", 0, "b"), ("demo", 1, "c")]


def test_means_are_over_the_seeds_that_have_the_figure() -> None:
    runs: list[Any] = [{"a": {"x": 1.0, "y": None}}, {"a": {"x": 3.0, "y": 5.0}, "b": {"x": 7.0}}]
    assert means(runs) == {"a": {"x": 2.0, "y": 5.0}, "b": {"x": 7.0}}


def test_everything_at_its_limit_is_reached() -> None:
    """Half of a percent of NDCG@10, a quarter of the parameters, twice as fast, a fifth of the bytes."""
    lost = {"ndcg change all": -0.01, "ndcg change new": 0.0}
    bundles = {"default": {"bytes": 10.0}, "edge": {"bytes": 2.0, **lost}, "edge, distilled": lost}
    found = verdicts(all_good(), bundles)
    assert len(found) == 2 * len(CONDITIONS) - sum(condition.once for condition in CONDITIONS)
    assert set(found.values()) == {"yes"}, found


@pytest.mark.parametrize(
    ("variant", "changes", "missed"),
    [
        ("int8", {"ndcg change new": -0.006}, "int8: NDCG@10 lost, new items"),
        ("int8", {"auc change all": -0.0011}, "int8: AUC lost, all items"),
        ("pruned fp32", {"auc change all": -0.0021}, "half the hidden units pruned: AUC lost, all items"),
        ("distilled fp32", {"parameters": 26.0}, "distilled: share of the parameters"),
        ("distilled fp32", {"us": 201.0}, "distilled: times as fast"),
        ("distilled fp32", {"auc all": 0.7959}, "distilled: share of the AUC, all items"),
        ("small fp32", {"auc new": 0.797}, "distilled: AUC over that without a teacher, new items"),
    ],
)
def test_past_a_limit_it_is_not(variant: str, changes: dict[str, float], missed: str) -> None:
    rankers = all_good()
    rankers[variant] |= changes
    assert verdicts(rankers, {})[missed] == "no"


def test_what_was_not_measured_is_neither() -> None:
    found = verdicts({"fp32": ranker(0.8, 400), "int8": ranker(0.8, 300)}, {})
    assert found["int8: AUC lost, all items"] == "yes"
    assert found["edge bundle: share of the bytes"] == ""


def test_the_tables_have_a_line_a_variant_and_the_number_of_seeds() -> None:
    entries: list[Any] = [{"data": "demo", "seed": seed, "rankers": all_good(), "bundles": {}} for seed in (0, 1)]
    text = markdown(entries)
    assert "### demo, all items, mean of 2 seeds" in text
    assert "| distilled fp32 | 25 | 1.00 | 200 | 0.7970 | -0.0030 | 0.4000 | +0.00% | 1.000 |" in text
    assert "| distilled: times as fast | 2.0000 | at least 2 | yes |" in text


def test_towers_have_a_table_of_their_own_where_they_were_kept() -> None:
    tower = {name: value for name, value in ranker(0.8, 60).items() if "auc" not in name}
    plain: dict[str, Any] = {"data": "demo", "seed": 0, "rankers": all_good(), "bundles": {}}
    text = markdown([plain, {**plain, "seed": 1, "towers": {"int8": tower}}])
    assert "| user tower | parameters | MB |" in text
    assert "| int8 | 100 | 1.00 | 60 | 0.4000 | +0.00% | 1.000 |" in text
    assert "user tower" not in markdown([plain])


def test_a_report_holds_all_that_would_be_measured() -> None:
    assert holds(REPORT, "key", {"pruned": "p"})


@pytest.mark.parametrize(
    ("changes", "key", "keys"),
    [
        ({}, "key", {"pruned": "p", "distilled": "d"}),  # compress-report --only pruned
        ({"bundles": []}, "key", {"pruned": "p"}),  # compress-report --no-bundles
        ({}, "key", {"pruned": "made again"}),
        ({}, "trained anew", {"pruned": "p"}),
        ({}, None, {"pruned": None}),
    ],
)
def test_a_report_of_a_part_or_of_other_models_is_made_again(
    changes: dict[str, Any], key: str | None, keys: dict[str, str | None]
) -> None:
    assert not holds({**REPORT, **changes}, key, keys)


def test_a_report_older_than_the_models_is_made_again(tmp_path: Path) -> None:
    report, stage = tmp_path / "report.json", tmp_path / "train" / "compressed" / "pruned" / "ranker.npz"
    stage.parent.mkdir(parents=True)
    stage.touch()
    assert not is_newer(report, tmp_path / "train"), "there is none yet"
    report.touch()
    os.utime(stage, (100, 100))
    os.utime(report, (200, 200))
    assert is_newer(report, tmp_path / "train")
    os.utime(stage, (300, 300))
    assert not is_newer(report, tmp_path / "train")
