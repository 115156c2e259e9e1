"""Training batches: which windows there are, what each moment may be asked for, and what never is."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.data.dataset import Interactions
from models.retrieval.batches import Batch, HistoryWindows
from models.retrieval.timeline import DAY_MS

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


def whole_epoch(windows: HistoryWindows, seed: int = 0) -> Batch:
    """All windows in one batch."""
    rng = np.random.default_rng(seed)
    [ends] = windows.epoch(10_000, rng)
    return windows.batch(np.sort(ends), rng)


def random_lines(rng: np.random.Generator, users: int = 25, items: int = 15) -> list[Line]:
    """Baskets of one to four distinct items on some of 40 days."""
    return [
        (user, int(day), int(item))
        for user in range(users)
        for day in rng.choice(40, rng.integers(1, 15), replace=False)
        for item in rng.choice(items, rng.integers(1, 5), replace=False)
    ]


def test_a_history_that_fits_is_one_window_padded_on_the_left() -> None:
    """Two sets of one item and one of two between them; each set's ordinal counts from the newest. Beside it a history
    of six, the longest of the batch and no longer than a window of nine may be."""
    longest = [(1, day, 10 + day) for day in range(6)]
    batch = whole_epoch(HistoryWindows(interactions([(0, 1, 5), (0, 2, 7), (0, 2, 8), (0, 3, 6), *longest]), 9))
    assert batch.history[0, [0, 1, 2, 5]].tolist() == [0, 0, 6, 7]
    assert set(batch.history[0, 3:5].tolist()) == {8, 9}
    assert batch.history[1].tolist() == [11, 12, 13, 14, 15, 16]
    assert batch.set_ordinal.tolist() == [[0, 0, 3, 2, 2, 1], [6, 5, 4, 3, 2, 1]]
    first = "the first set is asked for too: from an empty history"
    assert batch.weights.tolist() == [[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]], first


def test_the_order_inside_a_set_is_drawn_anew() -> None:
    windows = HistoryWindows(interactions([(0, 1, item) for item in range(5)]), 5)
    orders = {tuple(whole_epoch(windows, seed).history[0].tolist()) for seed in range(20)}
    assert len(orders) > 10
    assert {order[0] for order in orders} == {1, 2, 3, 4, 5}


def test_a_longer_history_is_covered_by_windows_from_the_newest_on() -> None:
    """Seven single items in windows of three, unmoved: 0 alone, 1 to 3, and 4 to 6."""
    windows = HistoryWindows(interactions([(0, day, day) for day in range(7)]), 3)
    assert len(windows) == 3
    batch = windows.batch(np.array([1, 4, 7]), np.random.default_rng(0))
    newest = whole_epoch(windows)
    assert len(newest.history) == 3
    for row in batch.history:
        items = row[row > 0] - 1
        assert np.array_equal(items, np.arange(items[0], items[0] + len(items)))


def test_windows_move_by_up_to_half_their_length_and_stay_with_their_user() -> None:
    """Ten single items of user 1, windows of four. The middle one ends at 5 and moves by two either way. The newest
    moves back only, so that half of the time it shows the newest items; the first, which is short, does not move."""
    lines = [(0, 0, 90), *((1, day, day) for day in range(10)), (2, 0, 91)]
    windows = HistoryWindows(interactions(lines), 4)
    ends = [end for batch in windows.epoch(2, np.random.default_rng(0)) for end in batch.tolist()]
    assert sorted(ends) == [1, 3, 7, 11, 12]
    rng = np.random.default_rng(0)
    drawn = [windows.batch(np.array([3, 7, 11]), rng).history - 1 for _ in range(200)]
    assert {tuple(rows[0].tolist()) for rows in drawn} == {(-1, -1, 0, 1)}
    assert {tuple(rows[1].tolist()) for rows in drawn} == {tuple(range(day - 3, day + 1)) for day in range(3, 8)}
    newest = [rows[2, -1] for rows in drawn]
    assert set(newest) == {9, 8, 7}
    assert 0.5 < np.mean(np.equal(newest, 9)) < 0.7


def test_windows_of_one_batch_are_of_similar_length() -> None:
    """Users with 1 to 64 interactions: batches of four have four neighbouring lengths, in a random order."""
    lines = [(user, day, day) for user in range(64) for day in range(user + 1)]
    windows = HistoryWindows(interactions(lines), 64)
    rng = np.random.default_rng(0)
    lengths = [sorted((windows.batch(ends, rng).history > 0).sum(1).tolist()) for ends in windows.epoch(4, rng)]
    assert sorted(lengths) == [[n, n + 1, n + 2, n + 3] for n in range(1, 65, 4)] != lengths


def test_the_oldest_set_of_a_window_teaches_only_at_the_start_of_the_user() -> None:
    """Cut off from what came before, it would be asked for from an empty history that is none."""
    lines = [(0, day, 2 * day + n) for day in range(4) for n in range(2)]
    windows = HistoryWindows(interactions(lines), 4)
    rng = np.random.default_rng(0)
    for _ in range(20):
        batch = windows.batch(np.array([4, 8]), rng)
        oldest = batch.set_ordinal == batch.set_ordinal.max(axis=1, keepdims=True)
        starts = (batch.history[:, 0] - 1 < 2)[:, None]
        assert np.array_equal(batch.weights > 0, ~oldest | starts)


@pytest.mark.parametrize("horizon_days", [0.0, 3.0, 100.0])
def test_targets_lie_between_the_own_set_and_the_horizon_of_the_same_user(horizon_days: float) -> None:
    """25 random users whose items tell the user and the day. Over many draws all that is allowed comes up, and nothing
    else does."""
    lines = random_lines(np.random.default_rng(1), items=4)
    owned = {user * 1000 + day * 4 + item for user, day, item in lines}
    windows = HistoryWindows(
        interactions([(u, day, u * 1000 + day * 4 + item) for u, day, item in lines]), 8, horizon_days
    )
    drawn: set[tuple[int, int]] = set()
    for seed in range(60):
        batch = whole_epoch(windows, seed)
        asked = batch.weights > 0
        drawn |= set(zip((batch.history[asked] - 1).tolist(), batch.targets[asked].tolist(), strict=True))
    allowed = {
        (item, target)
        for item in owned
        for target in owned
        if item // 1000 == target // 1000 and 0 <= target % 1000 // 4 - item % 1000 // 4 <= horizon_days
    }
    assert drawn <= allowed
    assert len(drawn) > 0.9 * len(allowed) > 300


def test_a_repeated_target_has_its_weight() -> None:
    """Item 5 again on day 3: the only moment at which the user had it before. In its own basket nothing is a repeat."""
    lines = [(0, 1, 5), (0, 1, 6), (0, 2, 7), (0, 3, 5)]
    batch = whole_epoch(HistoryWindows(interactions(lines), 4, repeat_weight=0.25))
    assert batch.weights.tolist() == [[1, 1, 1, 0.25]]
    batch = whole_epoch(HistoryWindows(interactions(lines), 4, repeat_weight=0.0))
    assert batch.weights.tolist() == [[1, 1, 1, 0]]


def test_a_repeat_counts_from_the_moment_not_from_the_target() -> None:
    """With a horizon, what the user first takes later and then again is new at the moment that is asked about."""
    windows = HistoryWindows(interactions([(0, 1, 5), (0, 2, 6), (0, 3, 6), (0, 4, 6)]), 4, 30.0, repeat_weight=0.0)
    for seed in range(10):
        batch = whole_epoch(windows, seed)
        assert batch.weights[0].tolist() == [1, 1, 0, 0]


def test_a_repeat_outside_the_window_is_known() -> None:
    """The window of the two newest does not show that the user had item 5 on day 1."""
    windows = HistoryWindows(interactions([(0, 1, 5), (0, 2, 6), (0, 3, 7), (0, 4, 5)]), 2, repeat_weight=0.0)
    rng = np.random.default_rng(0)
    seen = [windows.batch(np.array([4]), rng) for _ in range(20)]
    unmoved = [batch for batch in seen if batch.history[0, -1] == 6]
    assert unmoved
    assert all(batch.weights.tolist() == [[0, 0]] for batch in unmoved)


def test_an_epoch_has_every_window_once_in_another_order_each_time() -> None:
    windows = HistoryWindows(interactions(random_lines(np.random.default_rng(2))), 5)
    first, again, other = (windows.epoch(7, np.random.default_rng(seed)) for seed in (0, 0, 1))

    def joined(batches: list[NDArray[np.int64]]) -> list[int]:
        return np.concatenate(batches).tolist()

    assert joined(first) == joined(again) != joined(other)
    assert sorted(joined(first)) == sorted(joined(other))
    assert len(joined(first)) == len(windows) == len(set(joined(first)))
    assert {len(batch) for batch in first[:-1]} == {7}


def test_permuted_input_lines_of_equal_times_give_the_identical_batches() -> None:
    """Lines are sorted before they get here; those of one time by item, which is all that the order may depend on."""
    lines = random_lines(np.random.default_rng(3))
    shuffled = [lines[n] for n in np.random.default_rng(4).permutation(len(lines))]
    one, other = (whole_epoch(HistoryWindows(interactions(given), 6, 5.0)) for given in (lines, shuffled))
    for name in ("history", "set_ordinal", "targets", "weights"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_no_interactions_is_an_error() -> None:
    with pytest.raises(ValueError, match="the training window is empty"):
        HistoryWindows(interactions([]), 5)
