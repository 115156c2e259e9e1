"""A ranker learned from pairs of users and items: two groups of users, each with items of its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.baselines import UserLog
from models.contract.schema import CategoricalFeature
from models.data.dataset import Dataset, Splits
from models.options import RankerOptions, TrainSection
from models.ranking.interactions import Everything, Sides, fit_interactions
from models.ranking.train import build_ranker
from models.run_log import Silent
from models.targets import Window
from tests.tiny_dataset import DAY_MS, dataset_of

USERS, ITEMS = 40, 24
OPTIONS = TrainSection(
    ranker=RankerOptions(
        model="neumf", learn_from="interactions", dim=4, hidden=[8], negatives=4, batch_size=64, epochs=12,
        learning_rate=2e-2, dropout=0.0, patience=12,
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """User u takes items of the half that u's parity names: 8 on day 101, 2 further ones on day 111 and on day 121."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(USERS):
        own = rng.permutation(np.arange(user % 2, ITEMS, 2))
        rows += [(user, day * DAY_MS, int(item)) for day, part in ((101, own[:8]), (111, own[8:10]), (121, own[10:12]))
                 for item in part]  # fmt: skip
    plain = dataset_of(sorted(rows), USERS, ITEMS, Splits(110 * DAY_MS, 110 * DAY_MS, 120 * DAY_MS, 130 * DAY_MS))
    return replace(
        plain,
        schema=plain.schema.model_copy(
            update={
                "user_features": [CategoricalFeature(name="user_id", vocabulary=[f"u{n}" for n in range(USERS)])],
                "item_features": [CategoricalFeature(name="item_id", vocabulary=[f"i{n}" for n in range(ITEMS)])],
            }
        ),
        item_categorical=np.arange(1, ITEMS + 1, dtype=np.int32)[:, None],
        user_categorical=np.arange(1, USERS + 1, dtype=np.int32)[:, None],
    )


def test_it_learns_who_takes_what(dataset: Dataset, tmp_path: Path) -> None:
    """Two of the four unseen items of the own half are targets: at random among the 16 unseen ones NDCG@10 is .35, with
    the halves known and nothing else .79; what was taken before is not in the lists."""
    until = dataset.splits.valid_start_ms
    model, best = fit_interactions(
        dataset, until, Window.validation(dataset), OPTIONS, Silent(), tmp_path / "x.npz", "key"
    )
    assert best > 0.75
    users = np.arange(USERS)
    lists = Everything(model, Sides.at(dataset, until), UserLog.of(dataset), until)(users, "new", 4)
    own = (lists % 2 == users[:, None] % 2).mean()
    assert own > 0.95
    past = dataset.interactions.before(until)
    taken = set(zip(past.user_index.tolist(), past.item_index.tolist(), strict=True))
    assert not taken & {(user, int(item)) for user in users.tolist() for item in lists[user]}


def test_everything_is_ordered_by_the_model_s_own_scores(dataset: Dataset) -> None:
    model = build_ranker(dataset, OPTIONS).eval()
    sides, now = Sides.at(dataset, dataset.splits.valid_start_ms), dataset.splits.valid_start_ms
    lists = Everything(model, sides, UserLog.of(dataset), now)(np.array([3]), "all", ITEMS)
    with torch.inference_mode():
        scores = model(
            sides.user_categorical[3:4], sides.user_numeric[3:4], sides.item_categorical, sides.item_numeric,
            torch.zeros(ITEMS, 0), torch.zeros(ITEMS, dtype=torch.int64),
        ).numpy()  # fmt: skip
    assert sorted(lists[0].tolist()) == list(range(ITEMS))
    assert (np.diff(scores[lists[0]]) <= 0).all()


def test_a_list_is_padded_where_the_catalogue_ends(dataset: Dataset) -> None:
    model, now = build_ranker(dataset, OPTIONS), dataset.splits.valid_start_ms
    lists = Everything(model, Sides.at(dataset, now), UserLog.of(dataset), now)(np.array([0]), "new", 20)
    assert (lists[0] >= 0).sum() == ITEMS - 8


def test_the_same_seed_gives_the_same_weights(dataset: Dataset, tmp_path: Path) -> None:
    short = OPTIONS.model_copy(update={"ranker": OPTIONS.ranker.model_copy(update={"epochs": 1})})
    one, other = (
        fit_interactions(
            dataset, dataset.splits.valid_start_ms, Window.validation(dataset), short, Silent(), tmp_path / name, "k"
        )[0].state_dict()
        for name in ("a.npz", "b.npz")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_window_without_new_items_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    end = dataset.splits.end_ms
    after = replace(dataset, splits=Splits(end, end, end + 1, end + 2))
    with pytest.raises(ValueError, match="'validation' took a new item in it; use more data"):
        fit_interactions(after, end, Window.validation(after), OPTIONS, Silent(), tmp_path / "x.npz", "key")
