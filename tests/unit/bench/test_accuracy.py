"""The accuracy table: every row's configuration is valid, and results replace those of the same run only."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.accuracy import rows
from bench.accuracy.results import markdown_table, merge_results, read_results, results_table
from bench.accuracy.rows import DEMO, METRICS, Row, configuration, read_table
from models.data.config import load_config

TABLE = read_table()


def entry(**changes: Any) -> dict[str, Any]:
    plain = {"data": "ml-100k", "protocol": "p", "model": "EASE", "metric": "ndcg@10", "value": 0.07, "low": 0.06}
    return plain | {"high": 0.08, "seed": 0, "train_s": 3.0} | changes


@pytest.mark.parametrize("row", TABLE.row, ids=lambda row: row.name)
def test_every_row_has_a_valid_configuration(row: Row, tmp_path: Path) -> None:
    data_toml = rows.FOLDER / row.data / "data.toml"
    sections = data_toml.read_text("utf-8") if data_toml.exists() else '[interactions]\npath = "log.parquet"\n'
    path = tmp_path / "shortlist.toml"
    path.write_text(configuration(row, 7, sections), "utf-8")
    config = load_config(path)
    assert config.train.seed == 7
    assert row.data in TABLE.data
    assert set(row.metrics) <= set(METRICS) or row.modes == ["labelled"]


def test_every_configuration_is_a_row() -> None:
    configurations = [path for name in TABLE.data for path in (rows.FOLDER / name).glob("*.toml")]
    files = {f"{path.parent.name}/{path.stem}" for path in configurations if path.stem != "data"}
    assert files == {row.name for row in TABLE.row}


def test_a_row_run_again_replaces_its_own_results(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    merge_results([entry(value=0.07), entry(seed=1, value=0.08), entry(metric="hr@10", value=0.1)], path)
    merge_results([entry(value=0.09)], path)
    found = {(one["metric"], one["seed"]): one["value"] for one in read_results(path)}
    assert found == {("ndcg@10", 0): 0.09, ("ndcg@10", 1): 0.08, ("hr@10", 0): 0.1}


def test_the_table_shows_the_mean_over_seeds_beside_what_was_published() -> None:
    row = Row(name="ml-100k/ease", model="EASE", system="user_vector", metrics=["ndcg@10"], seeds=[0, 1],
              published={"ndcg@10": 0.0676})  # fmt: skip
    console = Console(record=True, width=140)
    entries = [entry(protocol=TABLE.data["ml-100k"].protocol, value=0.07 + seed / 100, seed=seed) for seed in (0, 1)]
    console.print(results_table(TABLE, [row], entries))
    line = next(line for line in console.export_text().splitlines() if "EASE" in line)
    assert line.split() == ["ml-100k", "EASE", "ndcg@10", "0.0750", "0.0600", "to", "0.0800", "0.0676", "2", "3"]


def test_the_document_has_the_table_of_the_results() -> None:
    text = (Path(__file__).parents[3] / "docs" / "models.md").read_text("utf-8")
    _, _, after = text.partition("<!-- accuracy: python -m bench.accuracy --markdown -->\n")
    table, end, _ = after.partition("<!-- end -->")
    assert end
    assert table == markdown_table(TABLE, TABLE.row, read_results())


def test_the_demo_needs_no_folder_of_the_user() -> None:
    assert TABLE.data[DEMO].folder == ""
