"""Checks of arrays read from disk. Each raises DatasetError with the name of what is wrong."""

import numpy as np
from numpy.typing import DTypeLike, NDArray

from models.contract.columns import BytesColumn
from models.data.errors import DatasetError


def check_array(name: str, array: NDArray[np.generic], dtype: DTypeLike, shape: tuple[int, ...]) -> None:
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        found = f"{array.dtype} {list(array.shape)}"
        raise DatasetError(f"{name}: {np.dtype(dtype)} {list(shape)} expected, found {found}; prepare the data again")


def check_range(name: str, array: NDArray[np.generic], low: int, high: int) -> None:
    """All values in [low, high)."""
    if array.size and not (low <= array.min() and array.max() < high):
        raise DatasetError(
            f"{name}: values from {low} to {high - 1} expected, found {array.min()} to {array.max()}; prepare again"
        )


def check_codes(name: str, codes: NDArray[np.int32], length: int, sizes: list[int]) -> None:
    """int32 [length, len(sizes)], column i in [0, sizes[i])."""
    check_array(name, codes, np.int32, (length, len(sizes)))
    for column, size in enumerate(sizes):
        check_range(f"{name} column {column}", codes[:, column], 0, size)


def check_numeric(name: str, values: NDArray[np.float32], length: int, width: int) -> None:
    """float32 [length, width], all finite."""
    check_array(name, values, np.float32, (length, width))
    if not np.isfinite(values).all():
        raise DatasetError(f"{name}: has values that are not finite; prepare the data again")


def check_strings(name: str, column: BytesColumn, length: int) -> None:
    if len(column) != length:
        raise DatasetError(f"{name}: {length} strings expected, found {len(column)}; prepare the data again")
    ascending = bool((np.diff(column.offsets) >= 0).all())
    if column.offsets[0] != 0 or column.offsets[-1] != len(column.data) or not ascending:
        raise DatasetError(f"{name}: offsets do not match the data; prepare the data again")


def check_edges(name: str, edges: NDArray[np.int32], length: int) -> None:
    """int32 [E, 2], pairs of different indices in [0, length), the smaller first, sorted, each once."""
    check_array(name, edges, np.int32, (len(edges), 2))
    check_range(name, edges, 0, length)
    ordered = bool((edges[:, 0] < edges[:, 1]).all())
    keys = edges[:, 0].astype(np.int64) * length + edges[:, 1]
    if not ordered or bool((keys[:-1] >= keys[1:]).any()):
        raise DatasetError(f"{name}: pairs are not sorted or not distinct; prepare the data again")


def check_ascending(name: str, array: NDArray[np.uint64]) -> None:
    if bool((array[:-1] >= array[1:]).any()):
        raise DatasetError(f"{name}: not strictly ascending; prepare the data again")
