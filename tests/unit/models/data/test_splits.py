"""Train, validation and test."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import LOG, Prepare, Shop

from models.contract.state import MIN_TIME_MS
from models.data.dataset import PARTS, Dataset, Interactions, Splits
from models.data.errors import BadRowsError, DatasetError, SourceError
from models.data.prepare import prepare_dataset

DAY_MS = 86_400_000
FIRST_MS = 1_704_067_200_000  # 2024-01-01
LAST_MS = FIRST_MS + 29 * DAY_MS


def interactions_of(dataset: Dataset, part: str) -> Interactions:
    return dataset.interactions.where(dataset.part == PARTS.index(part))


def rows(dataset: Dataset, part: str) -> list[tuple[str, str, int]]:
    found = interactions_of(dataset, part)
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


def moments(dataset: Dataset) -> dict[str, list[tuple[str, int]]]:
    """(item, ms since the test window's start) of every user, in the order of the interactions."""
    found: dict[str, list[tuple[str, int]]] = {}
    rows = dataset.interactions
    for user, item, time in zip(rows.user_index, rows.item_index, rows.time_ms, strict=True):
        moment = (dataset.item_ids[item].decode(), int(time) - dataset.splits.test_start_ms)
        found.setdefault(dataset.user_ids[user].decode(), []).append(moment)
    return found


def test_no_windows_for_the_ranker(shop: Shop, prepared: Prepare) -> None:
    """Its window is empty: it starts where validation does."""
    splits = prepared(shop(toml="[split]\ntest_days = 10\nvalid_days = 9\nranker_windows = 0\n")).splits
    assert splits.ranker_start_ms == splits.valid_start_ms == splits.test_start_ms - 9 * DAY_MS


LAST_OUT = [
    "user_id,item_id,timestamp",
    "six,a,2024-01-01T00:00:00Z",
    "six,b,2024-01-01T00:00:05Z",  # 5 s
    "six,c,2024-01-03T00:00:05Z",  # 2 days
    "six,d,2024-01-04",
    "six,e,2024-01-20",
    "six,f,2024-01-20T00:00:01Z",
    "four,a,2024-01-01",
    "four,b,2024-01-05",
    "four,c,2024-01-06",
    "four,d,2024-01-07",
    "three,a,2024-01-06",
    "three,b,2024-01-07",
    "three,c,2024-01-09",
    "late,a,2024-01-30",
]


def test_leave_last_out_puts_one_interaction_a_day_before_the_end(shop: Shop, prepared: Prepare) -> None:
    """Test at T, validation a day before, the ranker's window a day before that, then the rest with its own gaps.

    A user with fewer than 4 interactions is left in train: their newest stands where the others' rest does.
    """
    dataset = prepared(shop(LAST_OUT, '[split]\nkind = "leave-last-out"\n[limits]\nmin_users = 0\n'))
    end = LAST_MS  # 30 January: where the data ended, the test window starts
    assert dataset.splits == Splits(end - 2 * DAY_MS, end - DAY_MS, end, end + DAY_MS, "leave-last-out")
    rest = -3 * DAY_MS
    assert moments(dataset) == {
        "six": [
            ("a", rest - 2 * DAY_MS - 5000),
            ("b", rest - 2 * DAY_MS),
            ("c", rest),
            ("d", -2 * DAY_MS),
            ("e", -DAY_MS),
            ("f", 0),
        ],
        "four": [("a", rest), ("b", -2 * DAY_MS), ("c", -DAY_MS), ("d", 0)],
        "three": [("a", rest - 3 * DAY_MS), ("b", rest - 2 * DAY_MS), ("c", rest)],
        "late": [("a", rest)],
    }
    assert [(user, item) for user, item, _ in rows(dataset, "test")] == [("four", "d"), ("six", "f")]
    assert [(user, item) for user, item, _ in rows(dataset, "validation")] == [("four", "c"), ("six", "e")]
    assert dataset.report.parts == {"train": 14 - 4, "validation": 2, "test": 2}


@pytest.mark.parametrize("windows", [0, 2])
def test_leave_last_out_with_other_numbers_of_ranker_windows(shop: Shop, prepared: Prepare, windows: int) -> None:
    """The newest interaction outside the windows is always a day before the first window."""
    toml = f'[split]\nkind = "leave-last-out"\nranker_windows = {windows}\n[limits]\nmin_users = 0\n'
    dataset = prepared(shop(LAST_OUT, toml))
    assert dataset.splits.ranker_start_ms == dataset.splits.valid_start_ms - windows * DAY_MS
    inside = [-day * DAY_MS for day in range(windows + 2, -1, -1)]  # from the newest of the rest on
    gaps = [5000, 2 * DAY_MS, DAY_MS - 5000][: 3 - windows]
    rest = [inside[0] - sum(gaps[place:]) for place in range(len(gaps))]
    assert [time for _, time in moments(dataset)["six"]] == [*rest, *inside]
    tested = {user for user, _, _ in rows(dataset, "test")}
    assert tested == ({"six", "four", "three"} if windows == 0 else {"six"})


def test_equal_times_become_a_sequence_of_milliseconds(shop: Shop, prepared: Prepare) -> None:
    """Six at once: three in the windows, three in the rest a millisecond apart; no other order than the drawn one."""
    log = [LOG[0], *(f"u{i},i{j},2024-01-05" for i in range(30) for j in range(6))]
    dataset = prepared(shop(log, '[split]\nkind = "leave-last-out"\n'))
    rest = -3 * DAY_MS
    found = moments(dataset)
    assert all([time for _, time in m] == [rest - 2, rest - 1, rest, -2 * DAY_MS, -DAY_MS, 0] for m in found.values())
    assert all(sorted(item for item, _ in m) == [f"i{j}" for j in range(6)] for m in found.values())
    assert len({tuple(item for item, _ in m) for m in found.values()}) > 20


def test_leave_last_out_draws_among_equal_times(shop: Shop, prepared: Prepare) -> None:
    """Of a last basket of two any may be the test item: over 40 users both orders of ids are seen."""
    basket = [f"v{i:02d},i{j},2024-01-{day}" for i in range(40) for day, j in ((8, 0), (10, 0), (28, 0), (28, 1))]
    config = shop([*LOG, *basket], '[split]\nkind = "leave-last-out"\n')
    drawn = Counter(item for user, item, _ in rows(prepared(config), "test") if user.startswith("v"))
    assert drawn["i0"] + drawn["i1"] == 40
    assert min(drawn["i0"], drawn["i1"]) >= 10


def test_positions_instead_of_times(shop: Shop, prepared: Prepare) -> None:
    """Places 1 to 6: the first time is the first that a state can hold."""
    log = [LOG[0], *(f"u,i{place},{place}" for place in (3, 1, 2, 6, 5, 4))]
    toml = 'time_unit = "position"\n[split]\nkind = "leave-last-out"\n[limits]\nmin_users = 0\n'
    dataset = prepared(shop(log, toml))
    assert dataset.splits.test_start_ms == 4 * DAY_MS + 3
    rest = -3 * DAY_MS
    times = [rest - 2, rest - 1, rest, -2 * DAY_MS, -DAY_MS, 0]
    assert moments(dataset) == {"u": [(f"i{place}", time) for place, time in enumerate(times, 1)]}
    assert dataset.interactions.time_ms[0] == MIN_TIME_MS + 1


def test_a_position_is_a_whole_number(shop: Shop, prepared: Prepare) -> None:
    toml = 'time_unit = "position"\n[split]\nkind = "leave-last-out"\n'
    with pytest.raises(BadRowsError, match=r"timestamp is not a position: a whole number from 0 on: 2"):
        prepared(shop([LOG[0], "u,a,1", "u,b,1.5", "u,c,-1"], toml))


def test_random_split_rounds_down_for_each_user(shop: Shop, prepared: Prepare) -> None:
    """test_share 0.29, valid_share 0.1: of 100 interactions 29 and 10, of 19 5 and 1, of 3 one each, of 2 one test."""
    counts = {"hundred": 100, "nineteen": 19, "three": 3, "two": 2, "one": 1}
    log = ["user_id,item_id", *(f"{user},i{i}" for user, count in counts.items() for i in range(count))]
    toml = '[split]\nkind = "random"\ntest_share = 0.29\nvalid_share = 0.1\n[limits]\nmin_users = 0\n'
    dataset = prepared(shop(log, toml))
    found = {part: Counter(user for user, _, _ in rows(dataset, part)) for part in ("test", "validation", "train")}
    assert found["test"] == {"hundred": 29, "nineteen": 5, "three": 1, "two": 1}
    assert found["validation"] == {"hundred": 10, "nineteen": 1, "three": 1}
    assert found["train"] == {"hundred": 61, "nineteen": 13, "three": 1, "two": 1, "one": 1}


def test_random_split_has_one_time_a_part_and_reads_none(shop: Shop, prepared: Prepare) -> None:
    """Times that cannot be read are no bad rows. A part of a user is one set of equal times."""
    log = [LOG[0], *(f"u{i % 4},i{i % 11},nonsense" for i in range(200))]
    dataset = prepared(shop(log, '[split]\nkind = "random"\n'))
    test = dataset.splits.test_start_ms
    assert dataset.splits == Splits(test - DAY_MS, test - DAY_MS, test, test + DAY_MS, "random")
    assert dataset.interactions.time_ms.min() == MIN_TIME_MS + 1
    times = [np.unique(interactions_of(dataset, part).time_ms) - test for part in ("train", "validation", "test")]
    assert [found.tolist() for found in times] == [[-2 * DAY_MS], [-DAY_MS], [0]]


def test_random_split_depends_on_the_seed_alone(shop: Shop, prepared: Prepare) -> None:
    """The 1,000 rows are 28 different ones: equal rows fall into different parts."""
    log = [LOG[0], *(f"u{i % 4},i{i % 7},2024-01-05" for i in range(1000))]
    toml = '[split]\nkind = "random"\nseed = {seed}\n'
    first = prepared(shop(log, toml.format(seed=1)))
    again = prepared(shop([LOG[0], *reversed(log[1:])], toml.format(seed=1)))
    other = prepared(shop(log, toml.format(seed=2)))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    pairs = Counter((user, item) for user, item, _ in rows(first, "test"))
    assert sum(pairs.values()) == 100
    assert len(pairs) == 28


def test_interactions_of_a_small_value_are_left_out_and_counted(shop: Shop, prepared: Prepare) -> None:
    """3 itself stays, and so does a row without a value; none of them is a bad row."""
    log = [f"{line},{3 + i % 2}" for i, line in enumerate(LOG[1:])]
    extra = [f"u0,low,2024-01-{day},{value}" for day, value in (("05", 2), ("06", 2.9), ("07", 3), ("08", ""))]
    toml = 'value = "rating"\nmin_value = 3\n[split]\ntest_days = 10\nvalid_days = 9\nranker_windows = 1\n'
    dataset = prepared(shop([f"{LOG[0]},rating", *log, *extra], toml + "[limits]\nmax_bad_share = 0\n"))
    source = dataset.report.sources["interactions"]
    assert (source.rows, source.bad, source.left_out) == (34, {}, {"value below 3.0": 2})
    assert dataset.report.num_interactions == 32
    assert dataset.report.interactions_left_out == 0
    low = [i for i in range(dataset.num_items) if dataset.item_ids[i] == b"low"]
    assert dataset.interactions.value[dataset.interactions.item_index == low[0]].tolist() == [3.0, 0.0]
    assert ("interactions: left out, value below 3.0", "2") in dataset.report.lines()


def test_no_value_large_enough_is_an_error(shop: Shop, prepared: Prepare) -> None:
    with pytest.raises(
        BadRowsError, match=r"log\.csv: no row is left: value below 9\.0; lower interactions\.min_value"
    ):
        prepared(shop([f"{LOG[0]},rating", *(f"{line},4" for line in LOG[1:])], 'value = "rating"\nmin_value = 9\n'))


def test_archived_events_have_no_place_in_rewritten_times(tmp_path: Path, shop: Shop) -> None:
    """Their times are those of a service; the others are made up."""
    (tmp_path / "data/archive").mkdir(parents=True)
    (tmp_path / "data/archive/events-1.parquet").write_bytes(b"")
    with pytest.raises(SourceError, match=r"archived events have real times, and a leave-last-out split has none"):
        prepare_dataset(shop(toml='[split]\nkind = "leave-last-out"\n'), tmp_path / "data")


def test_splits_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(DatasetError, match="do not ascend"):
        Splits(2, 1, 3, 4)
