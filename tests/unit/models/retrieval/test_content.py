"""Content retrieval, alone and beside another model: what it finds for items nobody has touched."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_dataset import DAY_MS, SPLIT_MS, tiny_dataset

from export.graphs import USER_TOWER_IO, Feed, parity, size_feeds, to_onnx
from export.measure import rows_changed_by_batching
from models import checkpoint
from models.contract.columns import BytesColumn
from models.contract.schema import CategoricalFeature, Feature, MultiFeature, NumericFeature, TextFeature, VectorFeature
from models.data.dataset import Dataset
from models.fitting import Fit
from models.options import ContentOptions, ContentShare, TrainSection
from models.retrieval.content import Content, content_vectors, fit
from models.retrieval.hybrid import Hybrid, measure
from models.retrieval.train import build_model
from models.retrieval.train import fit as fit_any
from models.run_log import Silent

LENGTH, GENRES, PER_GENRE = 6, 3, 8  # item i has genre i % 3; the last item of each genre is new
NUM_ITEMS, NUM_USERS = GENRES * PER_GENRE, 12
NEW = range(NUM_ITEMS - GENRES, NUM_ITEMS)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """User u takes the old items of genre u % 3. Items have their genre, one of two colours, and their own id."""
    pairs = [(user, item) for user in range(NUM_USERS) for item in range(user % GENRES, NUM_ITEMS - GENRES, GENRES)]
    items, plain = np.arange(NUM_ITEMS), tiny_dataset(pairs, NUM_USERS, NUM_ITEMS)
    later = replace(plain.interactions, time_ms=plain.interactions.time_ms + 10 * DAY_MS)  # states begin after day one
    return with_features(
        replace(plain, interactions=later),
        CategoricalFeature(name="genre", vocabulary=["a", "b", "c"]),
        CategoricalFeature(name="colour", vocabulary=["red", "blue"]),
        CategoricalFeature(name="item_id", vocabulary=[f"i{i}" for i in items], is_id=True),
        item_categorical=np.stack([1 + items % GENRES, 1 + items // GENRES % 2, 1 + items], 1).astype(np.int32),
    )


def with_features(
    plain: Dataset, *features: Feature | MultiFeature | TextFeature | VectorFeature, **columns: object
) -> Dataset:
    schema = plain.schema.model_copy(update={"item_features": list(features)})
    return replace(plain, schema=schema, fingerprint=repr(features), **columns)


def options(**more: object) -> ContentOptions:
    return ContentOptions.model_validate({"model": "content", "history_length": LENGTH, **more})


def run(tmp_path: Path, **more: object) -> Fit:
    return replace(Fit("x", "key", 0, SPLIT_MS, tmp_path / "x.npz"), **more)


def user(*items: int, ordinals: tuple[int, ...] = ()) -> tuple[torch.Tensor, torch.Tensor]:
    history, set_ordinal = torch.zeros(1, LENGTH, dtype=torch.int64), torch.zeros(1, LENGTH, dtype=torch.int64)
    if items:
        history[0, -len(items) :] = torch.tensor(items) + 1
        set_ordinal[0, -len(items) :] = torch.tensor(ordinals or range(len(items), 0, -1))
    return history, set_ordinal


def best(model: Content | Hybrid, history: torch.Tensor, set_ordinal: torch.Tensor) -> list[int]:
    return (model(history, set_ordinal) @ model.item_vectors().T)[0].argsort(descending=True, stable=True).tolist()


def test_items_nobody_touched_are_found_by_their_category(dataset: Dataset, tmp_path: Path) -> None:
    """Items 0 and 6 have genre a and colour red: first all of those, then the other colour, then other genres."""
    model = fit(dataset, options(), run(tmp_path), Silent())
    assert model.item_vectors().shape == (NUM_ITEMS, 5 + 1)
    found = best(model, *user(0, 6))
    assert set(found[:4]) == {0, 6, 12, 18}
    assert set(found[4:8]) == {3, 9, 15, 21}
    assert 21 in NEW


def test_the_id_is_no_content(dataset: Dataset, tmp_path: Path) -> None:
    content = content_vectors(dataset, options())
    torch.testing.assert_close(content[0], content[18])
    torch.testing.assert_close(content.norm(dim=1), torch.ones(NUM_ITEMS))


def test_a_user_vector_is_the_mean_weighted_by_recency() -> None:
    """Half as much ten sets earlier; two items of one set weigh alike, and padding not at all."""
    model = Content(torch.zeros(3), 2, LENGTH, half_life_sets=10.0)
    model.content = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    vector = model(*user(0, 1, ordinals=(11, 1)))[0, :2]
    torch.testing.assert_close(vector, torch.tensor([0.5, 1.0]) / 1.25**0.5)
    vector = model(*user(0, 1, ordinals=(4, 4)))[0, :2]
    torch.testing.assert_close(vector, torch.tensor([0.5, 0.5]) / 0.5**0.5)
    assert model(*user())[0, :2].tolist() == [0.0, 0.0]


def test_a_user_without_history_gets_the_popular_items(tmp_path: Path) -> None:
    plain = tiny_dataset([(0, 2), (1, 2), (0, 1)], 2, 3)
    features = [CategoricalFeature(name="genre", vocabulary=["a", "b"])]
    data = with_features(plain, *features, item_categorical=np.array([[1], [2], [1]], np.int32))
    assert best(fit(data, options(), run(tmp_path), Silent()), *user()) == [2, 1, 0]


@pytest.mark.parametrize("kind", ["multi", "text", "vector", "numeric"])
def test_each_kind_of_feature_is_content_by_itself(tmp_path: Path, kind: str) -> None:
    """Items 0 and 1 are alike, 2 and 3 are, and 4 has nothing or what is average."""
    plain, columns = tiny_dataset([(0, 0)], 1, 5), {}
    if kind == "multi":
        feature = MultiFeature(name="tags", vocabulary=["a", "b", "c", "d"], length=2)
        columns["item_multi"] = {"tags": np.array([[1, 2], [2, 1], [3, 0], [4, 3], [0, 0]], np.int32)}
    elif kind == "text":
        texts = ["red wine", "wine, red!", "cold beer", "beer (cold)", ""]
        feature = TextFeature(name="title")
        columns["item_text"] = {"title": BytesColumn.of(text.encode() for text in texts)}
    elif kind == "vector":
        feature = VectorFeature(name="image", dim=2)
        vectors = np.array([[9, 1], [1, 0], [0, 0.1], [-1, 5], [0, 0]], np.float32)
        columns["item_vectors_given"] = {"image": vectors}
    else:
        feature = NumericFeature(name="price", mean=0.0, std=1.0)
        columns["item_numeric"] = np.array([[2.0], [1.9], [-2.5], [-2.6], [0.0]], np.float32)
    model = fit(with_features(plain, feature, **columns), options(dim=4, text_dim=4), run(tmp_path), Silent())
    assert set(best(model, *user(1))[:2]) == {0, 1}
    assert set(best(model, *user(3))[:2]) == {2, 3}
    assert model.content[4].abs().max() < 1e-5


def test_more_dimensions_than_allowed_are_reduced_and_products_stay_near(dataset: Dataset) -> None:
    """Genre and colour span four dimensions besides what all share; at 5 nothing is lost."""
    full, reduced = content_vectors(dataset, options()), content_vectors(dataset, options(dim=4))
    assert reduced.shape == (NUM_ITEMS, 4)
    torch.testing.assert_close(reduced @ reduced.T, full @ full.T, atol=0.05, rtol=0)


def test_items_without_features_are_refused(tmp_path: Path) -> None:
    plain = tiny_dataset([(0, 0)], 1, 2)
    with pytest.raises(ValueError, match="made of the features of the items; name some in items"):
        fit(plain, options(), run(tmp_path), Silent())
    ids = [CategoricalFeature(name="item_id", vocabulary=["i0", "i1"], is_id=True)]
    with pytest.raises(ValueError, match=r"items\.features"):
        fit(
            with_features(plain, *ids, item_categorical=np.array([[1], [2]], np.int32)),
            options(),
            run(tmp_path),
            Silent(),
        )


SECTIONS = {
    "content": {"retrieval": {"model": "content", "history_length": LENGTH}},
    "hybrid": {
        "retrieval": {"model": "ease", "regularization": 2.0, "dim": 8, "history_length": LENGTH},
        "content": {"weight": 0.3},
    },
}


@pytest.mark.parametrize("name", SECTIONS)
def test_it_exports_and_no_row_depends_on_the_batch(dataset: Dataset, tmp_path: Path, name: str) -> None:
    model = fit_any(dataset, TrainSection.model_validate(SECTIONS[name]), run(tmp_path), Silent())
    rng = np.random.default_rng(0)
    feed: Feed = {
        "history": rng.integers(0, NUM_ITEMS + 1, (48, LENGTH)),
        "set_ordinal": np.tile(np.arange(LENGTH, 0, -1), (48, 1)),
    }
    feed["history"][0] = 0
    graph = to_onnx(model, USER_TOWER_IO, feed)
    assert parity(model, USER_TOWER_IO, graph, size_feeds(USER_TOWER_IO, feed)) < 1e-5
    requests = [{key: array[row : row + 1] for key, array in feed.items()} for row in range(48)]
    assert rows_changed_by_batching(graph, requests) == 0


@pytest.mark.parametrize("name", SECTIONS)
def test_a_checkpoint_gives_the_model_back(dataset: Dataset, tmp_path: Path, name: str) -> None:
    section = TrainSection.model_validate(SECTIONS[name])
    model = fit_any(dataset, section, run(tmp_path), Silent())
    again = build_model(dataset, section, SPLIT_MS)
    assert not torch.equal(again.item_vectors(), model.item_vectors())
    checkpoint.set_weights(again, checkpoint.weights(model))
    assert torch.equal(again.item_vectors(), model.item_vectors())
    history = user(3, 1)
    assert torch.equal(again(*history), model(*history))


def test_a_hybrid_score_is_the_weighted_sum_of_both_over_their_spreads(dataset: Dataset, tmp_path: Path) -> None:
    model = fit_any(dataset, TrainSection.model_validate(SECTIONS["hybrid"]), run(tmp_path), Silent())
    assert isinstance(model, Hybrid)
    history = user(3, 0)
    parts = [(part(*history) @ part.item_vectors().T)[0] for part in (model.other, model.content)]
    score = (model(*history) @ model.item_vectors().T)[0]
    torch.testing.assert_close(score, 0.7 * parts[0] / model.spreads[0] + 0.3 * parts[1] / model.spreads[1])
    assert model.spreads.tolist() == [float(measure(dataset, part, SPLIT_MS)) for part in (model.other, model.content)]


def test_a_hybrid_finds_new_items_that_the_other_model_cannot(dataset: Dataset, tmp_path: Path) -> None:
    """For EASE the three new items are alike; beside content, that of the user's genre is first."""
    model = fit_any(dataset, TrainSection.model_validate(SECTIONS["hybrid"]), run(tmp_path), Silent())
    for genre in range(GENRES):
        history = user(genre, genre + GENRES, genre + 2 * GENRES)
        alone = (model.other(*history) @ model.other.item_vectors().T)[0, list(NEW)]
        assert float(alone.max() - alone.min()) < 1e-6
        found = [item for item in best(model, *history) if item in NEW]
        assert found[0] % GENRES == genre


def test_the_spread_is_the_mean_over_users_of_the_deviation(dataset: Dataset) -> None:
    """Scores of every user are 1, 2, ..., n."""

    class Counting(Content):
        def forward(self, history: torch.Tensor, set_ordinal: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
            return torch.ones_like(history[:, :1], dtype=torch.float32)

        def item_vectors(self) -> torch.Tensor:
            return torch.arange(NUM_ITEMS, dtype=torch.float32).unsqueeze(1)

    found = measure(dataset, Counting(torch.zeros(NUM_ITEMS), 1, LENGTH, 1.0), SPLIT_MS)
    assert float(found) == pytest.approx(np.arange(NUM_ITEMS).std(ddof=1))


def test_going_on_from_a_hybrid_gives_the_other_model_its_own_weights(dataset: Dataset, tmp_path: Path) -> None:
    section = TrainSection.model_validate(
        {"retrieval": {"model": "sasrec", "dim": 4, "max_steps": 1}, "content": {"weight": 0.5}}
    )
    model = build_model(dataset, section, SPLIT_MS)
    weights = checkpoint.weights(model)
    weights["other.start"] = np.full(4, 7.0, np.float32)
    gone_on = fit_any(dataset, section, run(tmp_path, weights=weights, budget=0.0), Silent())
    assert isinstance(gone_on, Hybrid)
    assert gone_on.other.start.tolist() == [7.0] * 4
    assert section.content == ContentShare(weight=0.5)
