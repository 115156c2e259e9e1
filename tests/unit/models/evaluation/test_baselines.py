"""Baselines on histories small enough to rank by hand; the window starts on day 10."""

from collections.abc import Callable

import numpy as np
import pytest

from models.baselines import Baseline, UserLog, baselines, most_popular, nothing, own_items, popularity
from models.contract.candidates import own_frequent
from models.contract.features import HALF_LIVES_DAYS
from models.data.dataset import Dataset
from models.neighbours import item_neighbours

DAY_MS = 86_400_000
SPLIT_MS = 10 * DAY_MS
# user 0 bought 3 twice long ago and 1 once of late; item 0 is what the others buy; 4 is bought after the split only
TRIPLES = [
    (0, 3, 1.0),
    (0, 3, 2.0),
    (0, 1, 9.0),
    (1, 0, 8.0),
    (1, 2, 8.0),
    (2, 0, 9.0),
    (0, 4, 11.0),
    (1, 4, 12.0),
    (1, 4, 13.0),
]


@pytest.fixture
def dataset(make_dataset: Callable[..., Dataset]) -> Dataset:
    return make_dataset(TRIPLES, num_users=4, num_items=5)


def ask(dataset: Dataset, name: str, users: list[int], mode: str = "all", k: int = 5) -> list[list[int]]:
    return baselines(dataset, SPLIT_MS)[name](np.array(users), mode, k).tolist()


def test_popularity_halves_with_every_half_life(dataset: Dataset) -> None:
    past = dataset.interactions.before(SPLIT_MS)
    # ages in days: item 0: 2 and 1; item 1: 1; item 2: 2; item 3: 9 and 8
    expected = [2**-2.0 + 2**-1.0, 2**-1.0, 2**-2.0, 2**-9.0 + 2**-8.0, 0.0]
    np.testing.assert_allclose(popularity(past, 5, SPLIT_MS, half_life_days=1.0), expected, rtol=1e-15)
    assert most_popular(past, 5, SPLIT_MS, half_life_days=1.0).tolist() == [0, 1, 2, 3, 4]


def test_popularity_is_the_same_list_for_everyone(dataset: Dataset) -> None:
    # half-life of 30 days: item 0 two recent, 3 two older, then 1 (1 day) before 2 (2 days)
    assert ask(dataset, "popularity", [0, 3]) == [[0, 3, 1, 2, 4]] * 2


def test_new_items_leave_out_what_the_user_had(dataset: Dataset) -> None:
    assert ask(dataset, "popularity", [0, 1, 3], "new") == [[0, 2, 4, -1, -1], [3, 1, 4, -1, -1], [0, 3, 1, 2, 4]]


def test_own_items_have_nothing_to_rank_among_new_items(dataset: Dataset) -> None:
    for name in ("own_frequent", "own_frequent_decayed"):
        assert ask(dataset, name, [0, 1, 3], "new") == ask(dataset, "popularity", [0, 1, 3], "new")


def test_own_items_come_first_by_count_and_popular_items_fill_up(dataset: Dataset) -> None:
    assert ask(dataset, "own_frequent", [0, 1]) == [[3, 1, 0, 2, 4], [0, 2, 3, 1, 4]]


def test_decay_prefers_what_is_bought_of_late(dataset: Dataset) -> None:
    log = UserLog.of(dataset)
    history = log.history(0, SPLIT_MS)
    # half-life of 2 days: item 3: 2**-4.5 + 2**-4 = .107; item 1: 2**-.5 = .707
    assert own_items(2.0, np.arange(5))(history, SPLIT_MS).tolist() == [1, 3]
    assert own_items(float("inf"), np.arange(5))(history, SPLIT_MS).tolist() == [3, 1]


def test_own_items_agree_with_the_source_that_serves(make_dataset: Callable[..., Dataset]) -> None:
    """At the half-life of serving; there ties go by item index, and distinct times leave none."""
    rng = np.random.default_rng(0)
    times = rng.choice(900, 200, replace=False) / 100
    data = make_dataset(
        [(0, int(item), time) for item, time in zip(rng.integers(0, 40, 200), times, strict=True)], 1, 40
    )
    history = UserLog.of(data).history(0, SPLIT_MS)
    served = own_frequent(history, SPLIT_MS, 40)
    assert own_items(HALF_LIVES_DAYS[1], np.arange(40))(history, SPLIT_MS).tolist() == served.tolist()


def test_a_user_without_history_gets_popular_items(dataset: Dataset) -> None:
    for name in ("own_frequent", "own_frequent_decayed", "item_to_item"):
        assert ask(dataset, name, [3], k=3) == [[0, 3, 1]]


def test_nothing_from_the_split_on_is_known(dataset: Dataset, make_dataset: Callable[..., Dataset]) -> None:
    """Other purchases in the window change no list."""
    past = [triple for triple in TRIPLES if triple[2] < 10]
    other = make_dataset([*past, (0, 2, 10.0), (3, 2, 10.0), (2, 2, 19.0)], num_users=4, num_items=5)
    for mode in ("all", "new"):
        for name in baselines(dataset, SPLIT_MS):
            assert ask(dataset, name, [0, 1, 2, 3], mode) == ask(other, name, [0, 1, 2, 3], mode)


def test_state_of_another_time_moves_the_own_items(dataset: Dataset) -> None:
    """The moment itself is not known yet; from day 12 on item 4 counts once, from day 13 on twice."""
    system = baselines(dataset, SPLIT_MS)["own_frequent"]
    times = np.array([11.9, 12.0, 12.5, 13.5]) * DAY_MS
    found = system.at(np.ones(4, np.int64), times.astype(np.int64), "all", 3)
    assert found.tolist() == [[0, 2, 3], [0, 2, 3], [0, 2, 4], [4, 0, 2]]


@pytest.mark.parametrize(("popular", "expected"), [([0, 1, 2, 3, 4], [4, 0, 2]), ([3, 2, 1, 0, 4], [4, 2, 0])])
def test_ties_among_own_items_go_by_popularity(dataset: Dataset, popular: list[int], expected: list[int]) -> None:
    history = UserLog.of(dataset).history(1, 20 * DAY_MS)
    # item 4 twice, 0 and 2 once each
    assert own_items(float("inf"), np.array(popular))(history, SPLIT_MS).tolist() == expected


def test_neighbours_are_cosines_of_user_columns(make_dataset: Callable[..., Dataset]) -> None:
    # users of item 0: {0, 1, 2}, 1: {0, 1}, 2: {2}, 3: {3}; repeats do not count
    triples = [(0, 0, 1), (0, 0, 2), (0, 1, 1), (1, 0, 1), (1, 1, 1), (2, 0, 1), (2, 2, 1), (3, 3, 1)]
    data = make_dataset(triples, num_users=4, num_items=4)
    neighbours, similarity = item_neighbours(data.interactions, 4, 4, limit=2, shrinkage=0)
    assert neighbours.tolist() == [[1, 2], [0, -1], [0, -1], [-1, -1]]
    expected = [[2 / (3 * 2) ** 0.5, 1 / (3 * 1) ** 0.5], [2 / 6**0.5, 0], [1 / 3**0.5, 0], [0, 0]]
    np.testing.assert_allclose(similarity, expected, rtol=1e-6)


@pytest.mark.parametrize("block_pairs", [1, 40 * 7, 2**22])
@pytest.mark.parametrize("dense", [0, 2**62])
def test_neighbours_agree_with_the_dense_product(
    make_dataset: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch, block_pairs: int, dense: int
) -> None:
    """Whatever the block size, and however pairs are counted: sorted or in a matrix; ties go by item index."""
    monkeypatch.setattr("models.neighbours._BLOCK_PAIRS", block_pairs)
    monkeypatch.setattr("models.neighbours._DENSE", dense)
    rng = np.random.default_rng(1)
    triples = [(int(user), int(item), 1.0) for user, item in rng.integers(0, [60, 40], (500, 2))]
    data = make_dataset(triples, num_users=60, num_items=40)
    matrix = np.zeros((60, 40))
    matrix[data.interactions.user_index, data.interactions.item_index] = 1
    norms = np.sqrt(matrix.sum(axis=0, dtype=np.float32))
    cosine = (matrix.T @ matrix).astype(np.float32) / (norms[:, None] * norms)
    np.fill_diagonal(cosine, 0)
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :8]
    neighbours, similarity = item_neighbours(data.interactions, 60, 40, limit=8, shrinkage=0)
    assert neighbours.tolist() == order.tolist()
    np.testing.assert_allclose(similarity, np.take_along_axis(cosine, order, axis=1), rtol=1e-6)


def test_item_to_item_follows_the_history(make_dataset: Callable[..., Dataset]) -> None:
    """Items 0 and 1 are bought together, so are 2 and 3; who bought 0 is shown 1 before the popular 3."""
    pairs = [(1, 0), (1, 1), (2, 2), (2, 3), (3, 3), (4, 3), (0, 0)]
    data = make_dataset([(user, item, 5.0) for user, item in pairs], num_users=5, num_items=4)
    assert ask(data, "item_to_item", [0], "new") == [[1, 3, 2, -1, -1]]


def test_lists_are_whole_rankings_without_repeats(dataset: Dataset) -> None:
    for name in baselines(dataset, SPLIT_MS):
        for row in ask(dataset, name, [0, 1, 2, 3], k=5):
            assert sorted(row) == [0, 1, 2, 3, 4]


def test_a_list_longer_than_the_catalogue_is_padded(dataset: Dataset) -> None:
    popular = np.array([2, 0, 1, 3, 4])
    system = Baseline(UserLog.of(dataset), SPLIT_MS, popular, nothing)
    assert system(np.array([0]), "all", 7).tolist() == [[2, 0, 1, 3, 4, -1, -1]]
