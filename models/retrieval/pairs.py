"""The binary user-item matrix: who interacted with what, each pair once."""

import numpy as np
import torch
from torch import Tensor

from models.data.dataset import Dataset
from models.positives import Positives


def interaction_matrix(dataset: Dataset, until_ms: int) -> Tensor:
    """Of everything before until_ms: see `user_item_matrix`. Raises ValueError when there is nothing."""
    return user_item_matrix(interaction_pairs(dataset, until_ms))


def interaction_pairs(dataset: Dataset, until_ms: int) -> Positives:
    """Raises ValueError when there is no interaction before until_ms."""
    past = dataset.interactions.before(until_ms)
    if not len(past):
        raise ValueError("interactions: there are none before the moment to train up to; use more data")
    users, items = past.user_index.astype(np.int64), past.item_index.astype(np.int64)
    return Positives.of(users, items, dataset.num_users, dataset.num_items)


def user_item_matrix(pairs: Positives) -> Tensor:
    """Sparse float32 [U, N] of ones, coalesced: `indices()` are the pairs by user, then item."""
    indices = torch.from_numpy(np.stack(pairs.pairs()))
    shape = pairs.num_users, pairs.num_items
    return torch.sparse_coo_tensor(
        indices, torch.ones(indices.shape[1]), shape, is_coalesced=True, check_invariants=True
    )
