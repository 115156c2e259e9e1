"""Moments and their targets: against a walk through every user's log, and against the state that serving reads."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from planted import write_planted

from models.contract.features import USER_NUMERIC, user_features
from models.contract.history import read_history, tower_input
from models.data.config import load_config
from models.data.dataset import Dataset, Interactions, load_dataset
from models.data.prepare import prepare_dataset
from models.retrieval.moments import UserMoments
from models.retrieval.timeline import DAY_MS
from models.retrieval.two_tower_training import MomentFeatures
from models.states import UserStates

Line = tuple[int, int, int]  # user, day, item


def interactions(lines: list[Line]) -> Interactions:
    rows = np.array(sorted(lines), np.int64).reshape(-1, 3)
    return Interactions(
        rows[:, 0].astype(np.int32),
        rows[:, 2].astype(np.int32),
        rows[:, 1] * DAY_MS,
        np.zeros(len(rows), np.uint8),
        np.ones(len(rows), np.float32),
        {},
    )


def random_lines(rng: np.random.Generator) -> list[Line]:
    """Baskets of one to four distinct items on some of 40 days."""
    return [
        (user, int(day), int(item))
        for user in range(25)
        for day in rng.choice(40, rng.integers(1, 15), replace=False)
        for item in rng.choice(15, rng.integers(1, 5), replace=False)
    ]


def whole_epoch(moments: UserMoments, seed: int = 0) -> NDArray[np.int64]:
    [rows] = moments.epoch(len(moments), np.random.default_rng(seed))
    return np.sort(rows)


def sets_of(items: NDArray[np.int64], ordinals: NDArray[np.int64]) -> Counter[tuple[int, int]]:
    return Counter((int(o), int(i)) for i, o in zip(items, ordinals, strict=True) if o)


@pytest.mark.parametrize("horizon_days", [0, 7])
def test_moments_are_what_a_walk_through_the_log_finds(horizon_days: int) -> None:
    """History strictly before, by set from the newest; the target from the set itself on, and repeats weigh less."""
    rng = np.random.default_rng(1)
    lines = sorted(random_lines(rng))
    moments = UserMoments(interactions(lines), 80, rng, horizon_days, 0.25)
    rows = whole_epoch(moments)
    expected_rows = [n for n, (user, day, _) in enumerate(lines) if any(u == user and d < day for u, d, _ in lines)]
    assert rows.tolist() == expected_rows
    batch = moments.batch(rows, rng)
    for place, row in enumerate(rows):
        user, day, _ = lines[row]
        days = sorted({d for u, d, _ in lines if u == user and d < day}, reverse=True)
        expected = Counter((days.index(d) + 1, item + 1) for u, d, item in lines if u == user and d < day)
        assert sets_of(batch.history[place], batch.set_ordinal[place]) == expected
        assert ((batch.history[place] > 0) == (batch.set_ordinal[place] > 0)).all()
        later = [item for u, d, item in lines if u == user and day <= d <= day + horizon_days]
        assert batch.targets[place] in later
        had = any(u == user and d < day and item == batch.targets[place] for u, d, item in lines)
        assert batch.weights[place] == (0.25 if had else 1.0)


@pytest.mark.parametrize("horizon_days", [0, 7])
def test_target_share_is_the_probability_of_being_drawn(horizon_days: int) -> None:
    """Each moment gives each of its possible targets the same share."""
    rng = np.random.default_rng(2)
    lines = sorted(random_lines(rng))
    moments = UserMoments(interactions(lines), 5, rng, horizon_days)
    rows, expected = whole_epoch(moments), np.zeros(16)
    for row in rows:
        user, day, _ = lines[row]
        later = [item for u, d, item in lines if u == user and day <= d <= day + horizon_days]
        np.add.at(expected, later, 1 / len(later) / len(rows))
    np.testing.assert_allclose(moments.target_share(16), expected, atol=1e-12)
    assert moments.target_share(16)[15] == 0.0


def test_which_items_of_a_cut_set_stay_does_not_follow_from_their_ids() -> None:
    lines = [(0, 1, item) for item in range(6)] + [(0, 2, 9)]
    kept = set()
    for seed in range(20):
        moments = UserMoments(interactions(lines), 2, np.random.default_rng(seed))
        [history] = moments.batch(whole_epoch(moments), np.random.default_rng(0)).history
        kept |= set(history.tolist())
    assert kept == {1, 2, 3, 4, 5, 6}


def test_users_with_one_time_teach_nothing() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no user has interactions at two times"):
        UserMoments(interactions([(0, 1, 1), (0, 1, 2), (1, 3, 0)]), 4, rng)
    with pytest.raises(ValueError, match="no interactions to train on"):
        UserMoments(interactions([]), 4, rng)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder: Path = tmp_path_factory.mktemp("shop")
    return load_dataset(prepare_dataset(load_config(write_planted(folder).config), folder / "data").folder)


def test_training_sees_what_serving_would_have_seen(dataset: Dataset) -> None:
    """History and features of 200 moments equal those made of the user's state by the contract's code. A set that the
    window cuts may keep other items of it, as many."""
    rng, length = np.random.default_rng(3), 20
    [store] = dataset.schema.context_features
    stores = rng.integers(0, store.size, len(dataset.interactions)).astype(np.int32)  # planted, a user has one only
    past = replace(dataset.interactions, context={store.name: stores})
    moments = UserMoments(past, length, rng)
    batch = moments.batch(rng.choice(whole_epoch(moments), 200, replace=False), rng)
    categorical, numeric = MomentFeatures(dataset, past).of(batch.rows)
    states, schema, cut = UserStates(dataset), dataset.schema, 0
    for place, row in enumerate(batch.rows):
        now_ms = int(past.time_ms[row])
        state = states.at(int(past.user_index[row]), now_ms)
        history = read_history(state, dataset.item_hashes)
        items, ordinals = tower_input(history, length)
        assert batch.set_ordinal[place].tolist() == ordinals.tolist()
        whole = ordinals < ordinals.max() if len(history) > length else ordinals > 0
        assert sets_of(batch.history[place][whole], ordinals[whole]) == sets_of(items[whole], ordinals[whole])
        cut += len(history) > length
        context = {store.name: store.vocabulary[stores[row] - 1]} if stores[row] else {}
        expected = user_features(schema, state, history, context, now_ms)
        assert categorical[place].tolist() == expected.categorical.tolist()
        skipped = len(USER_NUMERIC)
        np.testing.assert_allclose(numeric[place, skipped:], expected.numeric[skipped:], atol=1e-6)
    assert 20 < cut < 180, "windows are cut and not cut, or this test says less than it claims"
    assert (numeric.std(0)[skipped:] > 0).all()
    assert (categorical.std(0) > 0).all()
