"""A column of strings that can be memory-mapped: all bytes in one array, and where each string starts."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class BytesColumn:
    """n byte strings.  data: uint8 [total].  offsets: int64 [n + 1], string i is data[offsets[i]:offsets[i + 1]]."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, values: Iterable[bytes]) -> "BytesColumn":
        parts = list(values)
        offsets = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        return cls(np.frombuffer(b"".join(parts), np.uint8), offsets)

    @classmethod
    def load(cls, folder: Path, name: str) -> "BytesColumn":
        """Memory-map the two files that `save` wrote."""
        return cls(
            np.load(folder / f"{name}.data.npy", mmap_mode="r", allow_pickle=False),
            np.load(folder / f"{name}.offsets.npy", mmap_mode="r", allow_pickle=False),
        )

    def save(self, folder: Path, name: str) -> None:
        np.save(folder / f"{name}.data.npy", self.data)
        np.save(folder / f"{name}.offsets.npy", self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.data[self.offsets[index] : self.offsets[index + 1]].tobytes()
