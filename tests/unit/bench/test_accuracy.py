"""The accuracy table: every row's configuration is valid, and a figure is of the run that the table describes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import orjson
import pytest
from rich.console import Console

from bench.accuracy import __main__ as command
from bench.accuracy import rows, run
from bench.accuracy.gains import against, write_gains
from bench.accuracy.results import markdown_table, merge_results, read_results, results_table
from bench.accuracy.rows import DEMO, METRICS, DataSet, Row, Table, configuration, read_table
from models import stage_files
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
    assert len(row.modes) == 1 or not row.published
    assert all(other.row.data == row.data for other in against(row, TABLE))


def test_every_configuration_is_a_row() -> None:
    configurations = [path for name in TABLE.data for path in (rows.FOLDER / name).glob("*.toml")]
    files = {f"{path.parent.name}/{path.stem}" for path in configurations if path.stem != "data"}
    assert files == {row.name for row in TABLE.row}


def test_a_row_run_again_replaces_its_own_results(tmp_path: Path) -> None:
    """However the protocol was worded then."""
    path = tmp_path / "results.json"
    merge_results([entry(value=0.07), entry(seed=1, value=0.08), entry(metric="hr@10", value=0.1)], TABLE, path)
    merge_results([entry(value=0.09, protocol="said otherwise")], TABLE, path)
    found = {(one["metric"], one["seed"]): one["value"] for one in read_results(path)}
    assert found == {("ndcg@10", 0): 0.09, ("ndcg@10", 1): 0.08, ("hr@10", 0): 0.1}


def test_results_of_new_and_of_all_items_stand_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    merge_results([entry(data=DEMO, protocol=f"p; {mode} items") for mode in ("new", "all")], TABLE, path)
    assert [one["protocol"] for one in read_results(path)] == ["p; all items", "p; new items"]


def test_results_that_no_row_measures_go(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(orjson.dumps([entry(model="left out"), entry(metric="recall@20"), entry(protocol="p; all items")]))
    merge_results([entry()], TABLE, path)
    assert read_results(path) == [entry()]


def test_the_table_shows_the_mean_over_seeds_beside_what_was_published() -> None:
    """Over the row's own seeds; the standard deviation of .07 and .08 is .01 over the square root of 2."""
    row = Row(name="ml-100k/ease", model="EASE", system="user_vector", metrics=["ndcg@10"], seeds=[0, 1],
              published={"ndcg@10": 0.0676}, to_reach={"ndcg@10": 0.0700})  # fmt: skip
    console = Console(record=True, width=160)
    protocol = TABLE.data["ml-100k"].protocol
    entries = [entry(protocol=protocol, value=0.07 + seed / 100, seed=seed) for seed in (0, 1, 2)]
    console.print(results_table(TABLE, [row], entries))
    line = next(line for line in console.export_text().splitlines() if "EASE" in line)
    figures = ["0.0750", "0.0600", "to", "0.0800", "0.0071", "0.0676", "0.0700", "2", "3"]
    assert line.split() == ["ml-100k", "EASE", "ndcg@10", *figures]


def test_a_level_to_reach_is_of_one_kind_of_targets() -> None:
    row = Row(name="demo/x", model="X", system="s", modes=["new", "all"], metrics=["ndcg@10"], seeds=[0],
              to_reach={"ndcg@10": 0.1}, to_reach_all={"ndcg@10": 0.4})  # fmt: skip
    assert (row.level_to_reach("new", "ndcg@10"), row.level_to_reach("all", "ndcg@10")) == (0.1, 0.4)


def test_the_document_has_the_table_of_the_results() -> None:
    text = (Path(__file__).parents[3] / "docs" / "models.md").read_text("utf-8")
    _, _, after = text.partition("<!-- accuracy: python -m bench.accuracy --markdown -->\n")
    table, end, _ = after.partition("<!-- end -->")
    assert end
    assert table == markdown_table(TABLE, TABLE.row, read_results())


def test_the_demo_needs_no_folder_of_the_user() -> None:
    assert TABLE.data[DEMO].folder == ""


SHOP = DataSet(protocol="p")
ONE = Row(name="ml-100k/ease", model="A", system="user_vector", metrics=["ndcg@10"], seeds=[0, 1],
          against=["ml-100k/ials", "popularity"])  # fmt: skip
OTHER = Row(name="ml-100k/ials", model="B", system="user_vector", metrics=["ndcg@10"], seeds=[0, 1])
SMALL = Table(data={"ml-100k": SHOP}, row=[ONE, OTHER])
SECTIONS = '[interactions]\npath = "log.parquet"\n'


def finish(row: Row, seed: int, work: Path, users: list[int], **values: list[float]) -> None:
    """Leave what a finished run leaves."""
    folder = run.run_folder(row, seed, work) / run.EVALUATION
    folder.mkdir(parents=True)
    arrays = {f"window/new/{system}/ndcg@10": np.array(array) for system, array in values.items()}
    np.savez(folder / "per_user.npz", allow_pickle=False, **{"window/new/users": np.array(users)}, **arrays)
    key = run.run_key(configuration(row, seed, SECTIONS), row, SHOP)
    stored = {"key": key, "entries": [entry(model=row.model, seed=seed)]}
    (run.run_folder(row, seed, work) / "results.json").write_bytes(orjson.dumps(stored))


def gains(work: Path, path: Path) -> dict[str, tuple[float, list[int]]]:
    found = write_gains(SMALL, {"ml-100k": SECTIONS}, work, path)
    return {gain["against"]: (gain["difference"]["value"], gain["seeds"]) for gain in found}


def test_gains_are_over_other_rows_and_the_baselines_of_the_same_report(tmp_path: Path) -> None:
    """Means of both seeds: .3 and .5 for the users of A, .2 and .2 for those of B, .1 and 0 for popularity."""
    for seed, own in ((0, [0.2, 0.6]), (1, [0.4, 0.4])):
        finish(ONE, seed, tmp_path, [3, 7], user_vector=own, popularity=[0.1, 0.0])
        finish(OTHER, seed, tmp_path, [3, 7], user_vector=[0.2, 0.2])
    found = gains(tmp_path, tmp_path / "gains.json")
    assert found == {
        "B": (pytest.approx(0.2), [0, 1]),
        "baseline popularity": (pytest.approx(0.35), [0, 1]),
    }


def test_gains_need_runs_of_the_row_as_it_is_now(tmp_path: Path) -> None:
    for row in (ONE, OTHER):
        finish(row, 0, tmp_path, [3, 7], user_vector=[0.2, 0.2], popularity=[0.1, 0.0])
    finish(ONE.model_copy(update={"system": "older"}), 1, tmp_path, [3, 7], user_vector=[0.9, 0.9], popularity=[0, 0])
    found = gains(tmp_path, tmp_path / "gains.json")
    assert [seeds for _, seeds in found.values()] == [[0], [0]]


def test_gains_of_other_users_are_refused(tmp_path: Path) -> None:
    finish(ONE, 0, tmp_path, [3, 7], user_vector=[0.2, 0.2], popularity=[0.1, 0.0])
    finish(OTHER, 0, tmp_path, [3, 8], user_vector=[0.2, 0.2])
    with pytest.raises(ValueError, match="ml-100k/ease and ml-100k/ials were measured on other users"):
        gains(tmp_path, tmp_path / "gains.json")


def test_gains_keep_what_was_compared_elsewhere_and_is_still_wanted(tmp_path: Path) -> None:
    path = tmp_path / "gains.json"
    kept = {"data": "ml-100k", "model": "A", "against": "B", "mode": "new", "metric": "ndcg@10"}
    path.write_bytes(orjson.dumps([kept, kept | {"against": "left out"}]))
    finish(ONE, 0, tmp_path, [3, 7], user_vector=[0.2, 0.2], popularity=[0.1, 0.0])
    gains(tmp_path, path)
    assert [one["against"] for one in read_results(path)] == ["B", "baseline popularity"]
    assert read_results(path)[0] == kept


def test_a_section_that_the_evaluation_left_out_is_named_with_its_report(tmp_path: Path) -> None:
    """A section of baskets, or of another mode, is not taken for it."""
    path, figure = tmp_path / "report.json", {"value": 0.3, "low": 0.2, "high": 0.4}
    systems = {OTHER.system: {"metrics": {"ndcg@10": figure}}}
    sections = [
        {"unit": unit, "mode": mode, "systems": systems} for unit, mode in (("window", "all"), ("basket", "new"))
    ]
    why = "window, mode new: no targets, nobody known before the window took a new item in it"
    path.write_bytes(orjson.dumps({"sections": sections, "left_out": [why]}))
    of_all = OTHER.model_copy(update={"modes": ["all"]})
    assert [one["value"] for one in run.report_entries(of_all, 0, SHOP, path, 1.0)] == [0.3]
    missing = (
        rf"report\.json: has no section of unit 'window' and mode 'new': {why}\. .*row 'ml-100k/ials' in rows\.toml"
    )
    with pytest.raises(ValueError, match=missing):
        run.report_entries(OTHER, 0, SHOP, path, 1.0)


def test_a_run_follows_the_code_and_what_is_read_but_not_the_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(text: str = "[train]\nseed = 1\n", row: Row = OTHER, data_set: DataSet = SHOP) -> str:
        return run.run_key(text, row, data_set)

    plain = key()
    assert key("# said\n[train]\nseed = 1 # so\n") == plain
    assert key(row=OTHER.model_copy(update={"published": {"ndcg@10": 0.1}, "against": ["popularity"]})) == plain
    others = [key("[train]\nseed = 2\n"), key(row=OTHER.model_copy(update={"system": "trained_users"}))]
    others.append(key(data_set=DataSet(protocol="q")))
    monkeypatch.setattr(stage_files, "MODEL_VERSION", stage_files.MODEL_VERSION + 1)
    assert len({plain, *others, key()}) == 5


def test_an_interrupted_training_keeps_its_seconds(tmp_path: Path) -> None:
    """Each training takes 10 s by this clock; the one that is found done takes none, and another starts at none."""
    clock = map(float, range(0, 1000, 10))

    def breaks_off() -> None:
        raise KeyboardInterrupt

    def spent(key: str, train: Callable[[], None] = lambda: None) -> float:
        return run.seconds(tmp_path / "train_s.json", key, train, lambda: next(clock))

    with pytest.raises(KeyboardInterrupt):
        spent("key", breaks_off)
    assert [spent("key"), spent("key"), spent("other")] == [20.0, 20.0, 10.0]


def test_a_missing_data_set_and_a_failed_row_stop_no_other_and_end_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no folder ml-100k; Frappe's files are missing too, which `shortlist train` finds out."""
    arguments = ["--data", str(tmp_path), "--work", str(tmp_path / "work"), "--only", "ml-100k/ease", "frappe/lr"]
    monkeypatch.setattr("sys.argv", ["accuracy", *arguments, "--seeds", "0"])
    with pytest.raises(SystemExit, match="1"):
        command.main()
    told = " ".join(capsys.readouterr().out.split())
    assert "ml-100k: none of its rows is run: " in told
    assert "frappe/lr, seed 0: `shortlist train` failed; see above" in told


def test_a_row_whose_report_lacks_a_section_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacks(row: Row, *rest: object) -> NoReturn:
        raise ValueError(f"{row.name}/report.json: has no section")

    monkeypatch.setattr(command, "run_row", lacks)
    arguments = ["--data", str(tmp_path), "--work", str(tmp_path / "work"), "--only", "frappe/lr", "frappe/fm"]
    monkeypatch.setattr("sys.argv", ["accuracy", *arguments, "--seeds", "0"])
    with pytest.raises(SystemExit, match="1"):
        command.main()
    told = " ".join(capsys.readouterr().out.split())
    assert [f"{name}, seed 0: {name}/report.json: has no section" in told for name in arguments[5:]] == [True, True]
