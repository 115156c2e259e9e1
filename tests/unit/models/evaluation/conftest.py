"""A dataset small enough to work out by hand: (user, item, day) triples over a ten-day window split at day 10."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from models.contract.columns import BytesColumn
from models.contract.schema import Schema
from models.data.dataset import Dataset, Interactions, Splits
from models.data.report import Report

DAY_MS = 86_400_000
Triples = Sequence[tuple[int, int, float]]


def build_dataset(triples: Triples, num_users: int, num_items: int, split_day: float = 10.0) -> Dataset:
    rows = sorted((user, round(day * DAY_MS), item) for user, item, day in triples)
    users, times, items = (np.array(column) for column in zip(*rows, strict=True))
    interactions = Interactions(
        user_index=users.astype(np.int32),
        item_index=items.astype(np.int32),
        time_ms=times.astype(np.int64),
        event_type=np.zeros(len(rows), np.uint8),
        value=np.ones(len(rows), np.float32),
        context={},
    )
    split_ms = round(split_day * DAY_MS)
    return Dataset(
        schema=Schema(event_types=["purchase"], seen_types=["purchase"]),
        splits=Splits(0, round(split_day * DAY_MS / 2), split_ms, 20 * DAY_MS),
        fingerprint="f" * 64,
        interactions=interactions,
        part=np.where(times < split_ms, 0, 2).astype(np.uint8),
        item_ids=BytesColumn.of(f"i{item}".encode() for item in range(num_items)),
        item_hashes=np.arange(num_items, dtype=np.uint64),
        item_categorical=np.zeros((num_items, 0), np.int32),
        item_numeric=np.zeros((num_items, 0), np.float32),
        user_ids=BytesColumn.of(f"u{user}".encode() for user in range(num_users)),
        user_categorical=np.zeros((num_users, 0), np.int32),
        user_numeric=np.zeros((num_users, 0), np.float32),
        item_fields={},
        item_filters={},
        report=Report.model_construct(),
        folder=Path(),
    )


@pytest.fixture
def make_dataset() -> Callable[..., Dataset]:
    return build_dataset
