"""What two towers learn on the planted shop."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import NUM_CATEGORIES, write_planted

from models import checkpoint
from models.contract.features import USER_NUMERIC
from models.data.config import load_config
from models.data.dataset import Dataset, load_dataset
from models.data.prepare import prepare_dataset
from models.fitting import Fit
from models.options import TrainSection, TwoTowerOptions
from models.retrieval.model import RetrievalModel
from models.retrieval.train import build_model, fit
from models.retrieval.two_tower import TwoTower
from models.run_log import Silent

OPTIONS = TwoTowerOptions(
    model="two_tower", dim=16, history_length=20, max_steps=200, batch_size=256, learning_rate=1e-2, hidden=[32]
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder: Path = tmp_path_factory.mktemp("shop")
    return load_dataset(prepare_dataset(load_config(write_planted(folder).config), folder / "data").folder)


def trained(dataset: Dataset, folder: Path) -> RetrievalModel:
    until_ms = dataset.splits.test_start_ms
    run = Fit("retrieval", "key", 0, until_ms, folder / "retrieval.npz")
    return fit(dataset, TrainSection(retrieval=OPTIONS), run, Silent())


@pytest.fixture(scope="module")
def model(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> RetrievalModel:
    return trained(dataset, tmp_path_factory.mktemp("two_tower"))


def test_a_users_feature_tells_the_favourite_category(dataset: Dataset, model: RetrievalModel) -> None:
    """age_group is the first favourite category modulo 4: each lifts its own categories the most, over what every
    age and every category has anyway."""
    groups = np.array([int(dataset.item_ids[n][1:]) % NUM_CATEGORIES % 4 for n in range(dataset.num_items)])
    [age_group] = dataset.schema.categorical("user")
    ages = [age_group.vocabulary.index(f"age{n}") + 1 for n in range(4)]
    categorical = torch.zeros(4, 1 + len(dataset.schema.context_features), dtype=torch.int64)
    categorical[:, 0] = torch.tensor(ages)
    nothing = torch.zeros(4, OPTIONS.history_length, dtype=torch.int64)
    numeric = torch.zeros(4, len(USER_NUMERIC) + len(dataset.schema.numeric("user")))
    with torch.inference_mode():
        scores = (model(nothing, nothing, categorical, numeric) @ model.item_vectors().T).numpy()  # [age, item]
    by_group = np.stack([scores[:, groups == group].mean(1) for group in range(4)], 1)
    lift = by_group - by_group.mean(0) - by_group.mean(1, keepdims=True)
    assert lift.argmax(0).tolist() == [0, 1, 2, 3]


def test_the_same_seed_gives_the_same_weights(dataset: Dataset, model: RetrievalModel, tmp_path: Path) -> None:
    one, other = checkpoint.weights(model), checkpoint.weights(trained(dataset, tmp_path))
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_its_weights_fit_a_model_built_for_a_later_time(dataset: Dataset, model: RetrievalModel) -> None:
    later = build_model(dataset, TrainSection(retrieval=OPTIONS), dataset.splits.end_ms)
    checkpoint.set_weights(later, checkpoint.weights(model))
    with torch.inference_mode():
        assert torch.equal(later.eval().item_vectors(), model.item_vectors())


def test_a_users_id_is_not_read_even_where_it_is_a_feature(dataset: Dataset) -> None:
    """The columns read are those of the other categorical feature, the store."""
    schema = dataset.schema
    named = [feature.model_copy(update={"is_id": feature.name == "age_group"}) for feature in schema.user_features]
    known = replace(dataset, schema=schema.model_copy(update={"user_features": named}))
    model = build_model(known, TrainSection(retrieval=OPTIONS), dataset.splits.end_ms)
    assert isinstance(model, TwoTower)
    assert model.columns == [1]
    assert [table.num_embeddings for table in model.fields] == [schema.context_features[0].size]
