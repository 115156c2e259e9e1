"""Impressions that were not clicked: negatives that the user really saw beside what they clicked."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.positives import Positives

NO_LIST = -1


class Shown(NamedTuple):
    """Impressions or clicks, int64 [n] each.  lists: a number for each recommendation, NO_LIST where it is unknown."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    times_ms: NDArray[np.int64]
    lists: NDArray[np.int64]


class NotClicked(NamedTuple):
    """clicks, impressions: row numbers int64 [m] each; the impression is a negative of the click. Ascending."""

    clicks: NDArray[np.int64]
    impressions: NDArray[np.int64]


def not_clicked(impressions: Shown, clicks: Shown, positives: Positives, window_ms: int) -> NotClicked:
    """For each click the impressions of its list that were not clicked, in the order they stand in.

    Of a click without a list: those that its user got at most `window_ms` before it, or at the same time. Never an item
    that its user clicked or that is one of their positives. A click none of whose impressions are known has none.
    """
    listed = clicks.lists != NO_LIST
    by_list = _same_list(impressions, clicks, np.flatnonzero(listed))
    by_time = _shortly_before(impressions, clicks, np.flatnonzero(~listed), window_ms)
    click, impression = (np.concatenate(sides) for sides in zip(by_list, by_time, strict=True))
    users, items = impressions.users[impression], impressions.items[impression]
    clicked = Positives.of(clicks.users, clicks.items, positives.num_users, positives.num_items)
    kept = ~(clicked.contains(users, items) | positives.contains(users, items)) & (users == clicks.users[click])
    click, impression = click[kept], impression[kept]
    order = np.lexsort((impression, click))
    return NotClicked(click[order], impression[order])


def _same_list(
    impressions: Shown, clicks: Shown, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.argsort(impressions.lists)
    sorted_lists, wanted = impressions.lists[order], clicks.lists[rows]
    first, last = np.searchsorted(sorted_lists, wanted), np.searchsorted(sorted_lists, wanted, side="right")
    return _pairs(rows, order, first, last)


def _shortly_before(
    impressions: Shown, clicks: Shown, rows: NDArray[np.int64], window_ms: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    moments = np.unique(impressions.times_ms)
    size = len(moments)  # user and rank of the time in one number, which sorts as the two do
    keys = impressions.users * size + np.searchsorted(moments, impressions.times_ms)
    order = np.argsort(keys)
    times, start = clicks.times_ms[rows], clicks.users[rows] * size
    first = np.searchsorted(keys[order], start + np.searchsorted(moments, times - window_ms))
    last = np.searchsorted(keys[order], start + np.searchsorted(moments, times, side="right"))
    return _pairs(rows, order, first, last)


def _pairs(
    rows: NDArray[np.int64], order: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each row with each of order[first:last]."""
    counts = last - first
    inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(rows, counts), order[np.repeat(first, counts) + inside]
