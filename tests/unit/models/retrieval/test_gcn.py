"""GCN with features: both convolutions by dense matrices, what the tower computes, and what features alone carry."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export.graphs import FEATURE_TOWER_IO, USER_TOWER_IO, Feed, GraphIO, parity, size_feeds, to_onnx
from export.measure import rows_changed_by_batching
from export.quantize import quantize
from models.contract.features import USER_NUMERIC
from models.contract.schema import CategoricalFeature, MultiFeature, NumericFeature, Schema, VectorFeature
from models.data.dataset import Dataset
from models.fitting import Fit
from models.options import GcnOptions
from models.retrieval.gcn import Gcn, GcnConfig, NodeFeatures
from models.retrieval.gcn_training import build
from models.retrieval.graph import Graph
from models.retrieval.train import RECIPES
from models.run_log import Silent
from tests.tiny_dataset import SPLIT_MS, tiny_dataset

NO_EDGES = np.empty((0, 2), np.int32)
PAIRS = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 1, 2])
CONFIG = GcnConfig(dim=5, hidden=7, history_length=4, dropout=0.5, edge_weight=0.5)
# user 2 has no category; item 0 has the categories 1 and 3 of the feature with several, item 2 has none
USERS = NodeFeatures([torch.tensor([[1], [2], [0]])], [3], torch.tensor([[0.5], [-1.0], [2.0]]))
ITEMS = NodeFeatures([torch.tensor([[1], [1], [2]]), torch.tensor([[1, 3], [2, 0], [0, 0]])], [3, 4], torch.zeros(3, 0))


def random_model(users: NodeFeatures = USERS, *, social: np.ndarray = NO_EDGES, ids: bool = True) -> Gcn:
    """Biases random too, so that nothing is hidden by a zero."""
    torch.manual_seed(0)
    graph = Graph.of(PAIRS, 3, 3, social, social)
    model = Gcn(graph, users, ITEMS, CONFIG, ids)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
        for table in [*model.user_weights.tables, *model.item_weights.tables]:
            table.weight[0] = 0.0
    return model.eval()


def tower_feed(rows: list[list[int]], users: list[int]) -> tuple[torch.Tensor, ...]:
    items = torch.tensor([[0] * (4 - len(row)) + [item + 1 for item in row] for row in rows])
    moment = torch.randn(len(users), len(USER_NUMERIC))  # how much, how long ago: the tower leaves it out
    numeric = torch.cat([moment, USERS.numeric[users]], 1)
    context = torch.ones(len(users), 1, dtype=torch.int64)
    return items, (items > 0).long(), torch.cat([USERS.codes[0][users], context], 1), numeric


@pytest.mark.parametrize("social", [NO_EDGES, np.array([[0, 1], [1, 2]], np.int32)], ids=["alone", "friends"])
def test_two_convolutions_are_those_of_dense_matrices(social: np.ndarray) -> None:
    """X has a column for each category, number and item id."""
    model = random_model(social=social)
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    user_rows = np.array([[1, 0, 0.5], [0, 1, -1], [0, 0, 2]])
    item_rows = np.array([[1, 0, 1, 0, 1], [1, 0, 0, 1, 0], [0, 1, 0, 0, 0]])
    features = np.zeros((6, 11))
    features[:3, :3], features[3:, 3:8], features[3:, 8:] = user_rows, item_rows, np.eye(3)
    first = np.concatenate([
        weights["user_weights.tables.0.weight"][1:], weights["user_weights.numbers"],
        weights["item_weights.tables.0.weight"][1:], weights["item_weights.tables.1.weight"][1:], weights["ids.weight"],
    ])  # fmt: skip

    def normalised(adjacency: np.ndarray) -> np.ndarray:
        scale = np.maximum(adjacency.sum(1), 1) ** -0.5
        return scale[:, None] * adjacency * scale

    taken, friends = np.zeros((6, 6)), np.zeros((6, 6))
    taken[PAIRS[0], 3 + PAIRS[1]] = taken[3 + PAIRS[1], PAIRS[0]] = 1
    for one, other in [(one + side, other + side) for one, other in social for side in (0, 3)]:
        friends[one, other] = friends[other, one] = 1
    convolution = np.eye(6) + normalised(taken) + 0.5 * normalised(friends)
    hidden = np.maximum(convolution @ features @ first + weights["first_bias"], 0)
    final = convolution @ hidden @ weights["second.weight"].T + weights["second.bias"]
    np.testing.assert_allclose(model.known_user_vectors(), final[:3], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.item_vectors(), final[3:], rtol=1e-4, atol=1e-5)


def test_the_served_vector_is_the_users_own_node() -> None:
    """From history and features alone, exactly; a repeated item counts once, the context and the moment not at all."""
    model = random_model()
    for rows in ([[0, 1], [1], [1, 2]], [[1, 0, 1], [1, 1], [2, 1, 2, 2]]):
        served = model(*tower_feed(rows, [0, 1, 2]))
        torch.testing.assert_close(served, model.known_user_vectors(), rtol=1e-5, atol=1e-5)


def test_a_user_without_history_is_their_features() -> None:
    model = random_model()
    served = model(*tower_feed([[], []], [0, 2]))
    torch.testing.assert_close(served, model.new_users(torch.tensor([0, 2])), rtol=1e-5, atol=1e-5)
    assert (served[0] - served[1]).abs().max() > 0.1


def test_ids_are_no_features() -> None:
    """With ids among the features the model is the same weight for weight; served, the id's column is passed over."""
    plain = planted()
    taste, noise = plain.schema.user_features[0], plain.schema.item_features
    user_id, item_id = (
        CategoricalFeature(name=name, vocabulary=[str(n) for n in range(size)], is_id=True)
        for name, size in (("user_id", 60), ("item_id", 40))
    )
    schema = plain.schema.model_copy(update={"user_features": [user_id, taste], "item_features": [item_id, *noise]})
    with_ids = replace(
        plain,
        schema=schema,
        user_categorical=np.column_stack([np.arange(1, 61, dtype=np.int32), plain.user_categorical]),
        item_categorical=np.column_stack([np.arange(1, 41, dtype=np.int32), plain.item_categorical]),
    )
    options = GcnOptions(model="gcn", item_ids=False, history_length=8)
    one, other = (build(dataset, options, SPLIT_MS, 0).eval() for dataset in (plain, with_ids))
    weights = other.state_dict()
    assert list(one.state_dict()) == list(weights)
    assert all(torch.equal(value, weights[name]) for name, value in one.state_dict().items())
    feed = feed_of(one, [[0, 2], [1, 3]], [0, 1])
    ids = {"user_categorical": np.column_stack([[7, 0], feed["user_categorical"]])}
    with torch.inference_mode():
        found, expected = (
            model(*(torch.from_numpy(array) for array in of.values()))
            for model, of in ((other, feed | ids), (one, feed))
        )
    assert torch.equal(found, expected)


def test_an_id_alone_is_nothing_to_tell_items_apart_by() -> None:
    """Nor does it give the tower user features."""
    plain = tiny_dataset([(0, 0)], 1, 2)
    known = [CategoricalFeature(name="id", vocabulary=["a", "b"], is_id=True)]
    dataset = replace(
        plain,
        schema=plain.schema.model_copy(update={"item_features": known, "user_features": known}),
        item_categorical=np.array([[1], [2]], np.int32),
        user_categorical=np.array([[1]], np.int32),
    )
    with pytest.raises(ValueError, match="item_ids = false leaves gcn nothing of an item"):
        build(dataset, GcnOptions(model="gcn", item_ids=False), SPLIT_MS, 0)
    assert not build(dataset, GcnOptions(model="gcn"), SPLIT_MS, 0).user_features


def test_ids_can_be_left_out() -> None:
    """Items with the same features and the same users then have the same vector."""
    graph = Graph.of((np.array([0, 0]), np.array([0, 1])), 1, 2, NO_EDGES, NO_EDGES)
    items = NodeFeatures([torch.tensor([[1], [1]])], [2], torch.zeros(2, 0))
    users = NodeFeatures([], [], torch.zeros(1, 0))
    for ids in (False, True):
        torch.manual_seed(0)
        one, other = Gcn(graph, users, items, CONFIG, ids).item_vectors()
        assert torch.equal(one, other) == (not ids)


def planted(seed: int = 0) -> Dataset:
    """Items of two genres by turns, in a feature of several values, and noise in the other features; a user has a
    taste, told by a category, and takes 6 items of it. The last 10 of 40 items are taken by nobody."""
    rng = np.random.default_rng(seed)
    pairs = [(user, int(i)) for user in range(60) for i in rng.choice(np.arange(user % 2, 30, 2), 6, replace=False)]
    genre = MultiFeature(name="genre", vocabulary=["a", "b", "x", "y"], length=2)
    noise = CategoricalFeature(name="noise", vocabulary=["p", "q", "r"])
    schema = Schema(
        event_types=["purchase"],
        seen_types=["purchase"],
        item_features=[genre, noise, VectorFeature(name="image", dim=3), NumericFeature(name="price", mean=0, std=1)],
        user_features=[CategoricalFeature(name="taste", vocabulary=["a", "b"])],
    )
    return replace(
        tiny_dataset(pairs, 60, 40),
        schema=schema,
        item_multi={"genre": np.stack([np.arange(40) % 2 + 1, rng.integers(3, 5, 40)], 1).astype(np.int32)},
        item_categorical=rng.integers(0, 4, (40, 1)).astype(np.int32),
        item_numeric=rng.standard_normal((40, 1)).astype(np.float32),
        item_vectors_given={"image": rng.standard_normal((40, 3)).astype(np.float32)},
        user_categorical=(np.arange(60, dtype=np.int32) % 2 + 1)[:, None],
    )


def trained(dataset: Dataset, folder: Path, **options: object) -> Gcn:
    made = GcnOptions.model_validate(
        {"model": "gcn", "dim": 8, "hidden": 16, "batch_size": 128, "learning_rate": 0.02, "max_steps": 60}
        | {"history_length": 8, "negatives": 20, "new_share": 0.5}
        | options
    )
    run = Fit("retrieval", "key", 0, SPLIT_MS, folder / "checkpoint.npz")
    model = RECIPES["gcn"].fit(dataset, made, run, Silent())
    assert isinstance(model, Gcn)
    return model


def feed_of(model: Gcn, rows: list[list[int]], tastes: list[int]) -> Feed:
    history = np.array([[0] * (8 - len(row)) + [item + 1 for item in row] for row in rows])
    feed: Feed = {"history": history, "set_ordinal": (history > 0).astype(np.int64)}
    if not model.user_features:
        return feed
    numeric = np.zeros((len(rows), len(USER_NUMERIC)), np.float32)
    return {**feed, "user_categorical": np.array(tastes)[:, None] + 1, "user_numeric": numeric}


def ask(model: Gcn, rows: list[list[int]], tastes: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model(*(torch.from_numpy(array) for array in feed_of(model, rows, tastes).values()))


def test_features_alone_carry_an_attribute(tmp_path: Path) -> None:
    """Without ids: new users get items of their genre, those that nobody took among them; the history tells the genre,
    and so does the user's category where there is no history."""
    model = trained(planted(), tmp_path, item_ids=False)
    tastes = [user % 2 for user in range(10)]
    rows = [[2 * n + user % 2 for n in range(3)] for user in range(10)]
    scores = ask(model, rows, tastes) @ model.item_vectors().T
    for items in (np.arange(40), np.arange(30, 40)):  # the whole catalogue, and the items that nobody took
        top = items[scores[:, items].topk(5).indices.numpy()]
        assert (top % 2 == np.array(tastes)[:, None]).mean() > 0.95
    top = (ask(model, [[], []], [0, 1]) @ model.item_vectors().T).topk(5).indices.numpy()
    assert (top % 2 == np.array([[0], [1]])).all()


@pytest.mark.parametrize("with_features", [True, False])
def test_the_exported_tower_computes_the_same(with_features: bool, tmp_path: Path) -> None:
    """In fp32; the int8 graph has the second weights in codes and keeps the order of the best items."""
    dataset = planted()
    if not with_features:
        schema = dataset.schema.model_copy(update={"user_features": []})
        dataset = replace(dataset, schema=schema, user_categorical=np.zeros((60, 0), np.int32))
    model = trained(dataset, tmp_path)
    names: GraphIO = FEATURE_TOWER_IO if with_features else USER_TOWER_IO
    assert tuple(names.inputs) == model.tower_inputs
    rng = np.random.default_rng(1)
    rows = [[], *(rng.integers(0, 40, rng.integers(1, 9)).tolist() for _ in range(7))]
    feed = feed_of(model, rows, [n % 2 for n in range(8)])
    graph = to_onnx(model, names, feed)
    assert parity(model, names, graph, size_feeds(names, feed)) < 1e-4
    singles = [{name: array[n : n + 1] for name, array in feed.items()} for n in range(8)]
    assert rows_changed_by_batching(graph, singles) == 0
    int8 = quantize(graph, [feed])
    assert int8 is not None
    assert rows_changed_by_batching(int8, singles) == 0
    assert parity(model, names, int8, [feed]) < 0.05 * float(model.known_user_vectors().abs().max())


def test_items_that_nothing_tells_apart_are_refused() -> None:
    dataset = tiny_dataset([(0, 0)], 1, 2)
    with pytest.raises(ValueError, match="item_ids = false leaves gcn nothing of an item"):
        build(dataset, GcnOptions(model="gcn", item_ids=False), SPLIT_MS, 0)
    assert build(dataset, GcnOptions(model="gcn"), SPLIT_MS, 0).item_vectors().shape == (2, 64)
