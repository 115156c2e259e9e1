"""The sizing kit from end to end: a small catalogue, every step of a quick run, and files that hold its ratios."""

from functools import partial
from pathlib import Path

import orjson
import pytest

from bench.kit import run, session
from bench.kit.ratios import RATIOS
from bench.kit.report import write
from bench.kit.session import Options
from bench.kit.worlds import build_world

WITHOUT = {"rps_vs_noop_1m", "naive_cpu_over_ours_1m", "cpu_over_implicit", "retrieval_1m_vs_flat"}
WITHOUT |= {"second_worker_memory", "load_1m_s"}  # a quick run has one catalogue and no demo


def test_a_quick_run_measures_every_ratio_of_its_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One round of each, of a second: what it says is noise, that it says it is not. In a folder that is named as by
    default, from where the command runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(session.SIZES, "60k", 600)
    monkeypatch.setattr(run, "build_world", partial(build_world, num_users=300))
    told: list[tuple[str, float, float]] = []
    options = Options(Path("bench"), sizes=("60k",), rounds=1, seconds=1.0, quick=True)
    results = run.measure(options, lambda text, done, total: told.append((text, done, total)))
    # on a machine that does something else a round may not count, and the run says so: that is no failure of its steps
    assert results.failed == ()
    disturbed = [text for text in results.missing if "does not count" in text or "never sent" in text]
    assert disturbed == list(results.missing)
    assert disturbed or {ratio.name for ratio in RATIOS} - set(results.ratios) == WITHOUT
    assert all(figure.value > 0 for figure in results.figures.values() if not figure.name.startswith("redis_us"))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1][1] == told[-1][2]
    written = write(results, Path("results"), record=True)
    assert orjson.loads(written[0].read_bytes())["ratios"].keys() == results.ratios.keys()
