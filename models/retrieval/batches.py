"""Training batches of the retrieval model: windows of histories, the moments asked about, and their targets."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import Interactions
from models.retrieval.timeline import Timeline

SORTED_BATCHES = 32  # so many batches at a time are sorted by the length of their windows


@dataclass(frozen=True, slots=True)
class Batch:
    """history int64 [B, L] (item_index + 1, 0 is padding, newest last), set_ordinal int64 [B, L] (1 is the newest set
    of the window), targets int64 [B, L] item indices, weights float32 [B, L] (0 where there is nothing to learn). L is
    the length of the longest window.  users int64 [B].

    The moment asked about at position p is set_ordinal[p]: its query sees strictly earlier sets only.
    """

    history: NDArray[np.int64]
    set_ordinal: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
    users: NDArray[np.int64]


class HistoryWindows:
    """Windows over every user's interactions, oldest first, with a fresh random order inside each set of equal times.

    A target is an interaction of the same user from the set itself up to `horizon_days` after it: with 0 days, of the
    set itself, which is next-item training; with more, what the user goes on to take (the dense all-action loss of
    PinnerFormer, Pancha et al. 2022).  Interactions with an item the user had before the moment weigh `repeat_weight`.
    """

    def __init__(
        self,
        interactions: Interactions,
        length: int,
        horizon_days: float = 0.0,
        repeat_weight: float = 1.0,
    ) -> None:
        """interactions: sorted by (user_index, time_ms)."""
        self._items = interactions.item_index.astype(np.int64)
        self._users = interactions.user_index.astype(np.int64)
        self.length, self.repeat_weight = length, repeat_weight
        self._at = Timeline.of(interactions, horizon_days)
        self._ends = _window_ends(self._at.user_start, self._at.user_end, length)

    def __len__(self) -> int:
        """Windows of one epoch."""
        return len(self._ends)

    def epoch(self, batch_size: int, rng: np.random.Generator) -> "list[NDArray[np.int64]]":
        """The windows' end positions, split into batches of similar length, in random order; the last may be smaller.

        A batch is as wide as its longest window; sorted by length, some batches at a time, windows need little padding.
        """
        order = rng.permutation(self._ends)
        batches: list[NDArray[np.int64]] = []
        for start in range(0, len(order), SORTED_BATCHES * batch_size):
            chunk = order[start : start + SORTED_BATCHES * batch_size]
            chunk = chunk[np.argsort(-self._lengths(chunk), kind="stable")]
            batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
        return [*(batches[number] for number in rng.permutation(len(batches) - 1)), batches[-1]]

    def batch(self, ends: NDArray[np.int64], rng: np.random.Generator, rows: slice = slice(None)) -> Batch:
        """The windows that end just before the given positions, each moved at random by up to half its length.

        rows: the windows to make, where other processes make the others of the same batch.
        """
        ends = self._jitter(ends, rng)
        length = int(self._lengths(ends).max())
        shuffle, choice = rng.random((2, len(ends), length))[:, rows]
        ends = ends[rows]
        positions = ends[:, None] - length + np.arange(length)
        at = self._at
        starts = at.user_start[ends - 1]
        real = positions >= starts[:, None]
        safe = np.where(real, positions, ends[:, None] - 1)
        order = np.lexsort((shuffle, at.set_number[safe], real), axis=-1)  # shuffle inside each set
        safe, real = np.take_along_axis(safe, order, 1), np.take_along_axis(real, order, 1)
        newest = at.set_number[ends - 1]
        ordinal = np.where(real, _dense_from_newest(at.set_number[safe], newest), 0)
        low, high = at.set_start[safe], at.target_end[safe]
        chosen = low + (choice * (high - low)).astype(np.int64)
        repeat = at.first[chosen] < low
        # The oldest set of a window sees nothing of what came before it: it teaches only at the start of a user.
        oldest = (at.set_number[safe] == at.set_number[safe[:, :1]]) | ~real
        starts_user = (positions[:, :1] <= starts[:, None]) & real
        usable = real & (~oldest | starts_user)
        weights = np.where(usable, np.where(repeat, self.repeat_weight, 1.0), 0.0).astype(np.float32)
        history = np.where(real, self._items[safe] + 1, 0)
        return Batch(history, ordinal, self._items[chosen], weights, self._users[ends - 1])

    def users(self, ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of the windows that end just before the given positions."""
        return self._users[ends - 1]

    def _jitter(self, ends: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Full windows move either way, within what the user has; so the newest interactions are in most windows."""
        shift = rng.integers(-(self.length // 2), self.length // 2 + 1, len(ends))
        first_full = self._at.user_start[ends - 1] + self.length
        moved = np.minimum(np.maximum(ends + shift, first_full), self._at.user_end[ends - 1])
        return np.where(ends > first_full, moved, ends)

    def _lengths(self, ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Interactions in the windows that end just before the given positions."""
        lengths: NDArray[np.int64] = np.minimum(ends - self._at.user_start[ends - 1], self.length)
        return lengths


def _window_ends(user_start: NDArray[np.int64], user_end: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Ends of windows that cover every user from the newest interaction backwards."""
    begins = np.unique(user_start)
    ends = user_end[begins]
    counts = -(-(ends - begins) // length)
    which = np.repeat(np.arange(len(begins)), counts)
    number = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    windows: NDArray[np.int64] = ends[which] - number * length
    return windows


def _dense_from_newest(sets: NDArray[np.int64], newest: NDArray[np.int64]) -> NDArray[np.int64]:
    """Set numbers are consecutive within a user, so the ordinal from the newest is a difference."""
    return newest[:, None] - sets + 1
