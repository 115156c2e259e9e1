"""Tables of float rows that a bundle stores in fewer bits: as they are, halved, or as 8-bit codes."""

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from models.contract.kernels.chosen import kernels

Precision = Literal["fp32", "fp16", "int8"]
DTYPES: Final[dict[Precision, type[np.generic]]] = {"fp32": np.float32, "fp16": np.float16, "int8": np.int8}
SimilarityPrecision = Literal["fp32", "fp16", "fp8"]
SIMILARITY_DTYPES: Final[dict[SimilarityPrecision, type[np.generic]]] = {
    "fp32": np.float32,
    "fp16": np.float16,
    "fp8": np.uint8,
}
INT_TYPES: Final[dict[bool, tuple[type[np.integer[Any]], ...]]] = {
    True: (np.int8, np.int16, np.int32, np.int64),
    False: (np.uint8, np.uint16, np.uint32, np.uint64),
}  # by whether they have a sign, the smallest first
INT8_LIMIT = 127
FP8_SHIFT = 6  # of the 16 bits of a float16 below 2 the first two are zeros; the next eight are kept
FP8_MAX = 1.9375


@dataclass(frozen=True, slots=True)
class RowTable:
    """N rows of d numbers, read like a float32 array [N, d]: `table[items]` are float32 rows.

    stored: float32 or float16 [N, d], or int8 codes [N, d] in -127..127.  scales: float32 [d], what a code of each
    column is multiplied with; None unless the rows are codes. Rows of float32 come back as they are, bit for bit.
    """

    stored: NDArray[Any]
    scales: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, rows: NDArray[np.float32], precision: Precision) -> "RowTable":
        """rows: float32 [N, d], finite."""
        if precision == "int8":
            return cls(*int8_codes(rows))
        return cls(rows.astype(DTYPES[precision], copy=False))

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, items: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """The rows of these items, float32 [n, d]."""
        rows = kernels.take_rows(self.stored, items) if self._in_one_go(items) else self.stored[items]
        if self.scales is None:
            plain: NDArray[np.float32] = rows.astype(np.float32, copy=False)
            return plain
        scaled: NDArray[np.float32] = rows * self.scales
        return scaled

    def _in_one_go(self, items: Any) -> TypeGuard[NDArray[np.int64]]:
        """Whether they are item indices in one dimension, as a request's are, of a table in one piece."""
        is_plain = isinstance(items, np.ndarray) and items.ndim == 1 and items.dtype == np.int64
        return is_plain and self.stored.ndim == 2 and self.stored.flags.c_contiguous

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    @property
    def precision(self) -> Precision:
        return next(name for name, dtype in DTYPES.items() if self.stored.dtype == dtype)

    def sq8(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """The int8 codes as FAISS's SQ8 has them: its ranges float32 [2 d], and unsigned codes [N, d].

        FAISS reads code c as low + (c + 0.5) / 255 * width; with these ranges that is (c - 128) * scale.
        """
        assert self.scales is not None
        ranges = np.concatenate([-128.5 * self.scales, 255 * self.scales]).astype(np.float32)
        return ranges, self.stored.view(np.uint8) ^ np.uint8(128)

    def unmapped(self) -> "RowTable":
        """The same memory under a plain array: np.memmap costs microseconds at every indexing."""
        return RowTable(self.stored.view(np.ndarray), None if self.scales is None else self.scales.view(np.ndarray))


Rows = RowTable | NDArray[np.float32]  # what `rows[items]` gives float32 rows of


def int8_codes(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric codes int8 [N, d] in -127..127, and a scale for each column, float32 [d].

    A column's largest absolute value has the code 127 or -127: no value is clipped, the error is at most half a scale.
    """
    largest = np.abs(rows).max(axis=0, initial=0.0)
    scales = np.maximum(largest / INT8_LIMIT, np.finfo(np.float32).tiny).astype(np.float32)
    codes = np.clip(np.rint(rows / scales), -INT8_LIMIT, INT8_LIMIT)
    return codes.astype(np.int8), scales


def stored_similarity(values: NDArray[np.floating[Any]], precision: SimilarityPrecision) -> NDArray[Any]:
    """Similarities as a bundle stores them, any shape.

    fp8: floats of 8 bits without a sign, four of the exponent and four of the mantissa. The order stays: of two values
    the larger never has the smaller byte. From 6.1e-5 on the error is at most a thirty-second of the value, below
    it is at most 1.9e-6. Raises ValueError for values outside 0 to FP8_MAX.
    """
    if precision != "fp8":
        return values.astype(SIMILARITY_DTYPES[precision], copy=False)
    if not np.all((values >= 0) & (values <= FP8_MAX)):
        raise ValueError(f"only values from 0 to {FP8_MAX} can be stored in fp8")
    half = np.uint16(1 << (FP8_SHIFT - 1))
    return ((values.astype(np.float16).view(np.uint16) + half) >> FP8_SHIFT).astype(np.uint8)


def read_similarity(stored: NDArray[Any]) -> NDArray[Any]:
    """What was stored: float32 and float16 as they are, fp8 as float16 in an array of its own, which is exact."""
    if stored.dtype != SIMILARITY_DTYPES["fp8"]:
        return stored
    bits = stored.astype(np.uint16)
    bits <<= FP8_SHIFT
    values: NDArray[Any] = bits.view(np.float16)
    values.flags.writeable = False
    return values


def smallest_int(largest: int, *, signed: bool) -> np.dtype[Any]:
    """The smallest integer type that holds 0..largest, and -1 as well where it is signed."""
    return next(np.dtype(kind) for kind in INT_TYPES[signed] if np.iinfo(kind).max >= largest)
