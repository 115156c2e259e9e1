"""Who did what with which item when: the arrays that everything is learnt from."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import DTypeLike, NDArray

from models.data.checks import check_array
from models.data.errors import DatasetError

COLUMNS: dict[str, DTypeLike] = {
    "user_index": np.dtype(np.int32),
    "item_index": np.dtype(np.int32),
    "time_ms": np.dtype(np.int64),
    "event_type": np.dtype(np.uint8),
    "value": np.dtype(np.float32),
}


@dataclass(frozen=True, slots=True)
class Interactions:
    """M interactions, sorted by (user_index, time_ms, item_index, event_type).

    user_index, item_index: int32 [M].  time_ms: int64 [M], UTC.  event_type: uint8 [M], position in
    schema.event_types.  value: float32 [M].  context: int32 [M] each, 0 is missing or unknown.
    numeric: float32 [M] each.  Raises DatasetError where a shape, a dtype or the order is another.
    """

    user_index: NDArray[np.int32]
    item_index: NDArray[np.int32]
    time_ms: NDArray[np.int64]
    event_type: NDArray[np.uint8]
    value: NDArray[np.float32]
    context: dict[str, NDArray[np.int32]]
    numeric: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, dtype in COLUMNS.items():
            check_array(f"interactions/{name}", getattr(self, name), dtype, (len(self),))
        for name, codes in self.context.items():
            check_array(f"interactions/context/{name}", codes, np.int32, (len(self),))
        for name, values in self.numeric.items():
            check_array(f"interactions/numeric/{name}", values, np.float32, (len(self),))
        if not self._is_sorted():
            raise DatasetError("interactions: not sorted by (user_index, time_ms, item_index, event_type)")

    def __len__(self) -> int:
        return len(self.user_index)

    def where(self, mask: NDArray[np.bool_]) -> "Interactions":
        """Those that `mask`, bool [M], keeps."""
        return Interactions(
            **{name: getattr(self, name)[mask] for name in COLUMNS},
            context={name: codes[mask] for name, codes in self.context.items()},
            numeric={name: values[mask] for name, values in self.numeric.items()},
        )

    def before(self, time_ms: int) -> "Interactions":
        """Those strictly earlier than `time_ms`."""
        return self.where(self.time_ms < time_ms)

    def between(self, start_ms: int, end_ms: int) -> "Interactions":
        """Those in [start_ms, end_ms)."""
        return self.where((self.time_ms >= start_ms) & (self.time_ms < end_ms))

    def user_offsets(self, num_users: int) -> NDArray[np.int64]:
        """int64 [num_users + 1]: user u has the interactions [offsets[u], offsets[u + 1])."""
        return np.searchsorted(self.user_index, np.arange(num_users + 1)).astype(np.int64)

    def _is_sorted(self) -> bool:
        later = np.zeros(max(len(self) - 1, 0), np.bool_)  # already decided by an earlier key
        for key in (self.user_index, self.time_ms, self.item_index, self.event_type):
            left, right = key[:-1], key[1:]
            if bool(np.any(~later & (left > right))):
                return False
            later |= left < right
        return True
