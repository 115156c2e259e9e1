"""The import rules in pyproject.toml say all that they mean to; import-linter checks them in `make check`."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_service_is_kept_from_every_module_of_models_but_the_contract() -> None:
    """import-linter's wildcards cannot leave one package out, so the list is written down."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    [rule] = [one for one in contracts if one["name"] == "The service reaches only the contract of models"]
    modules = {f"models.{path.stem}" for path in (ROOT / "models").iterdir() if (path / "__init__.py").is_file()}
    modules |= {f"models.{path.stem}" for path in (ROOT / "models").glob("*.py")}
    assert rule["forbidden_modules"] == sorted(modules - {"models.__init__", "models.contract"})


def test_a_worker_imports_without_the_garbage_collector_and_runs_with_it() -> None:
    script = """
import gc, sys
runs = []
gc.callbacks.append(lambda phase, _: runs.append(phase) if phase == "start" else None)
import app.no_gc
runs.clear()
import app.worker
print(len(runs), gc.isenabled())
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
    runs, is_on = told.split()
    assert int(runs) <= 1, "at most as it is turned on again"
    assert is_on == "True"
