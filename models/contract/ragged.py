"""Rows of different lengths: stored one behind the other, read as a rectangle whose rows are filled up."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def padded(counts: NDArray[np.integer[Any]], values: NDArray[Any], fill: float) -> NDArray[Any]:
    """Rows of `counts` values each, one behind the other in `values` [sum of counts], as a read-only array [N, m] of
    their type.  m: the longest row.  fill: what stands behind a row's own values."""
    taken = np.arange(counts.max(initial=0)) < counts[:, None]
    rows = np.full(taken.shape, fill, values.dtype)
    rows[taken] = values
    rows.flags.writeable = False
    return rows
