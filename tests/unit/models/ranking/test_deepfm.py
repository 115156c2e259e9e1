"""DeepFM's three pieces against the formula of the paper, written out without the split."""

import numpy as np
import torch

from models.ranking.deepfm import DeepFm, DeepFmConfig, RankerInputs

INPUTS = RankerInputs(user_sizes=[4, 3], user_numeric=2, item_sizes=[5], item_numeric=3, cross=4)
CONFIG = DeepFmConfig(dim=6, hidden=(8, 5), dropout=0.3)


def _model() -> DeepFm:
    torch.manual_seed(3)
    model = DeepFm(INPUTS, CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
    return model


def _unsplit(
    model: DeepFm, user: tuple[int, ...], user_x: np.ndarray, item: int, item_x: np.ndarray, x: np.ndarray
) -> float:
    """Linear terms + all pairs of field vectors + MLP over the concatenated fields, for one candidate, in NumPy."""
    w = {name: value.double().numpy() for name, value in model.state_dict().items()}
    fields, linear = [], 0.0
    for part, codes, numbers in (("user_module", user, user_x), ("item_module", (item,), item_x)):
        for place, code in enumerate(codes):
            fields.append(w[f"{part}.fields.tables.{place}.weight"][code])
            linear += w[f"{part}.fields.weights.{place}.weight"][code, 0]
        for place, value in enumerate(numbers):
            fields.append(w[f"{part}.fields.numeric"][place] * value)
            linear += w[f"{part}.fields.numeric_weight"][place] * value
    num_user = len(user) + len(user_x)
    first = w["user_module.first"] @ np.concatenate(fields[:num_user])
    first += w["item_module.first"] @ np.concatenate(fields[num_user:])
    first += w["head_module.first.weight"] @ x + w["head_module.first.bias"]
    for place, value in enumerate(x):
        fields.append(w["head_module.cross.numeric"][place] * value)
        linear += w["head_module.cross.numeric_weight"][place] * value
    pairs = sum(fields[a] @ fields[b] for a in range(len(fields)) for b in range(a))
    hidden = np.maximum(w["head_module.hidden.0.weight"] @ np.maximum(first, 0) + w["head_module.hidden.0.bias"], 0)
    deep = (w["head_module.out.weight"] @ hidden + w["head_module.out.bias"])[0]
    return float(linear + pairs + deep)


def test_three_pieces_equal_the_unsplit_model() -> None:
    """User graph, item part and head together are DeepFM, for candidates of several users in one run."""
    model, rng = _model(), np.random.default_rng(0)
    users = [((1, 2), rng.normal(size=2)), ((0, 1), rng.normal(size=2)), ((3, 0), rng.normal(size=2))]
    row_user = np.array([2, 0, 0, 1, 2])
    items, item_x, cross = rng.integers(0, 5, 5), rng.normal(size=(5, 3)), rng.normal(size=(5, 4))
    with torch.inference_mode():
        found = model(
            torch.tensor([codes for codes, _ in users]),
            torch.tensor(np.stack([numbers for _, numbers in users])).float(),
            torch.tensor(items)[:, None],
            torch.tensor(item_x).float(),
            torch.tensor(cross).float(),
            torch.tensor(row_user),
        ).numpy()
    expected = [_unsplit(model, *users[row_user[n]], items[n], item_x[n], cross[n]) for n in range(5)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_model_without_categories_or_numbers_of_a_group_still_scores() -> None:
    model = DeepFm(RankerInputs([], 1, [], 0, 2), CONFIG).eval()
    with torch.inference_mode():
        score = model(
            torch.zeros(1, 0, dtype=torch.int64),
            torch.ones(1, 1),
            torch.zeros(3, 0, dtype=torch.int64),
            torch.zeros(3, 0),
            torch.ones(3, 2),
            torch.zeros(3, dtype=torch.int64),
        )
    assert score.shape == (3,)
    assert torch.isfinite(score).all()
