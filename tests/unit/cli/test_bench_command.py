"""How `shortlist bench` ends: what it keeps, and with which code."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.kit import run
from bench.kit.figures import Figure
from bench.kit.results import Results
from cli.main import app

ABOUT = {"machine": "two cores", "started": "2026-11-22", "load_average_after": 0.1}
FIGURES = {"import_s/worker": Figure("import_s/worker", "s", (0.6,))}


def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, results: Results, *more: str):  # type: ignore[no-untyped-def]
    """The command, with a run that is over already; tests/e2e/test_bench_run.py has a real one."""
    monkeypatch.setattr(run, "measure", lambda options, on_step: results)
    return CliRunner().invoke(app, ["bench", "--output", str(tmp_path), *more])


def test_a_failed_step_ends_with_1_and_is_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "latest.json").write_text("the record before")
    found = bench(
        monkeypatch, tmp_path, Results(ABOUT, FIGURES, (), ("Redis: no socket", "noop: no Redis")), "--record"
    )
    assert found.exit_code == 1
    assert "Redis: no socket" in found.stdout
    assert found.stderr.strip() == "2 steps failed, and their rows are not measured"
    assert (tmp_path / "latest.json").read_text() == "the record before"
    assert len(list(tmp_path.glob("*-2026-11-22.json"))) == 1


def test_a_round_that_does_not_count_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = bench(monkeypatch, tmp_path, Results(ABOUT, FIGURES, ("noop: a round does not count",)), "--record")
    assert (found.exit_code, found.stderr) == (0, "")
    assert "noop: a round does not count" in found.stdout
    (written,) = tmp_path.glob("*-2026-11-22.json")
    assert (tmp_path / "latest.json").read_bytes() == written.read_bytes()


def test_a_quick_run_is_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = bench(monkeypatch, tmp_path, Results(ABOUT, FIGURES), "--record", "--quick")
    assert found.exit_code == 2
    assert "leave out --quick or --record" in " ".join(found.stderr.replace("│", "").split())
    assert list(tmp_path.iterdir()) == []
