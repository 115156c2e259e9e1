"""Learning from candidate lists: where training starts, and that every loss learns an order."""

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import write_planted

from models.contract.features import cross_names, user_numeric_names
from models.data.config import load_config
from models.data.dataset import Dataset, load_dataset
from models.data.prepare import prepare_dataset
from models.item_stats import NAMES
from models.options import TrainSection
from models.ranking.build import build
from models.ranking.inputs import RankerInputs
from models.ranking.options import RankerOptions
from models.ranking.samples import RankerSamples
from models.ranking.train import fit_ranker, start_from_mean, start_from_retrieval
from models.run_log import Silent

FAMILY = ("lr", "fm", "ffm", "fnn", "ipnn", "opnn", "pnn", "wide_deep", "deepfm", "gmf", "mlp", "neumf")
LENGTH = 20


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("shop")
    return load_dataset(prepare_dataset(load_config(write_planted(folder).config), folder / "data").folder)


def samples(dataset: Dataset, count: int, seed: int) -> RankerSamples:
    """Lists in which the two items with the smallest last cross feature were taken; retrieval knows nothing of it."""
    rng, rows, schema = np.random.default_rng(seed), count * LENGTH, dataset.schema
    cross = rng.normal(size=(rows, len(cross_names(schema)))).astype(np.float32)
    places = cross[:, -1].reshape(count, LENGTH).argsort(1).argsort(1)
    categories = len(schema.categorical("user")) + len(schema.context_features)
    return RankerSamples(
        user_categorical=np.zeros((count, categories), np.int64),
        user_numeric=np.zeros((count, len(user_numeric_names(schema))), np.float32),
        users=np.zeros(count, np.int64),
        window=np.zeros(count, np.int64),
        include_seen=np.arange(count) % 2 == 0,
        items=rng.integers(0, dataset.num_items, rows),
        cross=cross,
        labels=(places < 2).astype(np.float32).ravel(),
        offsets=np.arange(0, rows + 1, LENGTH),
        num_targets=np.full(count, 2),
        item_numeric=np.zeros((1, dataset.num_items, len(schema.numeric("item")) + len(NAMES)), np.float32),
        history=np.zeros((count, 0), np.int32),
        set_ordinal=np.zeros((count, 0), np.int32),
    )


@pytest.mark.parametrize("loss", ["log_loss", "bpr", "softmax", "squared"])
def test_every_loss_learns_an_order_that_retrieval_has_not(loss: str, dataset: Dataset, tmp_path: Path) -> None:
    """The best possible order has an NDCG of 1; one that knows nothing of two among twenty about .3."""
    ranker = RankerOptions(model="lr", loss=loss, epochs=4, batch_size=10, learning_rate=0.1)  # type: ignore[arg-type]
    train, valid = samples(dataset, 150, 0), samples(dataset, 40, 1)
    fitted = fit_ranker(dataset, train, valid, TrainSection(ranker=ranker), Silent(), tmp_path / "x.npz", "key")
    assert fitted.validation > 0.95 > 0.4 > fitted.validation_retrieval > 0.2


@pytest.mark.parametrize("name", FAMILY)
def test_an_untrained_model_keeps_the_order_of_retrieval(name: str) -> None:
    """And says the share of positives where that score is at its mean."""
    inputs = RankerInputs({"user_id": 9, "age": 4}, 2, {"item_id": 80, "genre": 5}, 2, 3)
    torch.manual_seed(0)
    options = RankerOptions(model=name)  # type: ignore[arg-type]
    model = build(inputs, options).eval()
    start_from_mean(model, 0.1, options)
    start_from_retrieval(model, column=1)
    cross = torch.randn(80, 3)
    cross[:, 1] = torch.linspace(-2, 2, 80)
    item = torch.stack([torch.arange(80), torch.arange(80) % 5], 1), torch.randn(80, 2)
    with torch.inference_mode():
        scores = model(torch.tensor([[3, 1]]), torch.ones(1, 2), *item, cross, torch.zeros(80, dtype=torch.int64))
    expected = np.log(0.1 / 0.9) + 0.5 * cross[:, 1].numpy()
    np.testing.assert_allclose(scores.numpy(), expected, atol=0.1)
