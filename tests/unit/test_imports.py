"""The import rules in pyproject.toml say all that they mean to; import-linter checks them in `make check`."""

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
