"""`shop` writes a small shop as CSV and reads its shortlist.toml; `prepared` prepares and opens it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from models.data.config import Config, load_config
from models.data.dataset import Dataset, load_dataset
from models.data.prepare import prepare_dataset

Shop = Callable[..., Config]
Prepare = Callable[[Config], Dataset]

DAYS = [f"2024-01-{day:02d}" for day in range(1, 31)]
# Thirty days: 10 of test, 9 of validation, 9 for the ranker, 2 before. Two users, two items.
LOG = ["user_id,item_id,timestamp"] + [f"u{i % 2},i{(i // 2) % 2},{day}" for i, day in enumerate(DAYS)]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    def write(
        log: Sequence[str] = LOG, toml: str = "", items: Sequence[str] | None = None, users: Sequence[str] | None = None
    ) -> Config:
        """toml: what follows the path of [interactions]; [split] is added unless it is there."""
        text = f'[interactions]\npath = "log.csv"\n{toml}\n'
        if "[split]" not in text:
            text += "[split]\ntest_days = 10\nvalid_days = 9\nranker_windows = 1\n"
        (tmp_path / "log.csv").write_text("\n".join(log) + "\n", "utf-8")
        for name, lines in (("items", items), ("users", users)):
            if lines is not None:
                (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n", "utf-8")
        (tmp_path / "shortlist.toml").write_text(text, "utf-8")
        return load_config(tmp_path / "shortlist.toml")

    return write


@pytest.fixture
def prepared(tmp_path: Path) -> Prepare:
    def run(config: Config) -> Dataset:
        return load_dataset(prepare_dataset(config, tmp_path / "data").folder)

    return run
