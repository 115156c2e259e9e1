"""Edges of the graph against dense matrices."""

import numpy as np
import pytest
import torch

from models.positives import Positives
from models.retrieval.edge_batches import EdgeBatches, edges_softmax
from models.retrieval.graph import Graph, Relation

# user 0 has items 0 and 1, user 1 has 1, user 2 has 1 and 2; one edge is given twice
USERS, ITEMS = np.array([2, 0, 0, 1, 2, 0]), np.array([1, 0, 1, 1, 2, 1])
ADJACENCY = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1]], np.float32)
NO_EDGES = np.empty((0, 2), np.int32)


def normalised(adjacency: np.ndarray) -> np.ndarray:
    rows, columns = adjacency.sum(1, keepdims=True), adjacency.sum(0, keepdims=True)
    return adjacency / np.sqrt(np.maximum(rows, 1) * np.maximum(columns, 1))


def test_a_relation_is_the_normalised_adjacency_by_hand() -> None:
    """Degrees of users are 2, 1, 2 and of items 1, 3, 1."""
    relation = Relation.between(USERS, ITEMS, 3, 3)
    half, sixth, third = 2**-0.5, 6**-0.5, 3**-0.5
    expected = [[half, sixth, 0], [0, third, 0], [0, sixth, half]]
    np.testing.assert_allclose(relation(torch.eye(3)).numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(relation.reversed(torch.eye(3)).numpy(), np.transpose(expected), rtol=1e-6)
    assert len(relation) == 5
    np.testing.assert_array_equal(relation.row_degree(), [2, 1, 2])


def test_edges_of_one_kind_go_both_ways_and_never_to_themselves() -> None:
    relation = Relation.among(np.array([[0, 1], [1, 0], [2, 2], [1, 3]], np.int32), 5)
    expected = np.zeros((5, 5), np.float32)
    expected[[0, 1, 1, 3], [1, 0, 3, 1]] = 1
    np.testing.assert_allclose(relation(torch.eye(5)).numpy(), normalised(expected), rtol=1e-6)


def test_vectors_and_gradients_are_those_of_the_dense_product() -> None:
    rng = np.random.default_rng(0)
    adjacency = (rng.random((40, 30)) < 0.1).astype(np.float32)
    adjacency[7] = adjacency[:, 5] = 0  # a user and an item without edges
    relation = Relation.between(*np.nonzero(adjacency), 40, 30)
    dense = torch.from_numpy(normalised(adjacency))
    vectors = torch.randn(30, 8, requires_grad=True)
    upstream = torch.randn(40, 8)
    (relation(vectors) * upstream).sum().backward()
    torch.testing.assert_close(relation(vectors), dense @ vectors)
    torch.testing.assert_close(vectors.grad, dense.T @ upstream)
    assert not relation(vectors)[7].any()


def test_an_index_out_of_range_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"columns of an edge are 0\.\.2; indices go from 0 to 1"):
        Relation.between(USERS, ITEMS, 3, 2)


def test_a_graph_without_any_interaction_sends_zero() -> None:
    none = np.empty(0, np.int64)
    graph = Graph.of((none, none), 2, 3, NO_EDGES, NO_EDGES)
    assert graph.social is None
    assert graph.similar is None
    np.testing.assert_array_equal(graph.to_users(torch.ones(3, 4)).numpy(), np.zeros((2, 4)))


def test_an_epoch_has_every_edge_once_in_an_order_of_its_own() -> None:
    edges = EdgeBatches(Positives.of(USERS, ITEMS, 3, 3), 2, seed=0)
    assert len(edges) == 3
    epochs = [[pair for n in range(3) for pair in zip(*edges.batch(epoch, n), strict=True)] for epoch in range(8)]
    for epoch in epochs:
        assert sorted(epoch) == [(0, 0), (0, 1), (1, 1), (2, 1), (2, 2)]
    assert len({tuple(epoch) for epoch in epochs}) > 1
    again = EdgeBatches(Positives.of(USERS, ITEMS, 3, 3), 2, seed=0)
    assert [pair for n in range(3) for pair in zip(*again.batch(7, n), strict=True)] == epochs[7]


def test_a_user_with_every_item_teaches_nothing() -> None:
    edges = EdgeBatches(Positives.of(np.array([0, 0, 1]), np.array([0, 1, 1]), 2, 2), 10, seed=0)
    assert [array.tolist() for array in edges.batch(0, 0)] == [[1], [1]]
    with pytest.raises(ValueError, match="everyone has every item"):
        EdgeBatches(Positives.of(np.array([0, 0]), np.array([0, 1]), 1, 2), 10, seed=0)


def test_only_items_that_someone_has_are_drawn() -> None:
    edges = EdgeBatches(Positives.of(np.array([0, 1, 1]), np.array([4, 1, 4]), 2, 6), 10, seed=0)
    drawn = edges.draw_items(1000, np.random.default_rng(0))
    assert set(drawn.tolist()) == {1, 4}
    assert 400 < (drawn == 1).sum() < 600


def test_the_softmax_of_an_edge_leaves_out_what_else_the_user_has() -> None:
    """User 0 has items 0 and 1: against the drawn 1, 2, 2 item 0 meets item 2 twice. User 2 has 1 and 2: meets none."""
    scores = 2 * np.array([[1.0, 5.0, 0.5], [0, 0, 0], [0.3, 0.2, 0.1]])
    positives = Positives.of(USERS, ITEMS, 3, 3)
    loss = edges_softmax(
        torch.from_numpy(scores), torch.eye(3).double(), np.array([0, 2]), np.array([0, 1]), np.array([1, 2, 2]),
        positives,
    )  # fmt: skip
    of_user_0 = -np.log(np.exp(2.0) / (np.exp(2.0) + 2 * np.exp(1.0)))
    np.testing.assert_allclose(loss.item(), of_user_0 / 2, rtol=1e-6)
