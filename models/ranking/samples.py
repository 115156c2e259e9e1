"""What the ranker learns from: for moments of the past, the candidates the service would have ranked and what the
user then turned to.

Every user with a history before a window gives two lists a window: candidates with seen items and without. The
retrieval model learns nothing from the first window on; it only stops where that window says. Sampled items stand
beside the candidates, and where impressions are logged also what the user was shown and did not click.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.contract.candidates import Candidates
from models.contract.features import UserFeatures, cross_features, cross_names, user_numeric_names
from models.contract.history import tower_input
from models.data.dataset import Dataset, Interactions
from models.distributed import own_rows, total
from models.item_stats import item_stats
from models.offline import Retrieval, UserMoment, candidates, moments, ranker_input, seen_items, user_vectors
from models.ranking.shown import ShownPairs
from models.run_log import RunLog

CONTEXT_KEPT = 0.5  # a request may not bring its context, so half of the samples do without


@dataclass(frozen=True, slots=True)
class RankerSamples:
    """G lists of candidates, n rows in all; list g has the rows offsets[g]:offsets[g + 1].

    user_categorical int64 [G, Fu], user_numeric float32 [G, Gu], window int64 [G], users int64 [G],
    include_seen bool [G], items int64 [n], cross float32 [n, c], labels float32 [n],
    item_numeric float32 [W, N, Fi] per window, offsets int64 [G + 1].
    num_targets int64 [G]: distinct items the user turned to in the window, found among the candidates or not.
    history, set_ordinal int32 [G, L]: the history before the window, for a ranker that reads it; L may be 0.
    weights float32 [n], of rows in the loss; list_weights float32 [G], the mean over a list's targets, found or not, by
    which validation counts it. None where all are 1.
    """

    user_categorical: NDArray[np.int64]
    user_numeric: NDArray[np.float32]
    users: NDArray[np.int64]
    window: NDArray[np.int64]
    include_seen: NDArray[np.bool_]
    items: NDArray[np.int64]
    cross: NDArray[np.float32]
    labels: NDArray[np.float32]
    offsets: NDArray[np.int64]
    num_targets: NDArray[np.int64]
    item_numeric: NDArray[np.float32]
    history: NDArray[np.int32]
    set_ordinal: NDArray[np.int32]
    weights: NDArray[np.float32] | None = None
    list_weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True, slots=True)
class LabelWindow:
    """Labels from [start_ms, end_ms), candidates from what was known before.

    shown: None where impressions are not asked for.  with_refused: what was shown and refused stands in the lists too.
    """

    start_ms: int
    end_ms: int
    retrieval: Retrieval
    shown: ShownPairs | None = None
    with_refused: bool = False


def item_numbers(dataset: Dataset, past: Interactions, now_ms: int) -> NDArray[np.float32]:
    """The ranker's numeric item features as known at now_ms, float32 [N, Fi]: the item table's, then how it sells."""
    return np.concatenate([dataset.item_numeric, item_stats(past, dataset.num_items, now_ms)], axis=1)


def ranker_samples(
    dataset: Dataset,
    windows: list[LabelWindow],
    num_sampled: int,
    seed: int,
    log: RunLog,
    stage: str,
    history_length: int = 0,
) -> RankerSamples:
    """Samples of all windows, of this process's share of the users. Users without a history before a window, or without
    an interaction in it, give none.

    num_sampled: uniformly drawn items beside each list's candidates.  history_length: positions that the ranker reads.
    Raises ValueError when nobody gives a sample, in any process.
    """
    builder = _Builder(dataset, num_sampled, seed, history_length)
    inside = [dataset.interactions.between(window.start_ms, window.end_ms) for window in windows]
    counts = [own_rows(len(np.unique(rows.user_index))) for rows in inside]
    log.start(stage, sum(own.stop - own.start for own in counts))
    done = 0
    for number, (window, rows) in enumerate(zip(windows, inside, strict=True)):
        users = np.unique(rows.user_index)
        users = users[own_rows(len(users))]
        for batch in np.array_split(users, max(1, len(users) // 64)):
            builder.add(number, window, rows, batch.tolist())
            done += len(batch)
            log.step(stage, done, {})
    log.finish(stage, f"{len(builder.users)} lists")
    numbers = [
        item_numbers(dataset, dataset.interactions.before(window.start_ms), window.start_ms) for window in windows
    ]
    return builder.finish(np.stack(numbers))


class _Builder:
    def __init__(self, dataset: Dataset, num_sampled: int, seed: int, history_length: int) -> None:
        self.dataset, self.num_sampled, self.seed, self.history_length = dataset, num_sampled, seed, history_length
        self.histories: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self.users: list[int] = []
        self.window: list[int] = []
        self.seen: list[bool] = []
        self.num_targets: list[int] = []
        self.features: list[UserFeatures] = []
        self.rows: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]] = []
        self.weights: list[NDArray[np.float32]] = []
        self.list_weights: list[float] = []

    def add(self, number: int, window: LabelWindow, inside: Interactions, users: list[int]) -> None:
        found = moments(self.dataset, users, window.start_ms)
        draws = [np.random.default_rng([self.seed, number, user]) for user in users]  # whoever else is in the data
        known = [
            (user, replace(who, context=self._context(inside, user, rng)), rng)
            for user, who, rng in zip(users, found, draws, strict=True)
            if len(who.history)
        ]
        vectors = user_vectors(self.dataset.schema, window.retrieval, [who for _, who, _ in known])
        for (user, who, rng), vector in zip(known, vectors, strict=True):
            first, last = np.searchsorted(inside.user_index, [user, user + 1])
            targets = np.unique(inside.item_index[first:last]).astype(np.int64)
            for include_seen in (True, False):
                self._add_list(number, window, user, who, vector, targets, include_seen, rng)

    def _add_list(
        self,
        number: int,
        window: LabelWindow,
        user: int,
        who: UserMoment,
        vector: NDArray[np.float32],
        targets: NDArray[np.int64],
        include_seen: bool,
        rng: np.random.Generator,
    ) -> None:
        found = candidates(window.retrieval, who, vector, include_seen)
        features, cross = ranker_input(self.dataset, window.retrieval, who, found)
        seen = np.empty(0, np.int64) if include_seen else seen_items(who.state, window.retrieval.item_hashes)
        items = found.items
        refused = window.shown.refused_by(user) if window.shown and window.with_refused else np.empty(0, np.int64)
        if self.num_sampled or len(refused):
            items, cross = self._with_more(window.retrieval, who, vector, found, cross, seen, refused, rng)
        self.users.append(user)
        self.window.append(number)
        self.seen.append(include_seen)
        wanted = np.setdiff1d(targets, seen)
        self.num_targets.append(len(wanted))
        self.features.append(features)
        self.histories.append(tower_input(who.history, self.history_length))
        self.rows.append((items, cross, np.isin(items, wanted).astype(np.float32)))
        if window.shown:
            self.weights.append(window.shown.weights_of(user, items))
            self.list_weights.append(float(window.shown.weights_of(user, wanted).mean()) if len(wanted) else 1.0)

    def _with_more(
        self,
        retrieval: Retrieval,
        who: UserMoment,
        vector: NDArray[np.float32],
        found: Candidates,
        cross: NDArray[np.float32],
        seen: NDArray[np.int64],
        refused: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The candidates, then sampled and refused items that the service could have brought: not candidates, not
        ruled out."""
        drawn = np.union1d(rng.integers(0, self.dataset.num_items, self.num_sampled), refused)
        drawn = np.setdiff1d(drawn, np.concatenate([found.items, seen]))
        together = np.concatenate([found.items, drawn])
        scores = np.concatenate([found.scores, retrieval.item_vectors[drawn] @ vector])
        extra = cross_features(together, scores, who.history, retrieval.tables, who.now_ms)
        return together, np.concatenate([cross, extra[len(found) :]])

    def _context(self, inside: Interactions, user: int, rng: np.random.Generator) -> dict[str, str]:
        """The context of the user's first interaction of the window, half of the time."""
        if rng.random() >= CONTEXT_KEPT:
            return {}
        row = int(np.searchsorted(inside.user_index, user))
        codes = {f.name: (f, int(inside.context[f.name][row])) for f in self.dataset.schema.context_features}
        return {name: feature.vocabulary[code - 1] for name, (feature, code) in codes.items() if code}

    def finish(self, numbers: NDArray[np.float32]) -> RankerSamples:
        if not total(np.array([len(self.users)], np.float64))[0]:
            raise ValueError("no user has a history before a ranker window and an interaction in it; use more data")
        schema, num_lists = self.dataset.schema, len(self.users)
        # the widths are named: of few users a process may have none
        categories = len(schema.categorical("user")) + len(schema.context_features)
        items = np.concatenate([np.empty(0, np.int64), *(row[0] for row in self.rows)])
        cross = np.concatenate([np.empty((0, len(cross_names(schema))), np.float32), *(row[1] for row in self.rows)])
        labels = np.concatenate([np.empty(0, np.float32), *(row[2] for row in self.rows)])
        categorical = np.array([user.categorical for user in self.features], np.int64)
        numeric = np.array([user.numeric for user in self.features], np.float32)
        histories = np.array(self.histories, np.int32).reshape(num_lists, 2, self.history_length)
        return RankerSamples(
            user_categorical=categorical.reshape(num_lists, categories),
            user_numeric=numeric.reshape(num_lists, len(user_numeric_names(schema))),
            users=np.array(self.users, np.int64),
            window=np.array(self.window, np.int64),
            include_seen=np.array(self.seen, np.bool_),
            items=items,
            cross=cross,
            labels=labels,
            offsets=np.cumsum([0, *(len(row[0]) for row in self.rows)]).astype(np.int64),
            num_targets=np.array(self.num_targets, np.int64),
            item_numeric=numbers,
            history=histories[:, 0],
            set_ordinal=histories[:, 1],
            weights=_unless_ones(np.concatenate(self.weights)) if self.weights else None,
            list_weights=_unless_ones(np.array(self.list_weights, np.float32)) if self.weights else None,
        )


def _unless_ones(weights: NDArray[np.float32]) -> NDArray[np.float32] | None:
    return weights if (weights != 1).any() else None
