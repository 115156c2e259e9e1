"""The requests that every variant answers: users at one moment with their candidates, made once and shared, so that
all figures are paired by user."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import metrics
from models.contract.candidates import Candidates
from models.contract.features import UserFeatures
from models.contract.user_inputs import user_inputs
from models.data.dataset import Dataset
from models.offline import Retrieval, UserMoment, candidates, moments, ranker_input, seen_items, user_vectors
from models.targets import MODES, Mode, Targets, Window, window_targets

OnDone = Callable[[int], None]
CHUNK = 256
K = 10


@dataclass(frozen=True, slots=True)
class Lists:
    """R lists of one mode.  owners: position of each list's user.  cross: float32 [n, c] of each list's candidates."""

    owners: list[int]
    found: list[Candidates]
    cross: list[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Asked:
    """U users as the service would find them at one moment, with what it would rank for them.

    seen: int64 each, the items that are left out in mode `new`.  lists: by mode.  targets: by mode, row by row those of
    the lists; a mode without targets is left out of both.
    """

    users: list[UserMoment]
    features: list[UserFeatures]
    seen: list[NDArray[np.int64]]
    lists: dict[Mode, Lists]
    targets: dict[Mode, Targets]

    def user_feeds(self, names: Sequence[str], history_length: int) -> list[dict[str, NDArray[Any]]]:
        """For a graph whose inputs have these names, a feed a user."""
        return [
            user_inputs(names, history_length, [who.history], [features])
            for who, features in zip(self.users, self.features, strict=True)
        ]


def ask(
    dataset: Dataset,
    retrieval: Retrieval,
    window: Window,
    max_users: int | None = None,
    on_done: OnDone = lambda done: None,
) -> Asked:
    """The users who took something in the window, at its start; at most max_users of them, spread evenly.

    Raises ValueError when there is nobody.
    """
    everyone = window_targets(dataset, window, "all")
    if not len(everyone):
        raise ValueError(f"the {window.name} window has no user who was known before: use more data")
    rows = np.unique(np.linspace(0, len(everyone) - 1, min(max_users or len(everyone), len(everyone))).astype(np.int64))
    users = everyone.users[rows]
    targets = {mode: _of(window_targets(dataset, window, mode), users) for mode in MODES}
    asked = Asked([], [], [], {}, {mode: found for mode, found in targets.items() if len(found)})
    positions = {mode: set(found.users.tolist()) for mode, found in asked.targets.items()}
    for mode in asked.targets:
        asked.lists[mode] = Lists([], [], [])
    for start in range(0, len(users), CHUNK):
        chunk = users[start : start + CHUNK].tolist()
        whos = moments(dataset, chunk, window.start_ms)
        vectors = user_vectors(dataset.schema, retrieval, whos)
        for user, who, vector in zip(chunk, whos, vectors, strict=True):
            for mode, lists in asked.lists.items():
                if user in positions[mode]:
                    _add(lists, dataset, retrieval, who, vector, mode, len(asked.users))
            asked.users.append(who)
            asked.features.append(who.features(dataset.schema))
            asked.seen.append(seen_items(who.state, retrieval.item_hashes))
        on_done(len(asked.users))
    return asked


def _add(
    lists: Lists,
    dataset: Dataset,
    retrieval: Retrieval,
    who: UserMoment,
    vector: NDArray[np.float32],
    mode: Mode,
    owner: int,
) -> None:
    found = candidates(retrieval, who, vector, include_seen=mode == "all")
    _, cross = ranker_input(dataset, retrieval, who, found)
    lists.owners.append(owner)
    lists.found.append(found)
    lists.cross.append(cross)


def _of(targets: Targets, users: NDArray[np.int64]) -> Targets:
    """The rows of these users."""
    kept = np.isin(targets.users, users)
    counts = np.diff(targets.offsets)
    return Targets(
        targets.mode,
        targets.users[kept],
        targets.state_times_ms[kept],
        np.concatenate([np.zeros(1, np.int64), np.cumsum(counts[kept])]),
        targets.items[np.repeat(kept, counts)],
    )


def best(items: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """The K items with the highest scores, int64 [K], padded with -1; ties keep their order."""
    top = np.full(K, -1, np.int64)
    order = np.argsort(-scores, kind="stable")[:K]
    top[: len(order)] = items[order]
    return top


def ndcg(lists: NDArray[np.int64], targets: Targets) -> NDArray[np.float64]:
    """NDCG@10 of each list [R, K], float64 [R]."""
    hits = metrics.find_hits(lists, targets.offsets, targets.items)
    return metrics.ndcg(hits, metrics.count_targets(targets.offsets), K)
