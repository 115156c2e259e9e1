"""What the impressions of a label window mean for the rows of its candidate lists."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import Dataset
from models.data.impressions import NO_IMPRESSION, Impressions
from models.exposure import UNKNOWN, PositionModel, click_weights, fit_item_positions, refusal_weights
from models.impressions import NO_LIST, Shown, not_clicked
from models.positives import Positives


@dataclass(frozen=True, slots=True)
class ShownPairs:
    """Pairs of a user and an item, each a number user * num_items + item, ascending.

    refused: int64 [m], shown, and not clicked nor otherwise turned to in the window.  weighed: int64 [k] and weights
    float32 [k]; every other pair weighs 1.
    """

    num_items: int
    refused: NDArray[np.int64]
    weighed: NDArray[np.int64]
    weights: NDArray[np.float32]

    def refused_by(self, user: int) -> NDArray[np.int64]:
        """Item indices, ascending."""
        first, last = np.searchsorted(self.refused, [user * self.num_items, (user + 1) * self.num_items])
        return self.refused[first:last] - user * self.num_items

    def weights_of(self, user: int, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [n] of items int64 [n]."""
        found = np.ones(len(items), np.float32)
        wanted = user * self.num_items + items
        place = np.searchsorted(self.weighed, wanted)
        known = np.flatnonzero(place < len(self.weighed))
        known = known[self.weighed[place[known]] == wanted[known]]
        found[known] = self.weights[place[known]]
        return found


def fit_positions(dataset: Dataset, until_ms: int) -> PositionModel:
    """The position model of the impressions whose time for clicks was over by until_ms.

    Raises ValueError where there are none, and where the first position has no clicks.
    """
    shown = _logged(dataset)
    rows = np.flatnonzero(shown.time_ms + shown.click_window_ms <= until_ms)
    if not len(rows):
        raise ValueError(
            '[train.ranker] propensity = "position": no impression is older than the validation window by '
            "impressions.click_window_hours; log more of them, or leave propensity out"
        )
    try:
        return fit_item_positions(
            shown.item_index[rows].astype(np.int64),
            shown.position[rows].astype(np.int64),
            shown.clicked[rows],
            dataset.num_items,
            int(shown.position.max()) + 1,
        )
    except ValueError as error:
        raise ValueError(f'[train.ranker] propensity = "position": {error}') from error


def shown_pairs(
    dataset: Dataset, start_ms: int, end_ms: int, positions: PositionModel | None, max_weight: float
) -> ShownPairs:
    """Of the window [start_ms, end_ms).  positions: None for equal weights.

    What a user turned to weighs as a click at the place it was shown at when they first did so in the window, if that
    came of an impression. Refused is what stood in a list with a click, or shortly before an interaction without a
    list, and had its whole time for clicks inside the window; of an item that was refused more than once the showing
    that weighs most counts, as the surest.
    """
    shown, rows = _logged(dataset), dataset.interactions
    inside = np.flatnonzero((rows.time_ms >= start_ms) & (rows.time_ms < end_ms))
    users, items = rows.user_index[inside].astype(np.int64), rows.item_index[inside].astype(np.int64)
    came_from = shown.came_from[inside]
    keys, first = np.unique(users * dataset.num_items + items, return_index=True)
    refusals = _refusals(dataset, users, items, rows.time_ms[inside], came_from, start_ms, end_ms)
    pairs = shown.user_index[refusals].astype(np.int64) * dataset.num_items + shown.item_index[refusals]
    if positions is None:
        return ShownPairs(dataset.num_items, np.unique(pairs), np.empty(0, np.int64), np.empty(0, np.float32))
    places = _of_impression(shown.position, came_from[first], UNKNOWN)
    clicks = click_weights(places, positions.propensities, max_weight)
    weights = refusal_weights(
        shown.position[refusals].astype(np.int64),
        positions.propensities,
        positions.relevance[shown.item_index[refusals]],
    )
    refused, place = np.unique(pairs, return_inverse=True)
    surest = np.zeros(len(refused))
    np.maximum.at(surest, place, weights)
    weighed = np.concatenate([keys[places != UNKNOWN], refused])  # disjoint: what was clicked was not refused
    order = np.argsort(weighed)
    both = np.concatenate([clicks[places != UNKNOWN], surest])[order].astype(np.float32)
    return ShownPairs(dataset.num_items, refused, weighed[order], both)


def _refusals(
    dataset: Dataset,
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    times_ms: NDArray[np.int64],
    came_from: NDArray[np.int64],
    start_ms: int,
    end_ms: int,
) -> NDArray[np.int64]:
    """Rows of the window's refused impressions, ascending.  users, items, times_ms, came_from: its interactions."""
    shown = _logged(dataset)
    over = shown.time_ms + shown.click_window_ms <= end_ms
    rows = np.flatnonzero((shown.time_ms >= start_ms) & over)
    columns = (shown.user_index, shown.item_index, shown.time_ms, shown.list_number)
    impressions = Shown(*(column[rows].astype(np.int64) for column in columns))
    clicks = Shown(users, items, times_ms, _of_impression(shown.list_number, came_from, NO_LIST))
    taken = Positives.of(users, items, dataset.num_users, dataset.num_items)
    found = not_clicked(impressions, clicks, taken, shown.click_window_ms)
    return rows[np.unique(found.impressions)]


def _of_impression(column: NDArray[np.generic], came_from: NDArray[np.int64], otherwise: int) -> NDArray[np.int64]:
    """The impression's value for each interaction, int64 [n]."""
    found = np.full(len(came_from), otherwise, np.int64)
    known = came_from != NO_IMPRESSION
    found[known] = column[came_from[known]]
    return found


def _logged(dataset: Dataset) -> Impressions:
    assert dataset.impressions is not None
    return dataset.impressions
