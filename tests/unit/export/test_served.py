"""Neighbours in fewer bytes: the first ones of each item, in the smallest integers, halved similarities."""

import numpy as np

from export.profile import NeighbourLists
from export.served import compact_neighbours
from models.contract.features import ItemTables

TABLES = ItemTables(
    np.array([[2, 1, -1], [0, -1, -1], [0, 1, 3], [2, 0, 1]], np.int32),
    np.array([[0.3, 0.1, 0], [0.5, 0, 0], [0.3, 0.2, 0.1], [0.4, 0.3, 0.2]], np.float32),
    np.array([[0], [255], [3], [1]], np.int32),
)


def test_the_most_similar_neighbours_stay() -> None:
    found = compact_neighbours(TABLES, NeighbourLists(2, "fp16"))
    assert found.neighbours.tolist() == [[2, 1], [0, -1], [0, 1], [2, 0]]
    assert found.similarity.tolist() == TABLES.similarity[:, :2].astype(np.float16).tolist()
    assert (found.neighbours.dtype, found.similarity.dtype, found.affinity.dtype) == (np.int8, np.float16, np.uint8)


def test_similarities_in_eight_bits_are_judged_as_they_are_read() -> None:
    found = compact_neighbours(TABLES, NeighbourLists(2, "fp8"))
    assert found.neighbours.tolist() == [[2, 1], [0, -1], [0, 1], [2, 0]]
    assert found.similarity.tolist() == [[19 / 64, 26 / 256], [0.5, 0], [19 / 64, 26 / 128], [26 / 64, 19 / 64]]
    assert found.similarity.dtype == np.float16


def test_all_neighbours_in_float32_are_the_same_numbers() -> None:
    found = compact_neighbours(TABLES, NeighbourLists(None, "fp32"))
    assert (found.neighbours == TABLES.neighbours).all()
    assert (found.similarity == TABLES.similarity).all()
    assert found.similarity.dtype == np.float32
    assert (found.affinity == TABLES.affinity).all()


def test_more_neighbours_than_there_are_is_all_of_them() -> None:
    assert compact_neighbours(TABLES, NeighbourLists(20, "fp16")).neighbours.shape == (4, 3)
