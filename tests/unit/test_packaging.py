"""A wheel has what the packages need at run time: the images are made from one."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "bench", "cli", "export", "models")
COMPILED = (".pyx", ".c", ".so")  # setup.py names the source; setuptools puts the library that it makes into the wheel
RUNS = ROOT / "bench" / "results"  # what was measured: read by people, by no command


def test_every_file_of_a_package_is_in_the_wheel() -> None:
    """setuptools takes Python files by itself and other files only where a pattern names them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    patterns = settings["package-data"]["*"]
    data = [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".py", *COMPILED)
        if RUNS not in path.parents
    ]
    assert {path.name for path in data} >= {"apply_events.lua", "demo.toml"}
    assert [path.name for path in data if not any(path.match(pattern) for pattern in patterns)] == []


def test_every_folder_of_python_files_is_a_package() -> None:
    """A folder without __init__.py would be left out."""
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_wheel_has_every_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    assert sorted(settings["packages"]["find"]["include"]) == sorted(f"{package}*" for package in PACKAGES)
