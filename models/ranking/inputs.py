"""What every ranking model is built from."""

from collections.abc import Mapping
from typing import NamedTuple


class RankerInputs(NamedTuple):
    """The feature groups: categorical features by name with the size of their vocabulary, counts of numeric ones.

    user: the user's features, then the context's; computed once a request.  item: known at export.  cross: numbers of
    each candidate at request time.
    """

    user_sizes: Mapping[str, int]
    user_numeric: int
    item_sizes: Mapping[str, int]
    item_numeric: int
    cross: int

    @property
    def user_fields(self) -> int:
        return len(self.user_sizes) + self.user_numeric

    @property
    def item_fields(self) -> int:
        return len(self.item_sizes) + self.item_numeric

    @property
    def fields(self) -> int:
        return self.user_fields + self.item_fields + self.cross
