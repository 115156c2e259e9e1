"""What the graphs that run once a request are fed with: the user tower, and the user part of the ranker.

Such a graph takes the history, the features of the user, or both, always under these names; the manifest lists them.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract.features import UserFeatures
from models.contract.history import History, tower_input

HISTORY = ("history", "set_ordinal")
FEATURES = ("user_categorical", "user_numeric")


def reads_features(names: Collection[str]) -> bool:
    """Whether a graph with these inputs takes the features of the user."""
    return FEATURES[0] in names


def user_inputs(
    names: Collection[str], length: int, histories: Iterable[History], features: Sequence[UserFeatures]
) -> dict[str, NDArray[Any]]:
    """The inputs of B users, a row each, for a graph whose inputs have these names.

    length: positions of the history that the graph takes.  features: not read for a graph that takes none.
    """
    inputs: dict[str, NDArray[Any]] = {}
    if HISTORY[0] in names:
        inputs |= _stacked(HISTORY, [tower_input(history, length) for history in histories])
    if reads_features(names):
        inputs |= _stacked(FEATURES, features)
    return inputs


def _stacked(names: tuple[str, str], rows: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    if len(rows) == 1:  # a view is enough for one user
        return {name: part[None] for name, part in zip(names, rows[0], strict=True)}
    return {name: np.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
