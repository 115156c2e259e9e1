"""User row, item row and head together are the model of the paper, exactly, for every model and any feature groups."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from unsplit import Candidate, Unsplit

from models.ranking.build import MODELS, build
from models.ranking.inputs import Fields, MultiField, RankerInputs
from models.ranking.options import RankerOptions
from models.ranking.pieces import Ranker

NCF = ("gmf", "mlp", "neumf")
GROUPS = [
    RankerInputs({"age": 4, "city": 3}, 2, {"genre": 5}, 3, 4),
    RankerInputs({}, 1, {"genre": 5, "brand": 3}, 0, 2),
    RankerInputs({"age": 4}, 0, {}, 0, 3),
    RankerInputs({"age": 4, "city": 3}, 1, {"genre": 5}, 1, 0),
    RankerInputs({}, 0, {}, 2, 1),
    RankerInputs({}, 0, {}, 0, 2),
    RankerInputs({}, 2, {}, 0, 0),
    RankerInputs({"age": 4}, 1, {"brand": 3}, 1, 2, item_multi={"genres": MultiField(5, 3), "tags": MultiField(4, 1)}),
    RankerInputs({"age": 4}, 0, {}, 0, 1, item_multi={"genres": MultiField(5, 2)}),
]
ID_GROUPS = [
    RankerInputs({"user_id": 6}, 0, {"item_id": 7}, 0, 0),
    RankerInputs({"age": 4, "user_id": 6}, 2, {"item_id": 7, "genre": 3}, 1, 3),
    RankerInputs({"user_id": 6}, 0, {"genre": 3, "item_id": 7}, 0, 1, item_multi={"genres": MultiField(5, 2)}),
]
SPLIT = [name for name in MODELS if name != "transformer"]  # which has a test of its own
CASES = [(name, inputs) for name in SPLIT for inputs in (ID_GROUPS if name in NCF else GROUPS)]


def untrained(name: str, inputs: RankerInputs, **options: Any) -> Ranker:
    """With weights, and statistics of the batch norm, that are far from those a model starts with."""
    torch.manual_seed(3)
    settings: dict[str, Any] = {"dim": 3, "hidden": [8, 5], "dropout": 0.3, **options}
    model = build(inputs, RankerOptions(model=name, **settings)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d) and module.running_mean is not None:
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    return model


def compare(name: str, inputs: RankerInputs, **options: Any) -> None:
    """Six candidates of three users, in one run."""
    model, rng = untrained(name, inputs, **options), np.random.default_rng(0)
    row_user = np.array([2, 0, 0, 1, 2, 0])
    users, items = drawn(rng, inputs.user, 3), drawn(rng, inputs.item, 6)
    user_x, item_x, cross = (
        rng.normal(size=shape) for shape in ((3, inputs.user_numeric), (6, inputs.item_numeric), (6, inputs.cross))
    )
    with torch.inference_mode():
        found = model(
            torch.tensor(users),
            torch.tensor(user_x).float(),
            torch.tensor(items),
            torch.tensor(item_x).float(),
            torch.tensor(cross).float(),
            torch.tensor(row_user),
        )
    unsplit = Unsplit(name, model, inputs, options.get("crosses", []))
    expected = [unsplit(Candidate(users[u], user_x[u], items[n], item_x[n], cross[n])) for n, u in enumerate(row_user)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)


def drawn(rng: np.random.Generator, fields: Fields, count: int) -> NDArray[np.int64]:
    """Codes of one side; of a multi-valued field the first has no value, the last as many as there is place for."""
    codes = np.array([rng.integers(0, size, count) for _, size in fields.columns], np.int64).reshape(-1, count).T
    start = len(fields.sizes)
    for size, length in fields.multi.values():
        codes[0, start : start + length], codes[-1, start : start + length] = 0, rng.integers(1, size, length)
        start += length
    return codes


@pytest.mark.parametrize(("name", "inputs"), CASES)
def test_three_pieces_are_the_unsplit_model(name: str, inputs: RankerInputs) -> None:
    compare(name, inputs)


@pytest.mark.parametrize("name", ["deepfm", "pnn", "neumf"])
def test_batch_norm_keeps_the_split_exact(name: str) -> None:
    compare(name, (ID_GROUPS if name in NCF else GROUPS)[-1 if name in NCF else 0], batch_norm=True, hidden=[8, 5, 4])


@pytest.mark.parametrize(
    "crosses",
    [
        [["age", "city"]],
        [["genre", "brand"], ["city", "age"]],
        [["genre", "age"]],  # weights in the user's row: fewer genres than ages
        [["city", "brand"], ["age", "brand"], ["brand", "genre"], ["city", "genre"]],  # and in the item's row
    ],
)
def test_declared_crosses_of_one_side_and_of_both(crosses: list[list[str]]) -> None:
    inputs = RankerInputs({"age": 6, "city": 3}, 1, {"genre": 5, "brand": 9}, 1, 2)
    compare("wide_deep", inputs, crosses=crosses)


def test_weights_of_a_cross_stand_with_the_partner_of_the_smaller_feature() -> None:
    """Of 30 ages x 5 genres each user's row has 5 weights, an item's row 1 code; of 3 cities an item's row has 3."""
    inputs = RankerInputs({"age": 30, "city": 3}, 0, {"genre": 5}, 0, 0)
    plain = untrained("wide_deep", inputs)
    crossed = untrained("wide_deep", inputs, crosses=[["age", "genre"], ["genre", "city"]])
    assert crossed.user_module.width - plain.user_module.width == 5 + 1
    assert crossed.item_module.width - plain.item_module.width == 1 + 3
