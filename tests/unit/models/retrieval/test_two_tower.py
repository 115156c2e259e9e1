"""Two towers: against the formula in NumPy, and as a graph."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from export.graphs import FEATURE_TOWER_IO, Feed, describe, parity, size_feeds, to_onnx
from export.measure import rows_changed_by_batching
from export.quantize import quantize
from models.item_features import ItemFeatures
from models.retrieval.two_tower import TwoTower, TwoTowerConfig, UserInputs

NUM_ITEMS, LENGTH, SKIPPED = 50, 12, 5
CONFIG = TwoTowerConfig(dim=16, hidden=(24,), history_length=LENGTH, temperature=0.25)
USERS = UserInputs({0: 3, 2: 4}, SKIPPED, 2)  # column 1 is not read


def made(users: UserInputs = USERS, config: TwoTowerConfig = CONFIG) -> TwoTower:
    torch.manual_seed(0)
    values = torch.tensor([[1, 2, 0], [3, 0, 0], [0, 0, 0], [1, 2, 3], [2, 3, 0]]).repeat(NUM_ITEMS // 5, 1)
    items = ItemFeatures(torch.randint(0, 5, (NUM_ITEMS, 2)), [5, 5], [values], [4], torch.randn(NUM_ITEMS, 1))
    model = TwoTower(items, users, config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def feed(batch: int, users: UserInputs = USERS, seed: int = 0) -> Feed:
    """Right-aligned histories of every length from empty to full, sets of one or two items."""
    rng = np.random.default_rng(seed)
    items, ordinals = np.zeros((batch, LENGTH), np.int64), np.zeros((batch, LENGTH), np.int64)
    for row in range(batch):
        filled = row % (LENGTH + 1)
        items[row, LENGTH - filled :] = rng.integers(1, NUM_ITEMS + 1, filled)
        ordinals[row, LENGTH - filled :] = (np.arange(filled, 0, -1) + 1) // 2
    codes = [rng.integers(0, users.sizes.get(column, 9), batch) for column in range(max(users.sizes, default=-1) + 1)]
    return {
        "history": items,
        "set_ordinal": ordinals,
        "user_categorical": np.stack(codes, 1) if codes else np.zeros((batch, 0), np.int64),
        "user_numeric": rng.normal(size=(batch, SKIPPED + users.numeric)).astype(np.float32),
    }


def vectors(model: TwoTower, inputs: Feed) -> NDArray[np.float32]:
    with torch.inference_mode():
        found: NDArray[np.float32] = model(*(torch.from_numpy(inputs[name]) for name in model.tower_inputs)).numpy()
    return found


def by_hand(model: TwoTower, inputs: Feed, row: int) -> NDArray[np.float64]:
    """The user vector of one row, position by position, padding left out."""
    w = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    real = inputs["set_ordinal"][row] > 0
    rows, sets = inputs["history"][row][real] - 1, inputs["set_ordinal"][row][real]
    content = _embedded(model, w, rows)
    pools = []
    for pool in range(2):
        logits = content @ w["pooling.queries"][pool] / 4.0 + w["pooling.recency"][sets, pool]  # sqrt(16)
        shares = np.exp(logits) / (1.0 + np.exp(logits).sum())  # the resting key has logit 0
        pools.append(shares @ content)
    codes = inputs["user_categorical"][row]
    fields = [w["fields.0.weight"][codes[0]], w["fields.1.weight"][codes[2]]]
    known = np.concatenate([*pools, *fields, inputs["user_numeric"][row, SKIPPED:]])
    hidden = np.maximum(w["user_tower.hidden.0.weight"] @ known + w["user_tower.hidden.0.bias"], 0)
    out = np.mean(pools, 0) + w["user_tower.out.weight"] @ hidden + w["user_tower.out.bias"]
    return np.asarray(out / np.linalg.norm(out) / 0.25)


def _embedded(model: TwoTower, w: dict[str, NDArray[np.float64]], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Id, two categories, the mean of the values of a third feature, and a number times its vector."""
    features, of = model.embedding.features, "embedding.features"
    codes, dense = features.codes.numpy()[rows], features.dense.double().numpy()[rows]
    vectors = w["embedding.ids.weight"][rows] + dense @ w[f"{of}.from_dense"]
    for place in range(2):
        vectors = vectors + w[f"{of}.tables.{place}.weight"][codes[:, place]]
    for row, values in enumerate(features.get_buffer("multi_0").numpy()[rows]):
        if values.any():
            vectors[row] += w[f"{of}.multi_tables.0.weight"][values[values > 0]].mean(0)
    return np.asarray(vectors)


def test_a_user_vector_is_what_the_formula_says() -> None:
    """Attention over the history with a weight by sets ago, then the network, then length 1 / temperature."""
    model, inputs = made(), feed(LENGTH + 1)
    found = vectors(model, inputs)
    for row in range(LENGTH + 1):
        np.testing.assert_allclose(found[row], by_hand(model, inputs, row), rtol=1e-4, atol=1e-5)


def test_item_vectors_have_length_one() -> None:
    with torch.inference_mode():
        found = made().item_vectors()
    assert found.shape == (NUM_ITEMS, 16)
    np.testing.assert_allclose(found.norm(dim=1), 1.0, rtol=1e-5)


def test_order_within_a_set_says_nothing() -> None:
    model, inputs = made(), feed(LENGTH + 1)
    turned = {name: array.copy() for name, array in inputs.items()}
    turned["history"][-1, [2, 3]] = turned["history"][-1, [3, 2]]  # one set of two
    assert inputs["set_ordinal"][-1, 2] == inputs["set_ordinal"][-1, 3]
    assert turned["history"][-1].tolist() != inputs["history"][-1].tolist()
    np.testing.assert_allclose(vectors(model, turned), vectors(model, inputs), atol=1e-5)


def test_numbers_of_the_moment_are_not_read_and_static_ones_are() -> None:
    model, inputs = made(), feed(6)
    moving, static = (inputs["user_numeric"].copy() for _ in range(2))
    moving[:, :SKIPPED] += 1.0
    static[:, SKIPPED:] += 1.0
    before = vectors(model, inputs)
    assert np.array_equal(vectors(model, {**inputs, "user_numeric": moving}), before)
    assert (np.abs(vectors(model, {**inputs, "user_numeric": static}) - before).max(1) > 1e-3).all()


def test_dropped_ids_leave_the_features() -> None:
    """In training with every id dropped, items of equal features are equal; in service each has its own."""
    model = made(config=CONFIG._replace(id_dropout=1 - 1e-9, dropout=0.0))
    features = model.embedding.features
    features.codes[:], features.dense[:] = 1, 0.5
    pair = torch.tensor([0, 5])  # alike in the values of the third feature too
    with torch.inference_mode():
        one, other = model.train().items(pair)
        apart = model.eval().items(pair)
    assert torch.equal(one, other)
    assert not torch.allclose(apart[0], apart[1], atol=1e-3)


def test_the_graph_agrees_in_every_size_and_no_row_depends_on_the_batch() -> None:
    """With features and, second, for a schema that has none of the user's: the inputs stay."""
    for users in (USERS, UserInputs({}, SKIPPED, 0)):
        model = made(users)
        fp32 = to_onnx(model, FEATURE_TOWER_IO, feed(3, users))
        assert parity(model, FEATURE_TOWER_IO, fp32, size_feeds(FEATURE_TOWER_IO, feed(16, users))) <= 1e-4
        assert [(t.name, t.shape) for t in describe([fp32])] == [
            ("history", ["batch", LENGTH]),
            ("set_ordinal", ["batch", LENGTH]),
            ("user_categorical", ["batch", 3 if users.sizes else 0]),
            ("user_numeric", ["batch", SKIPPED + users.numeric]),
            ("user_vector", ["batch", 16]),
        ]
        many = feed(48, users)
        requests: list[Feed] = [{name: array[row : row + 1] for name, array in many.items()} for row in range(48)]
        int8 = quantize(fp32, requests)
        assert int8 is not None
        assert rows_changed_by_batching(fp32, requests) == 0
        assert rows_changed_by_batching(int8, requests) == 0
