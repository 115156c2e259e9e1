"""Neighbours in fewer bytes: the most similar pairs, in the smallest integers, with similarities in fewer bits."""

import numpy as np
import pytest

from export import neighbours
from export.neighbours import compact_neighbours, stored_lists
from export.profile import NeighbourLists
from models.contract.features import ItemTables
from models.contract.ragged import padded
from models.contract.tables import read_similarity

TABLES = ItemTables(
    np.array([[2, 1, -1], [0, -1, -1], [0, 1, 3], [2, 0, 1]], np.int32),
    np.array([[0.3, 0.1, 0], [0.5, 0, 0], [0.03, 0.02, 0.01], [0.4, 0.3, 0.2]], np.float32),
    np.array([[0], [255], [3], [1]], np.int32),
)


@pytest.fixture(autouse=True)
def least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "LEAST", 1)


def test_the_most_similar_pairs_of_all_stay_and_one_of_each_item() -> None:
    found = compact_neighbours(TABLES, NeighbourLists(2, "fp16"))
    assert found.neighbours.tolist() == [[2, 1, -1], [0, -1, -1], [0, 1, -1], [2, 0, 1]], "8 of 9, all but 0.01"
    found = compact_neighbours(TABLES, NeighbourLists(1, "fp16"))
    assert found.neighbours.tolist() == [[2], [0], [0], [2]], "each one's best, though 0.03 is less than others"
    assert (found.neighbours.dtype, found.similarity.dtype, found.affinity.dtype) == (np.int8, np.float16, np.uint8)


def test_what_each_item_keeps_counts_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    near = np.array([[1, 2, 3, 4]] * 5, np.int32)
    similarity = np.array([[0.9, 0.8, 0.7, 0.6]] * 4 + [[0.04, 0.03, 0.02, 0.01]], np.float32)
    tables = ItemTables(near, similarity, np.zeros((5, 1), np.int32))

    def counts(least: int, per_item: int) -> list[int]:
        monkeypatch.setattr(neighbours, "LEAST", least)
        return (compact_neighbours(tables, NeighbourLists(per_item, "fp16")).neighbours >= 0).sum(axis=1).tolist()

    assert counts(1, 3) == [4, 4, 3, 3, 1], "of equally similar ones those of the first items"
    assert counts(2, 3) == [4, 3, 3, 3, 2]
    assert counts(3, 2) == [2, 2, 2, 2, 2], "no item's share goes to another's least"


def test_similarities_in_eight_bits_are_judged_as_they_are_read() -> None:
    found = compact_neighbours(TABLES, NeighbourLists(1, "fp8"))
    assert found.similarity.tolist() == [[19 / 64], [0.5], [31 / 1024], [26 / 64]]
    assert found.similarity.dtype == np.float16


@pytest.mark.parametrize("form", [NeighbourLists(1, "fp8"), NeighbourLists(2, "fp8"), NeighbourLists(20, "fp16")])
def test_what_is_stored_is_read_as_it_was_judged(form: NeighbourLists) -> None:
    judged = compact_neighbours(TABLES, form)
    stored = stored_lists(judged, form)
    assert stored.counts is not None
    assert len(stored.neighbours) == len(stored.similarity) == stored.counts.sum() == (judged.neighbours >= 0).sum()
    assert padded(stored.counts, stored.neighbours, -1).tolist() == judged.neighbours.tolist()
    assert padded(stored.counts, read_similarity(stored.similarity), 0).tolist() == judged.similarity.tolist()


def test_an_item_without_neighbours_has_an_empty_row() -> None:
    near, similarity = TABLES.neighbours.copy(), TABLES.similarity.copy()
    near[1], similarity[1] = -1, 0
    found = compact_neighbours(ItemTables(near, similarity, TABLES.affinity), NeighbourLists(1, "fp16"))
    assert found.neighbours[1].tolist() == [-1] * found.neighbours.shape[1]
    alone = compact_neighbours(ItemTables(near[1:2], similarity[1:2], TABLES.affinity), NeighbourLists(1, "fp16"))
    assert alone.neighbours.shape == (1, 0)


def test_all_neighbours_in_float32_are_the_same_numbers() -> None:
    found = compact_neighbours(TABLES, NeighbourLists(None, "fp32"))
    assert (found.neighbours == TABLES.neighbours).all()
    assert (found.similarity == TABLES.similarity).all()
    assert found.similarity.dtype == np.float32
    assert (found.affinity == TABLES.affinity).all()
    assert stored_lists(found, NeighbourLists(None, "fp32")).counts is None


def test_more_neighbours_than_there_are_is_all_of_them() -> None:
    found = compact_neighbours(TABLES, NeighbourLists(20, "fp16"))
    assert found.neighbours.tolist() == TABLES.neighbours.tolist()
