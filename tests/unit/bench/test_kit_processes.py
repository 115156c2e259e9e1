"""Processes of the benchmark: on their cores, waited for, and gone afterwards whatever happens."""

import os
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bench.kit.cpu import Life, is_alive, lives
from bench.kit.processes import CannotRun, Running, answers, clean_environment, free_port, running

REPORT_CORES = "import os, time; print(sorted(os.sched_getaffinity(0)), flush=True); time.sleep(60)"
# does not hear SIGTERM, and has a child in a session of its own
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print("up", flush=True)
time.sleep(60)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_process_runs_on_its_cores_and_the_benchmark_on_its_own(tmp_path: Path) -> None:
    own = os.sched_getaffinity(0)
    core, log = max(own), tmp_path / "log"
    with running(python(REPORT_CORES), log=log, cores=[core], ready=lambda: log.read_text() != ""):
        assert log.read_text() == f"[{core}]\n"
        assert os.sched_getaffinity(0) == own


def test_a_process_that_ends_at_once_is_reported_with_what_it_said(tmp_path: Path) -> None:
    code = "import sys; print('one'); sys.exit('no such folder')"
    with pytest.raises(CannotRun, match=r"ended with code 1: .*no such folder"), _never_ready(code, tmp_path, 30.0):
        pass


def test_a_process_that_is_never_ready_is_stopped(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with (
        pytest.raises(CannotRun, match=r"was not ready after 0\.5 s: it printed nothing"),
        _never_ready(code, tmp_path, 0.5),
    ):
        pass
    assert not Path(f"/proc/{pid_file.read_text()}").exists()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, RuntimeError])
def test_whatever_ends_the_block_nothing_is_left(tmp_path: Path, error: type[BaseException] | None) -> None:
    """Neither a process that ignores SIGTERM nor its child in another session."""
    log = tmp_path / "log"
    family: set[Life] = set()

    def block() -> None:
        with running(
            python(STUBBORN), log=log, ready=lambda: log.read_text() == "up\n", stop_timeout_s=0.1
        ) as stubborn:
            family.update(lives([stubborn.process.pid]))
            if error is not None:
                raise error

    if error is None:
        block()
    else:
        with pytest.raises(error):
            block()
    assert len(family) == 2
    _gone(family)


def test_what_a_killed_process_leaves_behind_is_stopped_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(python(STUBBORN), log=log, ready=lambda: log.read_text() == "up\n") as stubborn:
        family = lives([stubborn.process.pid])
        stubborn.process.kill()
        stubborn.process.wait()
        assert sum(map(is_alive, family)) == 1
    _gone(family)


def test_when_the_benchmark_is_killed_its_processes_end(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bench.kit.processes import start_pinned; "
        f"start_pinned([sys.executable, '-c', 'import time; time.sleep(60)'], log=Path({str(tmp_path / 'log')!r})); "
        "print('up', flush=True); import time; time.sleep(60)"
    )
    log = tmp_path / "benchmark.log"
    with running(python(code), log=log, ready=lambda: log.read_text() == "up\n") as benchmark:
        family = lives([benchmark.process.pid])
        assert len(family) == 2
        benchmark.process.kill()
        benchmark.process.wait()
        _gone(family)


def test_nobody_listens_on_a_free_port() -> None:
    assert not answers(f"http://127.0.0.1:{free_port()}/readyz")


def test_settings_of_the_service_are_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORTLIST_PORT", "1")
    monkeypatch.setenv("shortlist_workers", "9")
    found = clean_environment(SHORTLIST_WORKERS=2)
    assert {name: value for name, value in found.items() if name.lower().startswith("shortlist_")} == {
        "SHORTLIST_WORKERS": "2"
    }
    assert found["OMP_NUM_THREADS"] == "1"


def _never_ready(code: str, folder: Path, timeout_s: float) -> AbstractContextManager[Running]:
    return running(python(code), log=folder / "log", ready=lambda: False, start_timeout_s=timeout_s)


def _gone(family: set[Life]) -> None:
    """SIGKILL was sent; the kernel may take a moment."""
    deadline = time.monotonic() + 30
    while any(map(is_alive, family)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
