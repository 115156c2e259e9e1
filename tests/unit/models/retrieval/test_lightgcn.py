"""LightGCN: propagation by hand, what the served vector leaves out, and what edges add for those without history."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export.graphs import USER_TOWER_IO, parity, size_feeds, to_onnx
from export.measure import rows_changed_by_batching
from export.quantize import quantize
from models import checkpoint
from models.data.dataset import Dataset
from models.fitting import Fit
from models.options import LightGcnOptions
from models.retrieval.edge_batches import EdgeBatches
from models.retrieval.graph import Graph
from models.retrieval.lightgcn import LightGcn, LightGcnConfig
from models.retrieval.lightgcn_training import LightGcnTask, build, fit, start
from models.retrieval.pairs import interaction_pairs
from models.retrieval.train import RECIPES
from models.run_log import Silent
from tests.tiny_dataset import SPLIT_MS, tiny_dataset

NO_EDGES = np.empty((0, 2), np.int32)
PAIRS = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 1, 2])
# user 0 has items 0 and 1, user 1 has 1, user 2 has 1 and 2: 1 / sqrt(d_u d_i)
A = np.array([[2**-0.5, 6**-0.5, 0], [0, 3**-0.5, 0], [0, 6**-0.5, 2**-0.5]])


def random_model(config: LightGcnConfig, social: np.ndarray = NO_EDGES, similar: np.ndarray = NO_EDGES) -> LightGcn:
    torch.manual_seed(0)
    return LightGcn(Graph.of(PAIRS, 3, 3, social, similar), config).eval()


def first_vectors(model: LightGcn) -> tuple[np.ndarray, np.ndarray]:
    return model.users.weight.detach().double().numpy(), model.items.weight.detach().double().numpy()


def histories(rows: list[list[int]], length: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Item indices, oldest first, as the tower takes them."""
    items = torch.tensor([[0] * (length - len(row)) + [item + 1 for item in row] for row in rows])
    ordinals = torch.tensor([[0] * (length - len(row)) + list(range(len(row), 0, -1)) for row in rows])
    return items, ordinals


def test_one_layer_by_hand() -> None:
    """Users 1, 2, 4 and items 8, 16, 32, which are twice the weights; the final vector is the mean of two layers."""
    model = LightGcn(Graph.of(PAIRS, 3, 3, NO_EDGES, NO_EDGES), LightGcnConfig(dim=1, layers=1))
    weights = {"users.weight": [[0.5], [1.0], [2.0]], "items.weight": [[4.0], [8.0], [16.0]], "scale": 2.0}
    checkpoint.set_weights(model, {name: np.array(rows, np.float32) for name, rows in weights.items()})
    root2, root3, root6 = 2**0.5, 3**0.5, 6**0.5
    users = [(1 + 8 / root2 + 16 / root6) / 2, (2 + 16 / root3) / 2, (4 + 16 / root6 + 32 / root2) / 2]
    items = [(8 + 1 / root2) / 2, (16 + 1 / root6 + 2 / root3 + 4 / root6) / 2, (32 + 4 / root2) / 2]
    np.testing.assert_allclose(model.known_user_vectors()[:, 0], users, rtol=1e-6)
    np.testing.assert_allclose(model.item_vectors()[:, 0], items, rtol=1e-6)


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_propagation_is_that_of_dense_matrices(layers: int) -> None:
    """With friends 0-1 and 1-2, and items 0 and 2 alike, each relation by its own degrees and weighed 0.5."""
    social = np.array([[0, 1], [1, 2]], np.int32)
    model = random_model(LightGcnConfig(6, layers, edge_weight=0.5), social, np.array([[0, 2]], np.int32))
    friends = np.array([[0, 2**-0.5, 0], [2**-0.5, 0, 2**-0.5], [0, 2**-0.5, 0]])
    alike = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]])
    whole = np.block([[0.5 * friends, A], [A.T, 0.5 * alike]])
    first = np.concatenate(first_vectors(model))
    final = sum(np.linalg.matrix_power(whole, power) @ first for power in range(layers + 1)) / (layers + 1)
    np.testing.assert_allclose(model.known_user_vectors(), final[:3], atol=1e-6)
    np.testing.assert_allclose(model.item_vectors(), final[3:], atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_served_vector_is_the_trained_one_without_the_users_own_part(layers: int) -> None:
    """Also where an item comes twice, and in whatever order the history is."""
    model = random_model(LightGcnConfig(6, layers, 4))
    expected = (model.known_user_vectors() - model.users.weight / (layers + 1)).detach()
    for rows in ([[0, 1], [1], [1, 2]], [[1, 0, 0, 1], [1, 1], [2, 1, 2]]):
        torch.testing.assert_close(model(*histories(rows)), expected, rtol=1e-5, atol=1e-6)


def test_a_user_without_history_is_the_mean_of_those_with_one() -> None:
    """So an item scores its mean over the users; users 3 and 4 have no history and do not count."""
    torch.manual_seed(0)
    model = LightGcn(Graph.of(PAIRS, 5, 3, NO_EDGES, NO_EDGES), LightGcnConfig(6)).eval()
    expected = model.known_user_vectors()[:3].mean(0)
    torch.testing.assert_close(model(*histories([[], [0]]))[0], expected)
    assert not model.known_user_vectors()[3:].any()


def test_tables_follow_the_weights_and_the_graph() -> None:
    """Weights of a graph, loaded into the model of a later graph: the tables are those of the later graph."""
    dataset = planted(hidden_users=0)
    options = LightGcnOptions(model="lightgcn", dim=8)
    early, late = (build(dataset, options, until, seed) for until, seed in ((SPLIT_MS // 500, 0), (SPLIT_MS, 1)))
    assert len(early.graph.to_users) < len(late.graph.to_users)
    checkpoint.set_weights(late, checkpoint.weights(early))
    users, items, sent = late.propagate()
    torch.testing.assert_close(late.known_user_vectors(), users)
    torch.testing.assert_close(late.item_vectors(), items)
    torch.testing.assert_close(late.history_rows, sent)
    with torch.no_grad():
        late.items.weight.mul_(2)
    torch.testing.assert_close(late.eval().history_rows, late.propagate().sent)


def test_training_starts_from_the_leading_singular_vectors() -> None:
    """Of the normalised edges, all of one weight; the rest of a vector longer than the catalogue is zero, and so is an
    item that nobody has. Users start as the sum over their items."""
    rng = np.random.default_rng(0)
    alike = np.arange(50)[:, None] % 4 == np.arange(20) % 4  # four communities: four directions stand out
    taken = rng.random((50, 20)) < np.where(alike, 0.8, 0.03)
    taken[:, 7] = False
    for dim in (4, 30):
        model = LightGcn(Graph.of(np.nonzero(taken), 50, 20, NO_EDGES, NO_EDGES), LightGcnConfig(dim))
        model.start_from_spectrum()
        table = model.items.weight.detach().double().numpy()
        assert not model.users.weight.any()
        np.testing.assert_allclose(table[7], 0, atol=1e-6)
        if dim == 4:
            scale = np.sqrt(np.maximum(taken.sum(1, keepdims=True), 1) * np.maximum(taken.sum(0, keepdims=True), 1))
            leading = np.linalg.svd(taken / scale)[2][:4]
            np.testing.assert_allclose(table @ table.T, 20 * 0.1**2 * leading.T @ leading, atol=1e-4)
        else:
            np.testing.assert_allclose(table[:, 20:], 0)


def test_the_first_scale_is_the_one_that_loses_least() -> None:
    dataset, options = planted(0), LightGcnOptions(model="lightgcn", dim=8)
    model = build(dataset, options, SPLIT_MS, 0)
    task = LightGcnTask(model, EdgeBatches(interaction_pairs(dataset, SPLIT_MS), 10**6, 0), options)
    start(model, task)
    chosen = model.scale.item()

    def loss_at(scale: float) -> float:
        with torch.no_grad():
            model.scale.fill_(scale)
            return task.loss(0, 0, np.random.default_rng(0)).mean.item()

    assert loss_at(chosen) < min(loss_at(chosen / 2**0.5), loss_at(chosen * 2**0.5))


def planted(hidden_users: int, hidden_items: int = 0, seed: int = 0) -> Dataset:
    """Users and items of two communities, by turns; everybody takes 8 items of their own.

    The last `hidden_users` and `hidden_items` have no interactions.  Friends and similar items are of one community.
    """
    rng = np.random.default_rng(seed)
    num_users, num_items = 80, 40
    pairs = [
        (user, int(item))
        for user in range(num_users - hidden_users)
        for item in rng.choice(np.arange(user % 2, num_items - hidden_items, 2), 8, replace=False)
    ]
    dataset = tiny_dataset(pairs, num_users, num_items)
    return replace(dataset, social_edges=inside(num_users, rng), item_edges=inside(num_items, rng))


def inside(count: int, rng: np.random.Generator) -> np.ndarray:
    """Each node with 3 others of its community, int32 [E, 2]."""
    ends = [(one, int(other)) for one in range(count) for other in rng.choice(np.arange(one % 2, count, 2), 3)]
    edges = np.array([sorted(pair) for pair in ends if pair[0] != pair[1]], np.int32)
    return np.unique(edges, axis=0)


def trained(dataset: Dataset, folder: Path, **options: object) -> LightGcn:
    made = LightGcnOptions.model_validate(
        {"model": "lightgcn", "dim": 16, "batch_size": 128, "learning_rate": 0.01, "max_steps": 20} | options
    )
    recipe = RECIPES["lightgcn"]
    model = recipe.fit(dataset, made, Fit("retrieval", "key", 0, SPLIT_MS, folder / "checkpoint.npz"), Silent())
    assert isinstance(model, LightGcn)
    return model


def share_of_own(vectors: torch.Tensor, items: torch.Tensor, users: np.ndarray) -> float:
    """Share of the 10 best items that are of the user's community."""
    top = (vectors @ items.T).topk(10).indices.numpy()
    return float((top % 2 == users[:, None] % 2).mean())


@pytest.mark.parametrize("loss", ["bpr", "sampled_softmax"])
def test_training_finds_the_communities(loss: str, tmp_path: Path) -> None:
    """From the history alone, as it is served; users beyond the training too."""
    dataset = replace(planted(0), social_edges=NO_EDGES, item_edges=NO_EDGES)
    model = trained(dataset, tmp_path, loss=loss)
    rng = np.random.default_rng(9)
    rows = [rng.choice(np.arange(user % 2, 40, 2), 3).tolist() for user in range(20)]
    assert share_of_own(model(*histories(rows)), model.item_vectors(), np.arange(20)) > 0.95
    assert share_of_own(model.known_user_vectors(), model.item_vectors(), np.arange(80)) > 0.95


def test_social_edges_give_cold_users_items_of_their_community(tmp_path: Path) -> None:
    """The last 20 users have no interactions. With friends their items are right; without, nothing is known of them."""
    dataset, cold = planted(hidden_users=20), np.arange(60, 80)
    model = trained(dataset, tmp_path)
    assert share_of_own(model.known_user_vectors()[60:], model.item_vectors(), cold) > 0.95
    alone = trained(replace(dataset, social_edges=NO_EDGES), tmp_path)
    assert not alone.known_user_vectors()[60:].any()
    # what they are served instead is one list for all: right for one community as often as wrong for the other
    assert share_of_own(alone.no_history.expand(20, -1), alone.item_vectors(), cold) == 0.5


def test_friends_items_as_history_serve_a_cold_user(tmp_path: Path) -> None:
    model = trained(replace(planted(hidden_users=20), item_edges=NO_EDGES), tmp_path)
    dataset = planted(hidden_users=20)
    of_friends = []
    for user in range(60, 80):
        friends = {int(end) for edge in dataset.social_edges if user in edge for end in edge} - {user}
        taken = dataset.interactions.item_index[np.isin(dataset.interactions.user_index, list(friends))]
        of_friends.append(taken[:4].tolist())
    known = np.array([user for user, items in enumerate(of_friends, 60) if items])
    assert len(known) >= 18
    vectors = model(*histories([items for items in of_friends if items]))
    assert share_of_own(vectors, model.item_vectors(), known) > 0.95


def test_item_edges_give_cold_items_to_their_community(tmp_path: Path) -> None:
    """The last 10 items have no interactions. With edges their own community ranks them first; without, nobody does."""
    dataset, users = planted(0, hidden_items=10), np.arange(80)
    model = trained(dataset, tmp_path)
    top = (model.known_user_vectors() @ model.item_vectors()[30:].T).topk(5).indices.numpy()
    assert (top % 2 == users[:, None] % 2).mean() > 0.95
    alone = trained(replace(dataset, item_edges=NO_EDGES), tmp_path)
    assert not alone.item_vectors()[30:].any()


def test_what_has_no_interactions_starts_from_nothing() -> None:
    """Else it would send noise to its neighbours."""
    model = build(planted(hidden_users=20, hidden_items=10), LightGcnOptions(model="lightgcn"), SPLIT_MS, 0)
    for table, shown in ((model.users.weight, 60), (model.items.weight, 30)):
        np.testing.assert_array_equal(table.detach().any(1), np.arange(len(table)) < shown)


def test_two_runs_are_the_same(tmp_path: Path) -> None:
    one, other = (trained(planted(0), tmp_path / name, max_steps=5) for name in ("one", "other"))
    torch.testing.assert_close(one.item_vectors(), other.item_vectors(), rtol=0, atol=0)


def test_the_l2_of_a_batch_is_of_its_first_vectors() -> None:
    """One pair against one item: loss with l2 - loss without = l2 / 2 * (|e_u|^2 + |e_i|^2 + |e_j|^2)."""
    dataset = tiny_dataset([(0, 0)], 1, 2)
    plain, heavy = (LightGcnOptions(model="lightgcn", loss="bpr", dim=4, l2=l2) for l2 in (0.0, 3.0))
    model = build(dataset, plain, SPLIT_MS, 0)
    losses = [task_loss(dataset, model, options) for options in (plain, heavy)]
    squares = (model.users.weight**2).sum() + (model.items.weight**2).sum()
    np.testing.assert_allclose(losses[1] - losses[0], 3.0 / 2 * squares.item(), rtol=1e-4)


def task_loss(dataset: Dataset, model: LightGcn, options: LightGcnOptions) -> float:
    edges = EdgeBatches(interaction_pairs(dataset, SPLIT_MS), options.batch_size, 0)
    return LightGcnTask(model, edges, options).loss(0, 0, np.random.default_rng(0)).mean.item()


def test_the_exported_tower_computes_the_same(tmp_path: Path) -> None:
    """fp32 only: there is no product with weights to quantize."""
    model = trained(planted(0), tmp_path, max_steps=5, history_length=12)
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, 40, rng.integers(0, 13)).tolist() for _ in range(8)]
    history, ordinal = (tensor.numpy() for tensor in histories([[], *rows], 12))
    feed = {"history": history, "set_ordinal": ordinal}
    graph = to_onnx(model, USER_TOWER_IO, feed)
    assert parity(model, USER_TOWER_IO, graph, size_feeds(USER_TOWER_IO, feed)) < 1e-5
    singles = [{name: rows[n : n + 1] for name, rows in feed.items()} for n in range(9)]
    assert rows_changed_by_batching(graph, singles) == 0
    assert quantize(graph, [feed]) is None


def test_nothing_to_learn_from_is_refused(tmp_path: Path) -> None:
    run = Fit("retrieval", "key", 0, 0, tmp_path / "checkpoint.npz")
    with pytest.raises(ValueError, match="interactions: there are none"):
        fit(planted(0), LightGcnOptions(model="lightgcn"), run, Silent())
