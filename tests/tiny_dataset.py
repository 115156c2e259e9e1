"""Datasets made in memory, without preparing files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.contract.columns import BytesColumn
from models.contract.schema import Schema
from models.data.dataset import Dataset, Interactions, Splits
from models.data.report import Report

DAY_MS = 86_400_000
SPLIT_MS = 1000 * DAY_MS


def dataset_of(rows: Sequence[tuple[int, int, int]], num_users: int, num_items: int, splits: Splits) -> Dataset:
    """Interactions (user, time in ms, item), in this order; no features."""
    users, times, items = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    starts = [splits.valid_start_ms, splits.test_start_ms]
    return Dataset(
        schema=Schema(event_types=["purchase"], seen_types=["purchase"]),
        splits=splits,
        fingerprint="f" * 64,
        interactions=Interactions(
            user_index=users.astype(np.int32),
            item_index=items.astype(np.int32),
            time_ms=times,
            event_type=np.zeros(len(rows), np.uint8),
            value=np.ones(len(rows), np.float32),
            context={},
        ),
        part=np.digitize(times, starts).astype(np.uint8),
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


def tiny_dataset(pairs: Sequence[tuple[int, int]], num_users: int, num_items: int) -> Dataset:
    """Each user's (user, item) pairs in their order, one a day, all before SPLIT_MS."""
    ordered = sorted(pairs, key=lambda pair: pair[0])
    users = [user for user, _ in ordered]
    rows = [(user, (place - users.index(user)) * DAY_MS, item) for place, (user, item) in enumerate(ordered)]
    return dataset_of(rows, num_users, num_items, Splits(SPLIT_MS // 2, SPLIT_MS, SPLIT_MS, SPLIT_MS + DAY_MS))
