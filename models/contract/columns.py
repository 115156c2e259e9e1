"""A column of strings that can be memory-mapped: all bytes in one array, and where each string starts."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract.kernels.chosen import kernels
from models.contract.tables import smallest_int


@dataclass(frozen=True, slots=True)
class BytesColumn:
    """n byte strings.  data: uint8 [total].  offsets: integers [m + 1], string i is data[offsets[i]:offsets[i + 1]].

    codes: unsigned integers [n], where values repeat: the i-th string is string codes[i] of the m distinct ones. None
    where every string is stored, and m is n.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[Any]
    codes: NDArray[Any] | None = None

    @classmethod
    def of(cls, values: Iterable[bytes]) -> "BytesColumn":
        parts = list(values)
        offsets = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        return cls(np.frombuffer(b"".join(parts), np.uint8), offsets)

    @classmethod
    def load(cls, folder: Path, name: str) -> "BytesColumn":
        """Memory-map the two or three files that `save` wrote."""
        codes = folder / f"{name}.codes.npy"
        return cls(
            np.load(folder / f"{name}.data.npy", mmap_mode="r", allow_pickle=False),
            np.load(folder / f"{name}.offsets.npy", mmap_mode="r", allow_pickle=False),
            np.load(codes, mmap_mode="r", allow_pickle=False) if codes.is_file() else None,
        )

    def save(self, folder: Path, name: str) -> None:
        np.save(folder / f"{name}.data.npy", self.data)
        np.save(folder / f"{name}.offsets.npy", self.offsets)
        if self.codes is not None:
            np.save(folder / f"{name}.codes.npy", self.codes)

    def compact(self) -> "BytesColumn":
        """The same strings in fewer bytes: the smallest offsets, and each distinct string once where that is less."""
        values = [self[index] for index in range(len(self))]
        distinct = sorted(set(values))
        each, once = _small_offsets(BytesColumn.of(values)), _small_offsets(BytesColumn.of(distinct))
        places = {value: place for place, value in enumerate(distinct)}
        codes = np.array([places[value] for value in values], smallest_int(len(distinct), signed=False))
        coded = BytesColumn(once.data, once.offsets, codes)
        return coded if coded.nbytes < each.nbytes else each

    @property
    def nbytes(self) -> int:
        return self.data.nbytes + self.offsets.nbytes + (0 if self.codes is None else self.codes.nbytes)

    def unmapped(self) -> "BytesColumn":
        """The same memory under plain arrays: np.memmap costs microseconds at every indexing."""
        codes = None if self.codes is None else self.codes.view(np.ndarray)
        return BytesColumn(self.data.view(np.ndarray), self.offsets.view(np.ndarray), codes)

    def __len__(self) -> int:
        return len(self.offsets) - 1 if self.codes is None else len(self.codes)

    def __getitem__(self, index: int) -> bytes:
        if self.codes is not None:
            index = self.codes.item(index)
        # `item` gives Python's integers: half the time of indexing, and an unsigned offset cannot overflow
        return self.data[self.offsets.item(index) : self.offsets.item(index + 1)].tobytes()

    def strings(self, indices: NDArray[np.int64]) -> list[str]:
        """The strings at these places, decoded."""
        places = indices if self.codes is None else self.codes[indices].astype(np.int64)
        return kernels.texts(self.data, self.offsets, places)


def _small_offsets(column: BytesColumn) -> BytesColumn:
    return BytesColumn(column.data, column.offsets.astype(smallest_int(column.data.size, signed=False)))
