"""The item table: ids, the fields an answer returns and the columns a filter names, as memory-mapped arrays.

Answer fields are kept as JSON text, ready to be copied into a response.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract.columns import BytesColumn
from models.contract.ids import hash_ids


@dataclass(frozen=True, slots=True)
class ItemTable:
    """N items in the order of their item indices.

    hashes: uint64 [N], ascending.  ids: UTF-8.  fields: a JSON value per item, by column.
    filters: by column, codes [N], signed integers (-1 missing), and the values, a code being a position among them.
    """

    hashes: NDArray[np.uint64]
    ids: BytesColumn
    fields: dict[str, BytesColumn]
    filters: dict[str, tuple[NDArray[Any], list[Any]]]

    @classmethod
    def load(cls, folder: Path, returned: Sequence[str], filterable: Sequence[str]) -> "ItemTable":
        """Memory-map a folder that holds hashes.npy, ids.*, fields/ and filters/."""
        return cls(
            hashes=np.load(folder / "hashes.npy", mmap_mode="r", allow_pickle=False),
            ids=BytesColumn.load(folder, "ids"),
            fields={name: BytesColumn.load(folder / "fields", name) for name in returned},
            filters={name: _load_filter(folder / "filters", name) for name in filterable},
        )

    def unmapped(self) -> "ItemTable":
        """The same memory under plain arrays: np.memmap costs microseconds at every indexing."""
        return ItemTable(
            hashes=self.hashes.view(np.ndarray),
            ids=self.ids.unmapped(),
            fields={name: column.unmapped() for name, column in self.fields.items()},
            filters={name: (codes.view(np.ndarray), values) for name, (codes, values) in self.filters.items()},
        )

    def __len__(self) -> int:
        return len(self.hashes)

    def item_id(self, item_index: int) -> str:
        return self.ids[item_index].decode()

    def item_ids(self, item_indices: NDArray[np.int64]) -> list[str]:
        return self.ids.strings(item_indices)

    def item_indices(self, item_ids: Sequence[str]) -> NDArray[np.int64]:
        """Item indices int64 [len(item_ids)] of ids, -1 where the id is unknown (an equal hash is not enough)."""
        if not len(self.hashes):
            return np.full(len(item_ids), -1, np.int64)
        wanted = hash_ids(item_ids)
        places = np.minimum(np.searchsorted(self.hashes, wanted), len(self.hashes) - 1).astype(np.int64)
        places[self.hashes[places] != wanted] = -1
        for position in np.flatnonzero(places >= 0).tolist():
            if self.ids[places[position]] != item_ids[position].encode():
                places[position] = -1
        return places


def _load_filter(folder: Path, name: str) -> tuple[NDArray[Any], list[Any]]:
    codes = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return codes, json.loads((folder / f"{name}.json").read_bytes())
