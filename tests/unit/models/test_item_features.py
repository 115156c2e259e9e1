"""Item features as tensors, and what their encoder adds up."""

from dataclasses import replace

import numpy as np
import torch
from tiny_dataset import tiny_dataset

from models.contract.columns import BytesColumn
from models.contract.schema import CategoricalFeature, MultiFeature, NumericFeature, TextFeature, VectorFeature
from models.data.dataset import Dataset
from models.item_features import ItemFeatureEncoder, ItemFeatures, item_features, scaled
from models.text import text_vectors

TEXTS = ["red wine", "white wine", "red ink", ""]


def rich() -> Dataset:
    """Four items with a feature of every kind, the id among them."""
    plain = tiny_dataset([(0, 0)], 1, 4)
    features = [
        CategoricalFeature(name="genre", vocabulary=["a", "b"]),
        NumericFeature(name="price", mean=0.0, std=1.0),
        MultiFeature(name="tags", vocabulary=["x", "y", "z"], length=2),
        TextFeature(name="title"),
        VectorFeature(name="image", dim=2),
        CategoricalFeature(name="item_id", vocabulary=["i0", "i1", "i2"], is_id=True),
    ]
    return replace(
        plain,
        fingerprint="rich",
        schema=plain.schema.model_copy(update={"item_features": features}),
        item_categorical=np.array([[1, 1], [2, 2], [0, 3], [1, 0]], np.int32),
        item_numeric=np.array([[0.5], [-1.0], [0.0], [2.0]], np.float32),
        item_multi={"tags": np.array([[1, 3], [2, 0], [0, 0], [3, 1]], np.int32)},
        item_text={"title": BytesColumn.of(text.encode() for text in TEXTS)},
        item_vectors_given={"image": np.array([[3, 1], [1, 1], [0, 0], [2, 4]], np.float32)},
    )


def test_every_kind_but_the_id_is_there() -> None:
    found = item_features(rich(), text_dim=4)
    assert found.codes.tolist() == [[1], [2], [0], [1]]
    assert found.sizes == [3]
    assert [codes.tolist() for codes in found.multi] == [[[1, 3], [2, 0], [0, 0], [3, 1]]]
    assert found.multi_sizes == [4]
    assert found.dense.shape == (4, 1 + 2 + 4)
    assert found.dense[:, 0].tolist() == [0.5, -1.0, 0.0, 2.0]
    torch.testing.assert_close(found.dense[:, 3:], scaled(text_vectors(TEXTS, 4).numpy()))
    assert not found.empty


def test_given_vectors_are_centred_with_one_scale_and_missing_ones_stay_zero() -> None:
    """The mean is [2, 2]; the squares about it are 1 1 1 1 0 4, their mean 8/6."""
    found = scaled(np.array([[3, 1], [1, 1], [0, 0], [2, 4]], np.float32))
    expected = torch.tensor([[1.0, -1.0], [-1.0, -1.0], [0.0, 0.0], [0.0, 2.0]]) / (8 / 6) ** 0.5
    torch.testing.assert_close(found, expected)
    assert scaled(np.zeros((2, 3), np.float32)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert scaled(np.ones((2, 1), np.float32)).tolist() == [[0], [0]]


def test_a_vector_is_the_sum_over_features_and_the_mean_over_values() -> None:
    features = item_features(rich(), text_dim=4)
    torch.manual_seed(0)
    encoder = ItemFeatureEncoder(features, 5)
    genre, tags = encoder.tables[0].weight, encoder.multi_tables[0].weight
    assert tags[0].abs().sum() > 0, "padding would show"
    found = encoder(torch.tensor([[0, 1], [2, 3]]))
    dense = features.dense @ encoder.from_dense
    torch.testing.assert_close(found[0, 0], genre[1] + (tags[1] + tags[3]) / 2 + dense[0])
    torch.testing.assert_close(found[0, 1], genre[2] + tags[2] + dense[1])
    torch.testing.assert_close(found[1, 0], genre[0] + dense[2])


def test_items_without_features_have_zero_vectors() -> None:
    features = item_features(tiny_dataset([(0, 0)], 1, 3))
    assert features.empty
    assert ItemFeatureEncoder(features, 2)(torch.tensor([0, 2])).tolist() == [[0, 0], [0, 0]]


def test_multi_values_alone_are_features() -> None:
    multi = torch.tensor([[1, 2], [0, 0]])
    features = ItemFeatures(torch.zeros(2, 0, dtype=torch.int64), [], [multi], [3], torch.zeros(2, 0))
    assert not features.empty
    encoder = ItemFeatureEncoder(features, 2)
    table = encoder.multi_tables[0].weight
    torch.testing.assert_close(encoder(torch.tensor([0, 1])), torch.stack([table[1:].mean(0), torch.zeros(2)]))
