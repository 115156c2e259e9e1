"""A dataset made in memory from (user, item) pairs, without preparing files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.contract.columns import BytesColumn
from models.contract.schema import Schema
from models.data.dataset import Dataset, Interactions, Splits
from models.data.report import Report

DAY_MS = 86_400_000
SPLIT_MS = 1000 * DAY_MS


def tiny_dataset(pairs: Sequence[tuple[int, int]], num_users: int, num_items: int) -> Dataset:
    """Each user's pairs in their order, one a day, all before SPLIT_MS."""
    users = np.array([user for user, _ in pairs], np.int32)
    order = np.argsort(users, kind="stable")
    users = users[order]
    return Dataset(
        schema=Schema(event_types=["purchase"], seen_types=["purchase"]),
        splits=Splits(SPLIT_MS // 2, SPLIT_MS, SPLIT_MS, SPLIT_MS + DAY_MS),
        fingerprint="f" * 64,
        interactions=Interactions(
            user_index=users,
            item_index=np.array([item for _, item in pairs], np.int32)[order],
            time_ms=(np.arange(len(users)) - np.searchsorted(users, users)) * DAY_MS,
            event_type=np.zeros(len(users), np.uint8),
            value=np.ones(len(users), np.float32),
            context={},
        ),
        part=np.zeros(len(users), np.uint8),
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
