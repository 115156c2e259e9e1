"""Training pairs of models that see a user at one moment: what came before it, and an item that the user then took."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import Interactions
from models.retrieval.timeline import Timeline


@dataclass(frozen=True, slots=True)
class MomentBatch:
    """B moments. history, set_ordinal: int64 [B, L], see `models.contract.history.tower_input`.

    rows: int64 [B], the interaction just before which the moment is; it tells user and context.  targets: int64 [B],
    item indices.  weights: float32 [B].
    """

    rows: NDArray[np.int64]
    history: NDArray[np.int64]
    set_ordinal: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]


class UserMoments:
    """A moment just before each interaction whose user has an earlier one.

    The history is strictly earlier, so no interaction of the moment's own set of equal times is in it. The target is
    one of the user's interactions from that set up to `horizon_days` after it, as `HistoryWindows` has it; one with
    an item that the user had before the moment weighs `repeat_weight`.
    """

    def __init__(
        self,
        interactions: Interactions,
        length: int,
        rng: np.random.Generator,
        horizon_days: float = 0.0,
        repeat_weight: float = 1.0,
    ) -> None:
        """Raises ValueError where no user has interactions at two times."""
        self._at = at = Timeline.of(interactions, horizon_days)
        self._length, self._repeat_weight = length, repeat_weight
        self._items = interactions.item_index.astype(np.int64)
        # A window may cut a set: which of its items stay inside must not follow from the order of their ids.
        self._shuffled = self._items[np.lexsort((rng.random(len(self._items)), at.set_number))]
        self._rows = np.flatnonzero(at.set_start > at.user_start)
        if not len(self._rows):
            raise ValueError("no user has interactions at two times: there is no history to learn from; use more data")

    def __len__(self) -> int:
        return len(self._rows)

    def epoch(self, batch_size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """All moments in random order, split into batches."""
        order = rng.permutation(self._rows)
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def batch(self, rows: NDArray[np.int64], rng: np.random.Generator) -> MomentBatch:
        at, ends = self._at, self._at.set_start[rows, None]
        positions = ends - self._length + np.arange(self._length)
        real = positions >= at.user_start[rows, None]
        safe = np.where(real, positions, ends - 1)
        ordinal = np.where(real, at.set_number[rows, None] - at.set_number[safe], 0)
        low, high = at.set_start[rows], at.target_end[rows]
        chosen = low + (rng.random(len(rows)) * (high - low)).astype(np.int64)
        weights = np.where(at.first[chosen] < low, self._repeat_weight, 1.0).astype(np.float32)
        return MomentBatch(rows, np.where(real, self._shuffled[safe] + 1, 0), ordinal, self._items[chosen], weights)

    def target_share(self, num_items: int) -> NDArray[np.float64]:
        """The probability that a moment's target is each item, float64 [N]: exactly what batches are drawn with."""
        low, high = self._at.set_start[self._rows], self._at.target_end[self._rows]
        steps = np.zeros(len(self._items) + 1)
        np.add.at(steps, low, 1.0 / (high - low))
        np.add.at(steps, high, -1.0 / (high - low))
        # rounding may leave a position that is nobody's target a little off zero
        share = np.maximum(np.cumsum(steps)[:-1], 0.0) / len(self._rows)
        return np.bincount(self._items, weights=share, minlength=num_items).astype(np.float64)
