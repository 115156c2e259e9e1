"""How an item sells, as known at a moment: numeric item features of the ranker."""

import numpy as np
from numpy.typing import NDArray

from models.contract.features import DAY_MS
from models.data.dataset import Interactions

NAMES = ("log_users", "log_count_28d", "log_count_7d", "trend_7d", "trend_28d", "repeat_share", "log_age_days")


def item_stats(past: Interactions, num_items: int, now_ms: int) -> NDArray[np.float32]:
    """float32 [N, len(NAMES)] from interactions that all lie before now_ms; zeros for an item without any."""
    item = past.item_index

    def count(days: float | None, until_days: float = 0.0) -> NDArray[np.float64]:
        recent = past.time_ms < now_ms - until_days * DAY_MS
        if days is not None:
            recent &= past.time_ms >= now_ms - days * DAY_MS
        return np.bincount(item[recent], minlength=num_items).astype(np.float64)

    total, last_7d, last_28d = count(None), count(7), count(28)
    pairs = np.unique(past.user_index.astype(np.int64) * num_items + item)
    users = np.bincount(pairs % num_items, minlength=num_items).astype(np.float64)
    newest = np.zeros(num_items)
    np.maximum.at(newest, item, (past.time_ms - (now_ms - 400 * DAY_MS)) / DAY_MS)
    columns = [
        np.log1p(users) / 5.0,
        np.log1p(last_28d) / 5.0,
        np.log1p(last_7d) / 4.0,
        np.log((last_7d + 1.0) / (count(28, 7) / 3.0 + 1.0)),
        np.log((last_28d + 1.0) / (count(56, 28) + 1.0)),
        np.where(total > 0, 1.0 - users / np.maximum(total, 1.0), 0.0),
        np.where(total > 0, np.log1p(np.clip(400.0 - newest, 0.0, 400.0)) / 3.0, 0.0),
    ]
    return np.stack(columns, axis=1).astype(np.float32)
