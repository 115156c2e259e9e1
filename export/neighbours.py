"""Neighbours of each item in fewer bytes: fewer pairs, similarities in fewer bits."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from export.profile import NeighbourLists
from models.contract.features import ItemTables
from models.contract.tables import read_similarity, smallest_int, stored_similarity

LEAST = 8  # that an item keeps, whatever their similarity: `/items/ID/similar` shows them


class StoredLists(NamedTuple):
    """As a bundle stores them.  counts: uint8 [N], of each item's; then the other two are [sum of counts]. None where
    they are rectangles [N, m]."""

    neighbours: NDArray[Any]
    similarity: NDArray[Any]
    counts: NDArray[np.uint8] | None


def compact_neighbours(tables: ItemTables, form: NeighbourLists) -> ItemTables:
    """The neighbours as they are read; the item indices in the smallest type that holds them."""
    near, similarity = tables.neighbours, tables.similarity
    if form.per_item is not None:
        kept = _most_similar(near, similarity, form.per_item)
        width = int(kept.sum(axis=1).max(initial=0))
        near, similarity = np.where(kept, near, -1)[:, :width], np.where(kept, similarity, 0)[:, :width]
    return ItemTables(
        near.astype(smallest_int(len(near) - 1, signed=True)),
        read_similarity(stored_similarity(similarity, form.precision)),
        tables.affinity.astype(smallest_int(int(tables.affinity.max(initial=0)), signed=False)),
    )


def stored_lists(tables: ItemTables, form: NeighbourLists) -> StoredLists:
    """tables: from `compact_neighbours` with this form."""
    near, similarity = tables.neighbours, stored_similarity(tables.similarity, form.precision)
    if form.per_item is None:
        return StoredLists(near, similarity, None)
    there = near >= 0
    return StoredLists(near[there], similarity[there], there.sum(axis=1).astype(np.uint8))


def _most_similar(near: NDArray[Any], similarity: NDArray[Any], per_item: int) -> NDArray[np.bool_]:
    """Which pairs stay, bool [N, m]: the most similar of all, `per_item` for each item on average, and LEAST of each.

    A long list of weak neighbours adds little to a sum of similarities. Of equally similar pairs, those of items with
    lower indices stay.
    """
    there = near >= 0
    values = np.where(there, similarity, -1.0).astype(np.float32)
    least = min(LEAST, per_item)  # so that no item's share goes to another's least
    values[:, :least][there[:, :least]] = np.inf
    kept = np.zeros(values.size, np.bool_)
    kept[np.argsort(-values, axis=None, kind="stable")[: per_item * len(near)]] = True
    found: NDArray[np.bool_] = kept.reshape(there.shape) & there
    return found
