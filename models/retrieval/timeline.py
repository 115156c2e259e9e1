"""Where an interaction stands among its user's: its set of equal times, and what comes after it."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import Interactions

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Timeline:
    """Int64 [M] each, for M interactions sorted by (user_index, time_ms).

    user_start, user_end: the interactions of the same user, from a position up to but without the other.
    set_number: of the set of one user's equal times, ascending.  set_start: the set's first position.
    target_end: end of the same user's interactions from the set itself up to the horizon after it.
    first: position of the user's first interaction with the same item.
    """

    user_start: NDArray[np.int64]
    user_end: NDArray[np.int64]
    set_number: NDArray[np.int64]
    set_start: NDArray[np.int64]
    target_end: NDArray[np.int64]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, interactions: Interactions, horizon_days: float) -> Self:
        """Raises ValueError when there are no interactions."""
        user, time = interactions.user_index.astype(np.int64), interactions.time_ms
        if not len(user):
            raise ValueError("no interactions to train on: the training window is empty")
        new_user = np.r_[True, user[1:] != user[:-1]]
        new_set = new_user | np.r_[True, time[1:] != time[:-1]]
        set_number = np.cumsum(new_set) - 1
        users_before = np.cumsum(new_user)
        begins = np.flatnonzero(new_user)
        user_end = np.r_[begins[1:], len(user)][users_before - 1]
        horizon_ms = int(horizon_days * DAY_MS)
        span = int(time.max() - time.min()) + horizon_ms + 1
        key = user * span + (time - time.min())  # one ascending key: users never overlap
        return cls(
            user_start=begins[users_before - 1],
            user_end=user_end,
            set_number=set_number,
            set_start=np.flatnonzero(new_set)[set_number],
            target_end=np.minimum(np.searchsorted(key, key + horizon_ms, side="right"), user_end),
            first=_first_occurrence(user, interactions.item_index.astype(np.int64)),
        )


def _first_occurrence(user: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.int64]:
    key = user * (int(items.max()) + 1) + items
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    found: NDArray[np.int64] = first[inverse]
    return found
