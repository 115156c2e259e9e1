"""A ranker learned from pairs of users and items: two groups of users, each with items of its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.baselines import UserLog
from models.contract.schema import CategoricalFeature
from models.data.dataset import Dataset, Splits
from models.offline import Retrieval
from models.options import PopularityOptions, TrainSection
from models.ranking import interactions
from models.ranking.interactions import Everything, InteractionTask, Sides, fit_interactions
from models.ranking.options import RankerOptions
from models.ranking.train import build_ranker
from models.retrieval import popularity
from models.retrieval.snapshot import snapshot
from models.run_log import Silent
from models.targets import Window, window_targets
from models.train import train
from models.trained import load_trained
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


def by_popularity(dataset: Dataset) -> Retrieval:
    until = dataset.splits.valid_start_ms
    return snapshot(dataset, popularity.build(dataset, PopularityOptions(model="popularity"), until, 0), until)


def task_of(dataset: Dataset, retrieval: Retrieval | None, **ranker: object) -> InteractionTask:
    options = OPTIONS.model_copy(update={"ranker": OPTIONS.ranker.model_copy(update=ranker)})
    until = dataset.splits.valid_start_ms
    targets = window_targets(dataset, Window.validation(dataset), "new")
    sides = Sides.at(dataset, until)
    return InteractionTask(build_ranker(dataset, options).eval(), dataset, sides, until, targets, options, retrieval)


@pytest.mark.parametrize(("share", "hard"), [(1.0, 4), (0.5, 2)])
def test_hard_negatives_are_the_best_that_a_user_does_not_have(
    dataset: Dataset, share: float, hard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By popularity, the three best of the items that the user has not taken; the other negatives are any of these."""
    monkeypatch.setattr(interactions, "POOL", 3)
    retrieval = by_popularity(dataset)
    task = task_of(dataset, retrieval, hard_share=share)
    users = np.repeat(np.arange(USERS), 30)
    drawn, weights = task._negatives(users, np.random.default_rng(0))
    assert drawn.shape == (len(users), 4)
    assert weights is None  # log_loss takes them as they are
    past = dataset.interactions.before(dataset.splits.valid_start_ms)
    for user in range(USERS):
        free = np.setdiff1d(np.arange(ITEMS), past.item_index[past.user_index == user])
        scores = retrieval.item_vectors[free, 0]
        least = np.sort(scores)[-3]  # items as popular as the third may stand for it
        found = drawn[users == user]
        assert set(free[scores > least]) <= set(found[:, :hard].ravel()) <= set(free[scores >= least])
        assert len(set(found[:, :hard].ravel())) == 3
        assert set(found.ravel()) <= set(free)


def test_a_softmax_weighs_hard_negatives_by_how_they_were_drawn(dataset: Dataset) -> None:
    """The pool of 200 is all a user has not taken: drawn from it or not, each is as likely, and weighs 1."""
    drawn, weights = task_of(dataset, by_popularity(dataset), hard_share=0.5, loss="softmax")._negatives(
        np.array([0, 1]), np.random.default_rng(0)
    )
    assert weights is not None
    np.testing.assert_allclose(weights, np.ones((2, 1 + drawn.shape[1])), rtol=1e-6)


def test_without_a_share_of_hard_negatives_a_retrieval_model_changes_no_bit(dataset: Dataset) -> None:
    with_it, without = (task_of(dataset, retrieval) for retrieval in (by_popularity(dataset), None))
    assert torch.equal(with_it.loss(0, 1).mean, without.loss(0, 1).mean)
    hard = task_of(dataset, by_popularity(dataset), hard_share=0.5)
    assert not torch.equal(hard.loss(0, 1).mean, without.loss(0, 1).mean)
    with pytest.raises(ValueError, match="hard_share above 0 draws negatives by a retrieval model"):
        task_of(dataset, None, hard_share=0.5)


def test_a_training_takes_hard_negatives_from_any_retrieval_model(dataset: Dataset, tmp_path: Path) -> None:
    """Popularity too: its pool is the popular items."""
    ranker = OPTIONS.ranker.model_copy(update={"epochs": 1, "hard_share": 0.5})
    options = TrainSection(retrieval=PopularityOptions(model="popularity"), ranker=ranker)
    train(dataset, options, tmp_path, Silent())
    assert load_trained(dataset, options, tmp_path, for_test=True).ranker is not None


def test_hard_negatives_are_for_pairs_alone() -> None:
    with pytest.raises(ValueError, match='hard_share is for learn_from = "interactions"'):
        RankerOptions(hard_share=0.5)


def test_a_window_without_new_items_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    end = dataset.splits.end_ms
    after = replace(dataset, splits=Splits(end, end, end + 1, end + 2))
    with pytest.raises(ValueError, match="'validation' took a new item in it; use more data"):
        fit_interactions(after, end, Window.validation(after), OPTIONS, Silent(), tmp_path / "x.npz", "key")
