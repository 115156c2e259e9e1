"""What every ranking model is built from."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class RankerInputs(NamedTuple):
    """The feature groups: categorical features by name with the size of their vocabulary, counts of numeric ones.

    user: the user's features, then the context's; computed once a request.  item: known at export.  cross: numbers of
    each candidate at request time.  catalogue: int64 [N, Fc], the categorical features of every item, for a model that
    reads histories; None where there are no histories.
    """

    user_sizes: Mapping[str, int]
    user_numeric: int
    item_sizes: Mapping[str, int]
    item_numeric: int
    cross: int
    catalogue: Tensor | None = None

    @property
    def user_fields(self) -> int:
        return len(self.user_sizes) + self.user_numeric

    @property
    def item_fields(self) -> int:
        return len(self.item_sizes) + self.item_numeric

    @property
    def fields(self) -> int:
        return self.user_fields + self.item_fields + self.cross
