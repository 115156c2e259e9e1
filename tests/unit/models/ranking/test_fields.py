"""Multi-valued features as one field, and ids that nobody knows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.contract.features import cross_names, user_numeric_names
from models.contract.schema import CategoricalFeature, MultiFeature
from models.data.dataset import Dataset
from models.item_stats import NAMES
from models.options import TrainSection
from models.ranking.embedding import FieldEmbedding
from models.ranking.inputs import Fields, MultiField, RankerInputs, item_codes
from models.ranking.interactions import Sides
from models.ranking.labelled import LabelledRows, fit_labelled
from models.ranking.options import RankerName, RankerOptions
from models.ranking.samples import RankerSamples
from models.ranking.train import fit_ranker, ranker_inputs
from models.run_log import Silent
from tests.tiny_dataset import tiny_dataset

ITEMS, TAGS = 60, 6


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Items of two brands with 0 to 3 of the tags 1 to 5, and with 0 to 2 of two marks."""
    rng = np.random.default_rng(0)
    tags = np.stack([rng.permutation(np.arange(1, TAGS))[:3] for _ in range(ITEMS)]).astype(np.int32)
    tags[np.arange(3) >= (np.arange(ITEMS) % 4)[:, None]] = 0
    plain = tiny_dataset([(0, item) for item in range(ITEMS)], 1, ITEMS)
    features = [
        MultiFeature(name="tags", vocabulary=[f"t{n}" for n in range(1, TAGS)], length=3),
        CategoricalFeature(name="brand", vocabulary=["own", "other"]),
        MultiFeature(name="marks", vocabulary=["new", "sale"], length=2),
    ]
    return replace(
        plain,
        schema=plain.schema.model_copy(update={"item_features": features}),
        item_categorical=rng.integers(0, 3, (ITEMS, 1)).astype(np.int32),
        item_multi={"tags": tags, "marks": np.array([[0, 0], [2, 0], [1, 2]] * (ITEMS // 3), np.int32)},
    )


def test_a_multi_valued_field_is_the_mean_of_its_values_vectors() -> None:
    """A categorical field of 2 codes, then one of 4 codes in 3 columns, then a number: rows of the table are
    [10, 20], [30, 40] | padding, [1, 2], [3, 6], [8, 1]."""
    embedding = FieldEmbedding(Fields({"brand": 2}, 1, {"tags": MultiField(4, 3)}), 2)
    with torch.no_grad():
        embedding.table[:] = torch.tensor([[10, 20], [30, 40], [99, 99], [1, 2], [3, 6], [8, 1]])
        embedding.numeric[:] = torch.tensor([[5, -5]])
    codes = torch.tensor([[1, 0, 0, 0], [0, 2, 0, 0], [1, 3, 1, 2]])
    fields = embedding(codes, torch.tensor([[0.0], [1.0], [2.0]]))
    assert fields.tolist() == [
        [[30, 40], [0, 0], [0, 0]],
        [[10, 20], [3, 6], [5, -5]],
        [[30, 40], [(8 + 1 + 3) / 3, (1 + 2 + 6) / 3], [10, -10]],
    ]
    fields.sum().backward()
    assert embedding.table.grad is not None
    third = np.float32(1 / 3)
    assert embedding.table.grad[:, 0].tolist() == [1, 2, 0, third, 1 + third, third], "padding learns nothing"


def test_the_items_codes_have_the_multi_valued_features_last(dataset: Dataset) -> None:
    codes, multi = item_codes(dataset), dataset.item_multi
    assert codes.dtype == torch.int64
    expected = np.column_stack([dataset.item_categorical, multi["tags"], multi["marks"]])
    np.testing.assert_array_equal(codes.numpy(), expected)
    inputs = ranker_inputs(dataset)
    assert inputs.item.columns == [("brand", 3), ("tags", 6), ("tags", 6), ("tags", 6), ("marks", 3), ("marks", 3)]
    assert inputs.item_fields == 1 + 2 + len(NAMES)
    assert inputs.catalogue is not None
    assert torch.equal(inputs.catalogue, codes)
    assert torch.equal(Sides.at(dataset, 0).item_categorical, codes)


def samples(dataset: Dataset, count: int, seed: int, length: int = 12) -> RankerSamples:
    """Lists of items of which those with tag 1 were taken; nothing else says anything."""
    rng, rows, schema = np.random.default_rng(seed), count * length, dataset.schema
    items = rng.integers(0, ITEMS, rows)
    labels = (dataset.item_multi["tags"] == 1).any(1)[items].astype(np.float32)
    return RankerSamples(
        user_categorical=np.zeros((count, 0), np.int64),
        user_numeric=np.zeros((count, len(user_numeric_names(schema))), np.float32),
        users=np.zeros(count, np.int64),
        window=np.zeros(count, np.int64),
        include_seen=np.arange(count) % 2 == 0,
        items=items,
        cross=rng.normal(size=(rows, len(cross_names(schema)))).astype(np.float32),
        labels=labels,
        offsets=np.arange(0, rows + 1, length),
        num_targets=labels.reshape(count, length).sum(1).astype(np.int64),
        item_numeric=np.zeros((1, ITEMS, len(NAMES)), np.float32),
        history=np.zeros((count, 4), np.int32),
        set_ordinal=np.zeros((count, 4), np.int32),
    )


@pytest.mark.parametrize(("name", "rate"), [("lr", 0.1), ("deepfm", 0.03), ("transformer", 0.03)])
def test_an_order_that_only_a_tag_knows_is_learned(
    name: RankerName, rate: float, dataset: Dataset, tmp_path: Path
) -> None:
    """About 3 of 12 were taken: by chance NDCG@10 is about .5."""
    options = RankerOptions(
        model=name, dim=8, hidden=[16], history_length=4, epochs=12, batch_size=10, learning_rate=rate, dropout=0.0
    )
    train, valid = samples(dataset, 120, 0), samples(dataset, 40, 1)
    fitted = fit_ranker(dataset, train, valid, TrainSection(ranker=options), Silent(), tmp_path / "x.npz", "key")
    assert fitted.validation > 0.98 > 0.7 > fitted.validation_retrieval


INPUTS = RankerInputs({"taste": 6}, 0, {}, 0, 0, item_multi={"tags": MultiField(TAGS, 3)})


def rows(dataset: Dataset, count: int, seed: int) -> LabelledRows:
    """Whose taste is among the item's tags takes it."""
    rng = np.random.default_rng(seed)
    tastes, tags = rng.integers(1, TAGS, (count, 1)), dataset.item_multi["tags"][rng.integers(0, ITEMS, count)]
    numbers = np.zeros((count, 0), np.float32)
    labels = (tags == tastes).any(1).astype(np.float32)
    return LabelledRows(tastes, numbers, tags.astype(np.int64), numbers, numbers, labels)


@pytest.mark.parametrize("name", ["fm", "ffm", "fnn", "ipnn", "opnn", "pnn", "wide_deep", "deepfm"])
def test_who_likes_which_tag_is_learned(name: RankerName, dataset: Dataset, tmp_path: Path) -> None:
    options = RankerOptions(
        model=name,
        dim=4,
        hidden=[16],
        dropout=0.0,
        embedding_dropout=0.0,
        learning_rate=5e-2,
        batch_size=100,
        epochs=8,
    )
    train, valid = rows(dataset, 1200, 0), rows(dataset, 400, 1)
    _, auc = fit_labelled(INPUTS, train, valid, options, 0, Silent(), tmp_path / "x.npz", "key")
    assert auc > 0.9


def test_a_code_outside_a_multi_valued_features_vocabulary_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    good = rows(dataset, 100, 0)
    codes = good.item_categorical.copy()
    codes[3, 2] = TAGS
    for wrong, message in (
        (replace(good, item_categorical=codes), r"'tags' has a code outside 0..5 in the training part"),
        (replace(good, item_categorical=codes[:, :2]), r"item_categorical is \[100, 2\], the features need 3 columns"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_labelled(INPUTS, wrong, good, RankerOptions(), 0, Silent(), tmp_path / "x.npz", "key")


def test_an_unknown_id_starts_at_zero_and_all_others_as_they_are_drawn() -> None:
    torch.manual_seed(1)
    embedding = FieldEmbedding(Fields({"age": 3, "user_id": 5}, 2, {}), 4)
    torch.manual_seed(1)
    drawn = torch.randn(8, 4) * 0.01
    drawn[3] = 0.0
    assert torch.equal(embedding.table, drawn)
    assert torch.equal(embedding.numeric, torch.randn(2, 4) * 0.01)


def test_nothing_is_learned_of_an_unknown_id(tmp_path: Path) -> None:
    """Items that nobody knows are never taken: the vector of code 0 stays zero, and GMF's product with it."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(1, 4, (300, 1)), rng.integers(0, 6, (300, 1))
    labels = ((users + items) % 2 * (items > 0)).astype(np.float32)[:, 0]
    none = np.zeros((300, 0), np.float32)
    table = LabelledRows(users, none, items, none, none, labels)
    options = RankerOptions(model="gmf", dim=4, epochs=3, learning_rate=1e-2, batch_size=50, embedding_l2=0.01)
    model, _ = fit_labelled(
        RankerInputs({"user_id": 4}, 0, {"item_id": 6}, 0, 0), table, table, options, 0, Silent(), tmp_path / "x", "key"
    )
    vectors = model.item_module.embedding.table
    assert vectors[0].tolist() == [0, 0, 0, 0]
    assert vectors[1:].abs().min() > 0
    with torch.inference_mode():
        numbers = torch.zeros(2, 0)
        user = model.user_module(torch.tensor([[1], [2]]), numbers)
        part = model.item_part(torch.zeros(2, 1, dtype=torch.int64), numbers)
        scores = model.head_module(user, part, numbers, torch.tensor([0, 1]))
    assert scores.tolist() == [model.head_module.bias.item()] * 2
