"""What was shown to whom at which place when, and which interactions came of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from models.data.checks import check_array, check_range
from models.data.errors import DatasetError
from models.data.interactions import Interactions
from models.impressions import NO_LIST

MAX_POSITION = 1000  # as events count: from 1
NO_IMPRESSION = -1
COLUMNS: dict[str, DTypeLike] = {
    "user_index": np.dtype(np.int32),
    "item_index": np.dtype(np.int32),
    "time_ms": np.dtype(np.int64),
    "position": np.dtype(np.int32),
    "list_number": np.dtype(np.int64),
}


@dataclass(frozen=True, slots=True)
class Impressions:
    """n impressions, sorted by (user_index, time_ms), beside M interactions.

    user_index, item_index: int32 [n].  time_ms: int64 [n], UTC.  position: int32 [n], from 0.  list_number: int64 [n],
    a number for each recommendation, NO_LIST where it is unknown.  came_from: int64 [M], the row of the impression that
    each interaction is a click on, NO_IMPRESSION for the others.  click_window_ms: a click is at most this much later.
    Raises DatasetError where a shape, a dtype, the order or a position is another.
    """

    user_index: NDArray[np.int32]
    item_index: NDArray[np.int32]
    time_ms: NDArray[np.int64]
    position: NDArray[np.int32]
    list_number: NDArray[np.int64]
    came_from: NDArray[np.int64]
    click_window_ms: int

    def __post_init__(self) -> None:
        for name, dtype in COLUMNS.items():
            check_array(f"impressions/{name}.npy", getattr(self, name), dtype, (len(self),))
        check_array("impressions/came_from.npy", self.came_from, np.int64, (len(self.came_from),))
        check_range("impressions/position.npy", self.position, 0, MAX_POSITION)
        check_range("impressions/list_number.npy", self.list_number, NO_LIST, max(len(self), 1))
        check_range("impressions/came_from.npy", self.came_from, NO_IMPRESSION, len(self))
        users, times = self.user_index, self.time_ms
        if bool(np.any((users[:-1] > users[1:]) | ((users[:-1] == users[1:]) & (times[:-1] > times[1:])))):
            raise DatasetError("impressions: not sorted by (user_index, time_ms); prepare the data again")

    def __len__(self) -> int:
        return len(self.user_index)

    @property
    def clicked(self) -> NDArray[np.bool_]:
        """bool [n]: an interaction came of it."""
        found = np.zeros(len(self), np.bool_)
        found[self.came_from[self.came_from != NO_IMPRESSION]] = True
        return found

    def check_clicks(self, interactions: Interactions) -> None:
        """Raises DatasetError unless each click is of the impression's user and item, and within the window."""
        check_array("impressions/came_from.npy", self.came_from, np.int64, (len(interactions),))
        rows = np.flatnonzero(self.came_from != NO_IMPRESSION)
        shown = self.came_from[rows]
        later = interactions.time_ms[rows] - self.time_ms[shown]
        fits = (later >= 0) & (later <= self.click_window_ms)
        fits &= interactions.user_index[rows] == self.user_index[shown]
        fits &= interactions.item_index[rows] == self.item_index[shown]
        if not fits.all():
            raise DatasetError("impressions/came_from.npy: does not fit the interactions; prepare the data again")


def match_clicks(
    interactions: Interactions,
    user_index: NDArray[np.int32],
    item_index: NDArray[np.int32],
    time_ms: NDArray[np.int64],
    click_window_ms: int,
) -> NDArray[np.int64]:
    """Row of the impression that each interaction came from, int64 [M], NO_IMPRESSION where there is none.

    It is the newest one of the same user and item that is not later than the interaction and at most the window
    earlier; of equally new ones the last.  user_index, item_index, time_ms [n]: of the impressions.
    """
    num_items = 1 + max(int(interactions.item_index.max(initial=0)), int(item_index.max(initial=0)))
    pairs, pair = np.unique(user_index.astype(np.int64) * num_items + item_index, return_inverse=True)
    moments, moment = np.unique(time_ms, return_inverse=True)
    keys = pair * len(moments) + moment  # pair and rank of the time in one number, which sorts as the two do
    order = np.argsort(keys, kind="stable")
    wanted = interactions.user_index.astype(np.int64) * num_items + interactions.item_index
    place = np.searchsorted(pairs, wanted)
    not_later = np.searchsorted(moments, interactions.time_ms, side="right")
    newest = np.searchsorted(keys[order], place * len(moments) + not_later) - 1
    found = np.full(len(interactions), NO_IMPRESSION, np.int64)
    rows = np.flatnonzero(newest >= 0)
    shown = order[newest[rows]]
    kept = pairs[pair[shown]] == wanted[rows]
    kept &= interactions.time_ms[rows] - time_ms[shown] <= click_window_ms
    found[rows[kept]] = shown[kept]
    return found
