"""A dataset small enough to work out by hand: (user, item, day) triples over a ten-day window split at day 10."""

from collections.abc import Callable, Sequence

import pytest

from models.data.dataset import Dataset, Splits
from tests.tiny_dataset import DAY_MS, dataset_of

Triples = Sequence[tuple[int, int, float]]


def build_dataset(triples: Triples, num_users: int, num_items: int, split_day: float = 10.0) -> Dataset:
    rows = sorted((user, round(day * DAY_MS), item) for user, item, day in triples)
    splits = Splits(0, round(split_day * DAY_MS / 2), round(split_day * DAY_MS), 20 * DAY_MS)
    return dataset_of(rows, num_users, num_items, splits)


@pytest.fixture
def make_dataset() -> Callable[..., Dataset]:
    return build_dataset
