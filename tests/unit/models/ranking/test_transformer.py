"""The Transformer ranker's three pieces against the model unsplit, and as graphs."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from export.graphs import HISTORY_RANKING_USER_IO, RANKING_HEAD_IO, Feed, parity, size_feeds, to_onnx
from export.measure import rows_changed_by_batching
from export.quantize import quantize
from models.ranking.build import build
from models.ranking.inputs import MultiField, RankerInputs
from models.ranking.options import RankerOptions
from models.ranking.pieces import Ranker

NUM_ITEMS, LENGTH = 60, 7
OPTIONS = RankerOptions(model="transformer", dim=8, heads=2, layers=2, hidden=[12, 6], history_length=LENGTH)
SIZES, TAGS = {"genre": 5, "brand": 4}, MultiField(6, 3)
USERS = {"age": 4, "city": 3}


def inputs() -> RankerInputs:
    torch.manual_seed(1)
    catalogue = torch.stack([torch.randint(0, size, (NUM_ITEMS,)) for size in SIZES.values()], 1)
    tags = torch.randint(0, TAGS.size, (NUM_ITEMS, TAGS.length)).sort(1, descending=True).values
    tags[0] = 0  # an item without any
    return RankerInputs(USERS, 2, SIZES, 1, 3, torch.cat([catalogue, tags], 1), {"tags": TAGS})


def made(options: RankerOptions = OPTIONS) -> Ranker:
    torch.manual_seed(0)
    model = build(inputs(), options).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def users(batch: int, length: int = LENGTH, seed: int = 0) -> Feed:
    """Histories of every length from empty to full, sets of one or two items."""
    rng = np.random.default_rng(seed)
    items, ordinals = np.zeros((batch, length), np.int64), np.zeros((batch, length), np.int64)
    for row in range(batch):
        filled = row % (length + 1)
        items[row, length - filled :] = rng.integers(1, NUM_ITEMS + 1, filled)
        ordinals[row, length - filled :] = (np.arange(filled, 0, -1) + 1) // 2
    return {
        "user_categorical": np.stack([rng.integers(0, size, batch) for size in USERS.values()], 1),
        "user_numeric": rng.normal(size=(batch, 2)).astype(np.float32),
        "history": items,
        "set_ordinal": ordinals,
    }


def candidates(model: Ranker, count: int, batch: int, seed: int = 0) -> tuple[list[Tensor], NDArray[np.int64]]:
    """item_categorical, item_numeric, cross and row_user, and the items."""
    rng = np.random.default_rng(seed)
    items = rng.integers(0, NUM_ITEMS, count)
    numbers, cross = (torch.from_numpy(rng.normal(size=(count, n)).astype(np.float32)) for n in (1, 3))
    owners = torch.from_numpy(rng.integers(0, batch, count))
    catalogue = inputs().catalogue
    assert catalogue is not None
    return [catalogue[torch.from_numpy(items)], numbers, cross, owners], items


def unsplit(model: Ranker, user: Feed, row: int, item: int, numbers: Tensor, cross: Tensor) -> float:
    """One candidate of one user, the sequence without padding, layer by layer; every field in one first layer."""
    w = {name: tensor.double() for name, tensor in model.state_dict().items()}
    head, catalogue = "head_module.terms.0", inputs().catalogue
    assert catalogue is not None
    token = "user_module.history.token"
    items = user["history"][row][user["history"][row] > 0] - 1
    ago = user["set_ordinal"][row][user["set_ordinal"][row] > 0]

    def fields(side: str, codes: Tensor, sizes: list[int]) -> Tensor:
        return w[f"{side}.embedding.table"][codes + torch.tensor([0, sizes[0]])]

    def of_item(codes: Tensor) -> Tensor:
        """One item's vectors, of its tags their mean."""
        tags = w["item_module.embedding.table"][sum(SIZES.values()) + codes[2:][codes[2:] > 0]]
        mean = tags.sum(0, keepdim=True) / max(1, len(tags))
        return torch.cat([fields("item_module", codes[:2], list(SIZES.values())), mean]).flatten()

    sequence = torch.tensor([*items.tolist(), item])
    looked_up = torch.stack([of_item(codes) for codes in catalogue[sequence]])
    x = F.linear(looked_up, w[f"{token}.project.weight"], w[f"{token}.project.bias"])
    x = x + w[f"{token}.sets_ago.weight"][torch.tensor([*ago.tolist(), 0])]
    for layer in range(OPTIONS.layers):
        of = f"{head}.blocks.{layer}"
        normed = F.layer_norm(x, (8,), w[f"{of}.norm_attention.weight"], w[f"{of}.norm_attention.bias"])
        projected = F.linear(normed, w[f"{of}.projections.weight"], w[f"{of}.projections.bias"])
        heads = projected.reshape(len(x), 3, 2, 4).permute(1, 2, 0, 3)  # [q k v, heads, S, 4]
        mixed = F.scaled_dot_product_attention(*heads).transpose(0, 1).flatten(1)
        x = x + F.linear(mixed, w[f"{of}.out.weight"], w[f"{of}.out.bias"])
        normed = F.layer_norm(x, (8,), w[f"{of}.norm_feed.weight"], w[f"{of}.norm_feed.bias"])
        hidden = F.relu(F.linear(normed, w[f"{of}.feed.up.weight"], w[f"{of}.feed.up.bias"]))
        x = x + F.linear(hidden, w[f"{of}.feed.down.weight"], w[f"{of}.feed.down.bias"])
    x = F.layer_norm(x, (8,), w[f"{head}.norm.weight"], w[f"{head}.norm.bias"])
    pooled = x[:-1].mean(0) if len(items) else torch.zeros(8).double()
    codes = torch.from_numpy(user["user_categorical"][row])
    user_numbers = torch.from_numpy(user["user_numeric"][row]).double()
    everything = torch.cat(
        [
            fields("user_module", codes, list(USERS.values())).flatten(),
            (user_numbers.unsqueeze(1) * w["user_module.embedding.numeric"]).flatten(),
            looked_up[-1],
            (numbers.double().unsqueeze(1) * w["item_module.embedding.numeric"]).flatten(),
            pooled,
            x[-1],
            cross.double(),
        ]
    )
    first = torch.cat(
        [
            w["user_module.halves.0.first.weight"],
            w["item_module.halves.0.first.weight"],
            w[f"{head}.from_sequence.weight"],
            w[f"{head}.first.weight"],
        ],
        1,
    )
    hidden = F.relu(first @ everything + w[f"{head}.bias"])
    hidden = F.relu(F.linear(hidden, w[f"{head}.mlp.layers.0.weight"], w[f"{head}.mlp.layers.0.bias"]))
    score = w[f"{head}.mlp.out.weight"][0] @ hidden + cross.double() @ w["head_module.cross_weight"]
    return float(score + w["head_module.bias"][0])


def test_the_three_pieces_are_the_unsplit_model() -> None:
    """The sequence with the candidate in it, for histories of every length, through plain torch."""
    model, user = made(), users(LENGTH + 1)
    (codes, numbers, cross, owners), items = candidates(model, 40, LENGTH + 1)
    tensors = [torch.from_numpy(user[name]) for name in model.user_inputs]
    with torch.inference_mode():
        found = model(*tensors[:2], codes, numbers, cross, owners, *tensors[2:]).numpy()
    assert set(owners.tolist()) == set(range(LENGTH + 1))
    expected = [unsplit(model, user, int(owners[n]), int(items[n]), numbers[n], cross[n]) for n in range(40)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_order_within_a_set_says_nothing_and_order_of_sets_does() -> None:
    model, user = made(), users(LENGTH + 1)
    (codes, numbers, cross, _), _ = candidates(model, 5, 1)
    last = {name: array[-1:] for name, array in user.items()}
    assert last["set_ordinal"][0].tolist() == [4, 3, 3, 2, 2, 1, 1]

    def scores(history: list[int]) -> NDArray[np.float32]:
        tensors = [torch.from_numpy(np.array([history]) if name == "history" else last[name]) for name in last]
        with torch.inference_mode():
            owners = torch.zeros(5, dtype=torch.int64)
            found: NDArray[np.float32] = model(*tensors[:2], codes, numbers, cross, owners, *tensors[2:]).numpy()
        return found

    a, b, c, d, e, f, g = last["history"][0].tolist()
    np.testing.assert_allclose(scores([a, c, b, d, e, f, g]), scores([a, b, c, d, e, f, g]), atol=1e-5)
    assert np.abs(scores([a, f, c, d, e, b, g]) - scores([a, b, c, d, e, f, g])).max() > 1e-3


def test_both_graphs_agree_in_every_size_and_no_score_depends_on_the_batch() -> None:
    model = made(OPTIONS.model_copy(update={"history_length": 20, "dim": 16, "layers": 1}))
    user_graph = to_onnx(model.user_module, HISTORY_RANKING_USER_IO, users(3, 20))
    assert (
        parity(
            model.user_module, HISTORY_RANKING_USER_IO, user_graph, size_feeds(HISTORY_RANKING_USER_IO, users(16, 20))
        )
        <= 1e-4
    )
    alone: list[Feed] = [{name: array[row : row + 1] for name, array in users(48, 20).items()} for row in range(48)]
    assert rows_changed_by_batching(user_graph, alone) == 0

    def rows(count: int, batch: int, seed: int = 0) -> Feed:
        (codes, numbers, cross, owners), _ = candidates(model, count, batch, seed)
        with torch.inference_mode():
            user = users(21, 20, seed)
            made = model.user_module(*(torch.from_numpy(user[name]) for name in model.user_inputs))[-batch:]
            part = model.item_part(codes, numbers)
        return {"user": made.numpy(), "item_part": part.numpy(), "cross": cross.numpy(), "row_user": owners.numpy()}

    head = to_onnx(model.head_module, RANKING_HEAD_IO, rows(5, 3))
    assert parity(model.head_module, RANKING_HEAD_IO, head, size_feeds(RANKING_HEAD_IO, rows(64, 16))) <= 1e-4
    requests = [rows(count, 1, n) for n, count in enumerate((1, 2, 3, 200, 199, 17, 1, 64, 33, 5, 200, 7, 100, 31))]
    int8 = quantize(head, requests)
    assert int8 is not None
    assert rows_changed_by_batching(head, requests) == 0
    assert rows_changed_by_batching(int8, requests) == 0


@pytest.mark.parametrize(
    ("changed", "options", "told"),
    [
        ({"catalogue": None}, {}, 'learn_from = "candidates"'),
        ({"item_sizes": {}, "item_multi": {}}, {}, "'item_id' for instance"),
        ({}, {"heads": 3}, "dim = 8 is not a multiple of heads = 3"),
        ({}, {"history_length": 512}, "row of each user would have 4,621 numbers"),
    ],
)
def test_what_it_cannot_be_built_from_is_refused(
    changed: dict[str, object], options: dict[str, int], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        build(inputs()._replace(**changed), OPTIONS.model_copy(update=options))  # type: ignore[arg-type]
