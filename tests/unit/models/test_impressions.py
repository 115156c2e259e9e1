"""Which impressions are the negatives of which click, by hand and against a loop over all pairs."""

import numpy as np

from models.impressions import NO_LIST, Shown, not_clicked
from models.positives import Positives


def shown(*rows: tuple[int, int, int, int]) -> Shown:
    """Rows of user, item, time, list."""
    return Shown(*np.array(rows, np.int64).reshape(-1, 4).T)


def positives(*pairs: tuple[int, int]) -> Positives:
    users, items = np.array(pairs, np.int64).reshape(-1, 2).T
    return Positives.of(users, items, 3, 10)


def pairs(impressions: Shown, clicks: Shown, of: Positives, window_ms: int = 100) -> list[tuple[int, int]]:
    found = not_clicked(impressions, clicks, of, window_ms)
    return list(zip(found.clicks.tolist(), found.impressions.tolist(), strict=True))


def test_negatives_are_the_rest_of_the_clicks_list_whenever_it_was_shown() -> None:
    impressions = shown((0, 1, 0, 7), (0, 2, 0, 7), (0, 3, 0, 7), (0, 4, 5000, 8), (0, 5, 5000, 8))
    assert pairs(impressions, shown((0, 2, 5000, 7)), positives()) == [(0, 0), (0, 2)]


def test_an_item_clicked_elsewhere_or_bought_is_no_negative() -> None:
    """Item 1 was clicked in another list, item 3 is a positive: item 4 alone was seen and left."""
    impressions = shown((0, 1, 0, 7), (0, 2, 0, 7), (0, 3, 0, 7), (0, 4, 0, 7), (0, 1, 9, 8))
    clicks = shown((0, 2, 1, 7), (0, 1, 10, 8))
    assert pairs(impressions, clicks, positives((0, 3), (1, 4))) == [(0, 3)]


def test_without_a_list_negatives_are_what_the_user_saw_shortly_before() -> None:
    """The window's ends are in it; earlier, later and other users' impressions are not."""
    impressions = shown(
        (0, 1, 899, 7), (0, 2, 900, 7), (0, 3, 950, NO_LIST), (0, 4, 1000, 8), (0, 5, 1001, 8), (1, 6, 950, 9)
    )
    assert pairs(impressions, shown((0, 9, 1000, NO_LIST)), positives()) == [(0, 1), (0, 2), (0, 3)]


def test_a_list_of_another_user_gives_nothing() -> None:
    assert pairs(shown((0, 1, 0, 7), (1, 2, 0, 7)), shown((1, 3, 1, 7)), positives()) == [(0, 1)]


def test_nothing_shown_or_nothing_clicked_gives_nothing() -> None:
    clicks = shown((0, 1, 10, 7), (0, 2, 10, NO_LIST))
    assert pairs(shown(), clicks, positives()) == []
    assert pairs(clicks, shown(), positives()) == []
    assert pairs(shown((0, 3, 10, 6)), shown((0, 1, 10, 7)), positives()) == []


def test_it_is_the_same_as_a_loop_over_all_pairs() -> None:
    rng = np.random.default_rng(0)

    def random_rows(count: int) -> Shown:
        lists = rng.integers(NO_LIST, 6, count)
        return Shown(rng.integers(0, 3, count), rng.integers(0, 10, count), rng.integers(0, 300, count), lists)

    impressions, clicks, bought = random_rows(200), random_rows(12), positives((0, 1), (1, 2), (2, 3))
    taken = {(0, 1), (1, 2), (2, 3)} | set(zip(clicks.users.tolist(), clicks.items.tolist(), strict=True))
    expected = []
    for c, (user, _, time, of) in enumerate(zip(*(side.tolist() for side in clicks), strict=True)):
        for i, (who, item, when, inside) in enumerate(zip(*(side.tolist() for side in impressions), strict=True)):
            near = inside == of if of != NO_LIST else time - 50 <= when <= time
            if who == user and near and (who, item) not in taken:
                expected.append((c, i))
    assert pairs(impressions, clicks, bought, 50) == expected
    assert len(expected) > 20
