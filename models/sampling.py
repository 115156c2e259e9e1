"""Drawing negative items, with the probability that each was drawn with, which the loss needs to know."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Proposal:
    """A fixed distribution over items.  log_probability: float32 [N]."""

    log_probability: NDArray[np.float32]
    _cumulative: NDArray[np.float64]

    @classmethod
    def of_popularity(cls, popularity: NDArray[np.float64], power: float) -> "Proposal":
        """Probabilities proportional to (popularity + 1/2) to this power; 0 is uniform.  popularity: [N], not negative.

        The half keeps an item without interactions from never being drawn.
        """
        weights = (popularity + 0.5) ** power
        cumulative = np.cumsum(weights / weights.sum())
        cumulative[-1] = 1.0  # the sum of the weights may end a rounding error below
        return cls(np.log(np.diff(cumulative, prepend=0.0)).astype(np.float32), cumulative)

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Items int64 [count], independent draws."""
        return np.searchsorted(self._cumulative, rng.random(count), side="right").astype(np.int64)
