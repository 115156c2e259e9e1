"""The figure of early stopping: NDCG@10 worked by hand on a catalogue of three items, and a window without targets."""

import numpy as np
import pytest
import torch
from tiny_dataset import DAY_MS, dataset_of
from torch import Tensor

from models.data.dataset import Dataset, Splits
from models.retrieval.model import RetrievalModel
from models.retrieval.validate import validator
from models.targets import Window

SPLITS = Splits(0, 105 * DAY_MS, 106 * DAY_MS, 107 * DAY_MS)


class Fixed(RetrievalModel):
    """Everyone gets item 0 before item 1 before item 2."""

    history_length = 4

    def forward(self, history: Tensor, set_ordinal: Tensor, *user_features: Tensor) -> Tensor:
        return torch.ones(len(history), 1)

    def item_vectors(self) -> Tensor:
        return torch.tensor([[3.0], [2.0], [1.0]])


def shop(last: int) -> Dataset:
    """User 0 took item 0, and in the window the given one."""
    return dataset_of([(0, 101 * DAY_MS, 0), (0, 105 * DAY_MS, last)], num_users=1, num_items=3, splits=SPLITS)


def test_a_catalogue_of_fewer_than_ten_items() -> None:
    """Item 2 is third of all, and second of those that the user has not."""
    dataset = shop(last=2)
    window = Window.validation(dataset)
    assert validator(dataset, window, "all", 4)(Fixed()) == pytest.approx(1 / np.log2(1 + 3))
    assert validator(dataset, window, "new", 4)(Fixed()) == pytest.approx(1 / np.log2(1 + 2))


def test_a_window_without_targets_says_what_is_missing() -> None:
    """Item 0 again is something to find, but nothing new."""
    dataset = shop(last=0)
    window = Window.validation(dataset)
    assert validator(dataset, window, "all", 4)(Fixed()) == 1.0
    with pytest.raises(ValueError, match="nobody known before the window 'validation' took a new item in it"):
        validator(dataset, window, "new", 4)
    nobody = Window("late", 108 * DAY_MS, 109 * DAY_MS)
    with pytest.raises(ValueError, match="nobody known before the window 'late' took an item in it"):
        validator(dataset, nobody, "all", 4)
