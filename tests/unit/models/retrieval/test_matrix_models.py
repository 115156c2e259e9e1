"""What all models of the user-item matrix have in common: they export, repeat, go into a checkpoint and find blocks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from tiny_dataset import SPLIT_MS, tiny_dataset

from export.graphs import USER_TOWER_IO, Feed, open_session, parity, run, size_feeds, to_onnx
from export.measure import rows_changed_by_batching
from export.quantize import quantize
from models import checkpoint
from models.data.dataset import Dataset
from models.fitting import Fit
from models.options import TrainSection
from models.retrieval.model import RetrievalModel
from models.retrieval.train import build_model, fit
from models.run_log import Silent

NUM_BLOCKS, USERS, ITEMS, LENGTH = 3, 20, 8, 9
NUM_USERS, NUM_ITEMS = NUM_BLOCKS * USERS + 1, NUM_BLOCKS * ITEMS
SECTIONS: dict[str, dict[str, Any]] = {
    "popularity": {"model": "popularity", "history_length": LENGTH},
    "cosine": {"model": "item_to_item", "dim": 12, "history_length": LENGTH},
    "bm25": {"model": "item_to_item", "weighting": "bm25", "dim": NUM_ITEMS, "history_length": LENGTH},
    "ease": {"model": "ease", "dim": 8, "regularization": 5.0, "history_length": LENGTH},
    "ease, full rank": {"model": "ease", "dim": NUM_ITEMS, "regularization": 5.0, "history_length": LENGTH},
    "ials": {
        "model": "ials",
        "dim": 4,
        "unobserved_weight": 0.3,
        "regularization": 0.03,
        "fold_in_steps": 6,
        "history_length": LENGTH,
    },
    "bpr": {
        "model": "bpr",
        "dim": 4,
        "history_length": LENGTH,
        "batch_size": 128,
        "max_steps": 120,
        "max_epochs": 99,
        "learning_rate": 0.05,
        "l2": 0.01,
    },
}


def section(name: str) -> TrainSection:
    return TrainSection.model_validate({"retrieval": SECTIONS[name]})


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Users of a block take 5 of its 8 items, now and then twice; the last user takes nothing."""
    rng = np.random.default_rng(0)
    pairs = []
    for user in range(NUM_BLOCKS * USERS):
        items = user // USERS * ITEMS + rng.choice(ITEMS, 5, replace=False)
        pairs += [(user, int(item)) for item in [*items, *items[: user % 3]]]
    return tiny_dataset(pairs, NUM_USERS, NUM_ITEMS)


@pytest.fixture(scope="module")
def trained(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RetrievalModel]:
    """Each model once."""
    folder, models = tmp_path_factory.mktemp("trained"), {}

    def get(name: str) -> RetrievalModel:
        if name not in models:
            models[name] = fit_one(dataset, name, folder)
        return models[name]

    return get


def fit_one(dataset: Dataset, name: str, folder: Path) -> RetrievalModel:
    return fit(dataset, section(name), Fit("x", "key", 0, SPLIT_MS, folder / "x.npz"), Silent())


def histories(count: int) -> Feed:
    """Right-aligned, of every length from empty to full, with repeats."""
    rng = np.random.default_rng(1)
    items = np.zeros((count, LENGTH), np.int64)
    for row in range(count):
        filled = row % (LENGTH + 1)
        items[row, LENGTH - filled :] = rng.integers(1, NUM_ITEMS + 1, filled)
    return {"history": items, "set_ordinal": items.copy()}


def known_histories(dataset: Dataset) -> NDArray[np.int64]:
    """Of the users of training, int64 [U, LENGTH]; the last is empty."""
    rows = dataset.interactions
    history = np.zeros((NUM_USERS, LENGTH), np.int64)
    for user in range(NUM_USERS):
        items = rows.item_index[rows.user_index == user]
        history[user, LENGTH - len(items) :] = items + 1
    return history


def single(feed: Feed) -> list[Feed]:
    return [{name: array[row : row + 1] for name, array in feed.items()} for row in range(len(feed["history"]))]


@pytest.mark.parametrize("name", ["popularity", "ease", "ials", "bpr"])  # every kind of tower
def test_the_exported_tower_agrees_in_every_size_and_whoever_shares_the_batch(
    name: str, trained: Callable[[str], RetrievalModel]
) -> None:
    """In both precisions. The users' table stays behind: no more numbers than twice the items' vectors."""
    model = trained(name)
    fp32 = to_onnx(model, USER_TOWER_IO, histories(3))
    weights = onnx.load_model_from_string(fp32).graph.initializer
    assert sum(numpy_helper.to_array(tensor).size for tensor in weights) <= 2 * model.item_vectors().numel()
    assert parity(model, USER_TOWER_IO, fp32, size_feeds(USER_TOWER_IO, histories(16))) <= 1e-4
    requests = single(histories(48))
    assert rows_changed_by_batching(fp32, requests) == 0
    int8 = quantize(fp32, requests)
    if int8 is not None:
        assert np.isfinite(run(open_session(int8), histories(48))).all()
        assert rows_changed_by_batching(int8, requests) == 0


@pytest.mark.parametrize("name", [name for name in SECTIONS if name != "popularity"])
def test_the_rest_of_a_users_block_comes_first(
    name: str, dataset: Dataset, trained: Callable[[str], RetrievalModel]
) -> None:
    """For the users of training by their histories, and by the vectors that training gave them, where there are."""
    model = trained(name)
    history = known_histories(dataset)[:-1]
    with torch.inference_mode():
        towers = [model(torch.from_numpy(history), torch.from_numpy(history))]
        if (known := model.known_user_vectors()) is not None:
            assert len(known) == NUM_USERS
            towers.append(known[:-1])
        for vectors in towers:
            scores = vectors @ model.item_vectors().T
            for user, taken in enumerate(history):
                scores[user, taken[taken > 0] - 1] = -torch.inf
            blocks = scores.topk(3).indices.numpy() // ITEMS
            assert (blocks == np.arange(NUM_USERS - 1)[:, None] // USERS).all()


@pytest.mark.parametrize("name", ["cosine", "bm25", "ease", "ease, full rank"])
def test_sums_over_histories_have_a_length_of_about_one(
    name: str, dataset: Dataset, trained: Callable[[str], RetrievalModel]
) -> None:
    """Whatever the scale of the weights: the export compares user vectors by absolute differences."""
    history = torch.from_numpy(known_histories(dataset))
    lengths = trained(name)(history, history)[:, :-1].square().sum(1)
    assert float(lengths.mean()) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_user_without_history_gets_a_usable_vector(name: str, trained: Callable[[str], RetrievalModel]) -> None:
    model = trained(name)
    nothing = torch.zeros(2, LENGTH, dtype=torch.int64)
    with torch.inference_mode():
        scores = model(nothing, nothing) @ model.item_vectors().T
    assert torch.isfinite(scores).all()
    assert len(scores[0].unique()) > 1


@pytest.mark.parametrize("name", SECTIONS)
def test_the_same_seed_gives_the_same_weights_and_a_checkpoint_holds_them_all(
    name: str, dataset: Dataset, trained: Callable[[str], RetrievalModel], tmp_path: Path
) -> None:
    model = trained(name)
    again = checkpoint.weights(fit_one(dataset, name, tmp_path))
    weights = checkpoint.weights(model)
    assert {key: array.tobytes() for key, array in again.items()} == {k: a.tobytes() for k, a in weights.items()}
    loaded = build_model(dataset, section(name), SPLIT_MS)
    checkpoint.set_weights(loaded, weights)
    feed = [torch.from_numpy(array) for array in histories(12).values()]
    with torch.inference_mode():
        torch.testing.assert_close(loaded.eval()(*feed), model(*feed))
        torch.testing.assert_close(loaded.item_vectors(), model.item_vectors())
        known = [one.known_user_vectors() for one in (loaded, model)]
        assert known[0] is None or torch.equal(*known)


@pytest.mark.parametrize("name", SECTIONS)
def test_nothing_to_learn_from_is_refused(name: str, dataset: Dataset, tmp_path: Path) -> None:
    run = Fit("x", "key", 0, 0, tmp_path / "x.npz")
    with pytest.raises(ValueError, match="interactions: there are none before the moment to train up to"):
        fit(dataset, section(name), run, Silent())
