"""Bootstrap intervals over users (Efron 1979, percentile method).

Users are drawn with replacement and every column of values is averaged over the same draws, so differences between
columns are paired without further work.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95
_PERCENTILES = (2.5, 97.5)
_BLOCK_CELLS = 2**21  # draws held at once, about 50 MB with their counts


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the ends of its 95 % interval; all NaN where it is undefined."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    @classmethod
    def of(cls, value: float, resampled: NDArray[np.float64]) -> Self:
        """Percentile interval; undefined if the estimate is undefined in any resample."""
        if not (np.isfinite(value) and np.isfinite(resampled).all()):
            return cls(np.nan, np.nan, np.nan)
        low, high = np.percentile(resampled, _PERCENTILES)
        return cls(float(value), float(low), float(high))


UNDEFINED = Interval(np.nan, np.nan, np.nan)


def resampled_means(values: NDArray[np.float64], seed: int, num_resamples: int = NUM_RESAMPLES) -> NDArray[np.float64]:
    """Means of values [U, M] over users drawn with replacement, float64 [num_resamples, M]."""
    num_users = len(values)
    if not num_users:
        raise ValueError("no users to draw from; an interval needs at least one user")
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK_CELLS // num_users)
    means = np.empty((num_resamples, values.shape[1]), np.float64)
    for start in range(0, num_resamples, block):
        rows = min(block, num_resamples - start)
        drawn = rng.integers(0, num_users, size=(rows, num_users))
        drawn += np.arange(rows)[:, None] * num_users
        counts = np.bincount(drawn.ravel(), minlength=rows * num_users).reshape(rows, num_users)
        means[start : start + rows] = counts.astype(np.float64) @ values
    return means / num_users


def mean_interval(values: NDArray[np.float64], seed: int, num_resamples: int = NUM_RESAMPLES) -> Interval:
    """Interval of the mean of values [U], one a user."""
    return Interval.of(float(values.mean()), resampled_means(values[:, None], seed, num_resamples)[:, 0])


@dataclass(frozen=True, slots=True)
class Paired:
    """How a system differs from a reference on the same users: difference, and difference over the reference."""

    difference: Interval
    relative: Interval


def paired_interval(
    values: NDArray[np.float64], reference: NDArray[np.float64], seed: int, num_resamples: int = NUM_RESAMPLES
) -> Paired:
    """Paired intervals of mean(values) - mean(reference), and of that over mean(reference); both [U], same users."""
    if len(values) != len(reference):
        raise ValueError(f"{len(values)} users against {len(reference)}; paired values need the same users")
    means = resampled_means(np.column_stack([values, reference]), seed, num_resamples)
    return paired(float(values.mean()), float(reference.mean()), means[:, 0], means[:, 1])


def paired(
    value: float, reference: float, resampled: NDArray[np.float64], resampled_reference: NDArray[np.float64]
) -> Paired:
    """The same from means and their resampled means [R], drawn with one seed."""
    base = np.append(resampled_reference, reference)
    change = np.append(resampled, value) - base
    relative = np.divide(change, base, out=np.full(len(base), np.nan), where=base != 0)
    return Paired(Interval.of(value - reference, change[:-1]), Interval.of(float(relative[-1]), relative[:-1]))
