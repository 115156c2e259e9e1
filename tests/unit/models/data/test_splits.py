"""Train, validation and test."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from conftest import LOG, Prepare, Shop

from models.data.dataset import Dataset, Splits
from models.data.errors import BadRowsError, DatasetError

DAY_MS = 86_400_000
FIRST_MS = 1_704_067_200_000  # 2024-01-01
LAST_MS = FIRST_MS + 29 * DAY_MS


def rows(dataset: Dataset, part: Any) -> list[tuple[str, str, int]]:
    found = dataset.interactions_of(part)
    users = [dataset.user_ids[i].decode() for i in found.user_index]
    items = [dataset.item_ids[i].decode() for i in found.item_index]
    return list(zip(users, items, ((found.time_ms - FIRST_MS) // DAY_MS).tolist(), strict=True))


def test_windows_are_counted_back_from_the_last_interaction(shop: Shop, prepared: Prepare) -> None:
    """Test is the last 10 days up to 30 January 00:00 inclusive; the first moment of a window belongs to it."""
    dataset = prepared(shop())
    end = LAST_MS + 1
    assert dataset.splits == Splits(end - 28 * DAY_MS, end - 19 * DAY_MS, end - 10 * DAY_MS, end)
    assert sorted(day for _, _, day in rows(dataset, "test")) == list(range(20, 30))
    assert sorted(day for _, _, day in rows(dataset, "validation")) == list(range(11, 20))
    assert sorted(day for _, _, day in rows(dataset, "train")) == list(range(11))
    assert dataset.report.parts == {"train": 11, "validation": 9, "test": 10}


def test_an_interaction_exactly_at_a_boundary_is_in_the_later_part(shop: Shop, prepared: Prepare) -> None:
    boundary = "2024-01-20T00:00:00.001Z"
    dataset = prepared(shop([*LOG, f"u0,i0,{boundary}", "u1,i1,2024-01-20T00:00:00Z"]))
    assert dataset.splits.test_start_ms == FIRST_MS + 19 * DAY_MS + 1
    assert ("u0", "i0", 19) in rows(dataset, "test")
    assert ("u1", "i1", 19) in rows(dataset, "validation")


def test_data_shorter_than_its_windows_is_an_error(shop: Shop, prepared: Prepare) -> None:
    with pytest.raises(BadRowsError, match=r"span 29\.0 days; nothing is left to train on before 37\.0 days"):
        prepared(shop(toml="[split]\ntest_days = 10\nvalid_days = 9\nranker_windows = 2\n"))


def test_an_empty_window_is_an_error(shop: Shop, prepared: Prepare) -> None:
    """Nothing happened in the ten validation days."""
    log = [LOG[0], *LOG[1:11], *LOG[21:]]
    with pytest.raises(BadRowsError, match="no interactions in the validation split"):
        prepared(shop(log))


def test_a_part_emptied_by_min_users_is_an_error(shop: Shop, prepared: Prepare) -> None:
    """i7 alone is bought in the test window, by nobody before."""
    log = [*LOG[:21], *(line.replace("i0", "i7").replace("i1", "i7") for line in LOG[21:])]
    with pytest.raises(BadRowsError, match="no interactions in the test split"):
        prepared(shop(log))


def test_leave_last_out(shop: Shop, prepared: Prepare) -> None:
    """The last of each user is the test, the one before it validation; a user with two keeps both for training."""
    log = [*LOG, "few,i0,2024-01-02", "few,i1,2024-01-29"]
    dataset = prepared(shop(log, '[split]\nkind = "leave-last-out"\n'))
    assert [(user, day) for user, _, day in rows(dataset, "test")] == [("u0", 28), ("u1", 29)]
    assert [(user, day) for user, _, day in rows(dataset, "validation")] == [("u0", 26), ("u1", 27)]
    assert [user for user, _, _ in rows(dataset, "train")].count("few") == 2


def test_leave_last_out_draws_among_equal_times(shop: Shop, prepared: Prepare) -> None:
    """Of a last basket of two any may be the test item: over 40 users both orders of ids are seen, and repeat."""
    basket = [f"v{i:02d},i{j},2024-01-{day}" for i in range(40) for day, j in ((10, 0), (28, 0), (28, 1))]
    config = shop([*LOG, *basket], '[split]\nkind = "leave-last-out"\n')
    drawn = Counter(item for user, item, _ in rows(prepared(config), "test") if user.startswith("v"))
    assert drawn["i0"] + drawn["i1"] == 40
    assert min(drawn["i0"], drawn["i1"]) >= 10


def test_random_split(shop: Shop, prepared: Prepare) -> None:
    """Shares within three standard deviations of 1,000 draws; the draw depends on the seed alone."""
    log = [LOG[0], *(f"u{i},i{i % 7},2024-01-05T00:{i // 60:02d}:{i % 60:02d}" for i in range(1000))]
    toml = '[split]\nkind = "random"\nvalid_share = 0.1\ntest_share = 0.2\nseed = {seed}\n'
    first = prepared(shop(log, toml.format(seed=1)))
    counts = np.bincount(first.part)
    assert abs(counts[2] - 200) < 3 * np.sqrt(1000 * 0.2 * 0.8)
    assert abs(counts[1] - 100) < 3 * np.sqrt(1000 * 0.1 * 0.9)
    again = prepared(shop([LOG[0], *reversed(log[1:])], toml.format(seed=1)))
    other = prepared(shop(log, toml.format(seed=2)))
    assert np.array_equal(first.part, again.part)
    assert not np.array_equal(first.part, other.part)


def test_other_kinds_have_no_windows_to_misuse(shop: Shop, prepared: Prepare) -> None:
    """`before` any of their starts is empty, so code that expects windows fails at once instead of leaking."""
    dataset = prepared(shop(toml='[split]\nkind = "leave-last-out"\n'))
    assert dataset.splits == Splits(FIRST_MS, FIRST_MS, FIRST_MS, LAST_MS + 1, "leave-last-out")
    assert len(dataset.interactions.before(dataset.splits.test_start_ms)) == 0


def test_splits_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(DatasetError, match="do not ascend"):
        Splits(2, 1, 3, 4)
