"""What every ranking model is built from."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.contract.schema import MultiFeature
from models.data.dataset import Dataset

USER_ID, ITEM_ID = "user_id", "item_id"  # the names of the ids as features


class MultiField(NamedTuple):
    """A multi-valued feature.  size: of its vocabulary, the padding included.  length: columns that its codes have."""

    size: int
    length: int


class Fields(NamedTuple):
    """One side's fields, in this order: categorical features with the size of their vocabulary, multi-valued ones, both
    by name, and a count of numbers."""

    sizes: Mapping[str, int]
    numeric: int
    multi: Mapping[str, MultiField]

    @property
    def total(self) -> int:
        """A multi-valued feature is one field."""
        return len(self.sizes) + len(self.multi) + self.numeric

    @property
    def columns(self) -> list[tuple[str, int]]:
        """Name and size of the feature that each column of the codes is of: a multi-valued one has several."""
        return [
            *self.sizes.items(),
            *((name, field.size) for name, field in self.multi.items() for _ in range(field.length)),
        ]


class RankerInputs(NamedTuple):
    """The feature groups: categorical features by name with the size of their vocabulary, counts of numeric ones.

    user: the user's features, then the context's; computed once a request.  item: known at export.  cross: numbers of
    each candidate at request time.  catalogue: int64 [N, C], see `item_codes`, for a model that reads histories; None
    where there are no histories.  item_multi: the multi-valued features, which only items have.
    """

    user_sizes: Mapping[str, int]
    user_numeric: int
    item_sizes: Mapping[str, int]
    item_numeric: int
    cross: int
    catalogue: Tensor | None = None
    item_multi: Mapping[str, MultiField] = {}

    @property
    def user(self) -> Fields:
        return Fields(self.user_sizes, self.user_numeric, {})

    @property
    def item(self) -> Fields:
        return Fields(self.item_sizes, self.item_numeric, self.item_multi)

    @property
    def user_fields(self) -> int:
        return self.user.total

    @property
    def item_fields(self) -> int:
        return self.item.total

    @property
    def fields(self) -> int:
        return self.user_fields + self.item_fields + self.cross


def item_codes(dataset: Dataset) -> Tensor:
    """What the item's side takes of every item: int64 [N, C], a column for each categorical feature, then for each
    multi-valued one its codes, padded with 0."""
    multi = [dataset.item_multi[feature.name] for feature in dataset.schema.of_items(MultiFeature)]
    return torch.from_numpy(np.concatenate([dataset.item_categorical, *multi], axis=1).astype(np.int64))
