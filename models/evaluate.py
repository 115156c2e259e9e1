"""The evaluation: every system makes its lists for the same users, and all are measured against the same targets.

    dataset, window -> targets (mode all, mode new) -> lists of each system -> metrics a user -> intervals -> Report

The state is frozen at the window's start. `basket_systems` are measured a second time with the state running up to
each basket; a user then counts once, with the mean over their baskets.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models import metrics
from models.bootstrap import Interval, paired, resampled_means
from models.data.dataset import Dataset
from models.evaluate_ranker import Ranker, evaluate_ranker
from models.report import RankerResult, Report, Section, SystemResult, Unit
from models.targets import MODES, Mode, Targets, Window, basket_targets, window_targets

# (user indices int64 [U], mode, k) -> item indices int64 [U, k], best first, padded with -1
System = Callable[[NDArray[np.int64], Mode, int], NDArray[np.int64]]

_CHUNK_ROWS = 512


class TimedSystem(Protocol):
    """A system that can be asked for the state of another time, a row each."""

    def at(
        self, users: NDArray[np.int64], state_times_ms: NDArray[np.int64], mode: Mode, k: int
    ) -> NDArray[np.int64]: ...


def evaluate_systems(
    dataset: Dataset,
    window: Window,
    systems: Mapping[str, System],
    modes: Sequence[Mode] = MODES,
    ks: Sequence[int] = (10, 20),
    seed: int = 0,
    *,
    references: Sequence[str] | None = None,
    rankers: Mapping[str, Ranker] | None = None,
    basket_systems: Mapping[str, TimedSystem] | None = None,
) -> Report:
    """Measure the systems on a window. Each of `references` (the first system, if not named) is compared with all.

    A mode in which the window has no targets is left out, with a note in the report. Raises ValueError for an unknown
    reference, a window without any targets, and lists that are not int64 [U, k] of distinct
    item indices.
    """
    ks = sorted(set(ks))
    references = list(references) if references is not None else list(systems)[:1]
    if unknown := [name for name in references if name not in systems]:
        raise ValueError(f"reference {unknown[0]!r} is not a system; choose from {', '.join(systems)}")
    evaluation = _Evaluation(dataset, ks, seed, references, {}, [])
    found = [evaluation.window(window, mode, systems, rankers or {}) for mode in modes]
    if basket_systems:
        found += [evaluation.baskets(window, mode, basket_systems) for mode in modes]
    sections = [section for section in found if section is not None]
    if not sections:
        raise ValueError("; ".join(evaluation.left_out))
    return Report(
        fingerprint=dataset.fingerprint,
        window=window.name,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        num_items=dataset.num_items,
        ks=ks,
        seed=seed,
        references=references,
        sections=sections,
        left_out=evaluation.left_out,
        per_user=evaluation.per_user,
    )


@dataclass(frozen=True, slots=True)
class _Evaluation:
    dataset: Dataset
    ks: list[int]
    seed: int
    references: list[str]
    per_user: dict[str, NDArray[np.int64] | NDArray[np.float64]]
    left_out: list[str]

    def window(
        self, window: Window, mode: Mode, systems: Mapping[str, System], rankers: Mapping[str, Ranker]
    ) -> Section | None:
        targets = window_targets(self.dataset, window, mode)
        if not self._has_some("window", targets):
            return None
        lists = {name: self._lists(system, targets) for name, system in systems.items()}
        ranked = {
            name: evaluate_ranker(ranker(targets.users, mode), targets, self.seed) for name, ranker in rankers.items()
        }
        return self._section("window", targets, lists, ranked)

    def baskets(self, window: Window, mode: Mode, systems: Mapping[str, TimedSystem]) -> Section | None:
        targets = basket_targets(self.dataset, window, mode)
        if not self._has_some("basket", targets):
            return None
        lists = {name: self._timed_lists(system, targets) for name, system in systems.items()}
        return self._section("basket", targets, lists, {})

    def _has_some(self, unit: Unit, targets: Targets) -> bool:
        """Else the section is left out, with a note: where few items are, some take them all, and nothing is new."""
        if not len(targets):
            what = "a new item" if targets.mode == "new" else "an item"
            self.left_out.append(
                f"{unit}, mode {targets.mode}: no targets, nobody known before the window took {what} in it"
            )
        return len(targets) > 0

    def _lists(self, system: System, targets: Targets) -> NDArray[np.int64]:
        return self._stack(len(targets), lambda rows: system(targets.users[rows], targets.mode, self.ks[-1]))

    def _timed_lists(self, system: TimedSystem, targets: Targets) -> NDArray[np.int64]:
        users, times = targets.users, targets.state_times_ms
        return self._stack(len(targets), lambda rows: system.at(users[rows], times[rows], targets.mode, self.ks[-1]))

    def _stack(self, num_rows: int, answer: Callable[[slice], NDArray[np.int64]]) -> NDArray[np.int64]:
        """The lists of all rows, asked for a chunk at a time so that a system may score a chunk densely."""
        lists = np.full((num_rows, self.ks[-1]), -1, np.int64)
        for start in range(0, num_rows, _CHUNK_ROWS):
            rows = slice(start, min(start + _CHUNK_ROWS, num_rows))
            found = answer(rows)
            if found.shape != lists[rows].shape or found.dtype != np.int64:
                raise ValueError(f"lists are {found.dtype} {found.shape}; expected int64 {lists[rows].shape}")
            lists[rows] = found
        if num_rows and not -1 <= lists.min() <= lists.max() < self.dataset.num_items:
            raise ValueError(f"a list names items outside 0..{self.dataset.num_items - 1}; pad with -1")
        return lists

    def _section(
        self,
        unit: Unit,
        targets: Targets,
        lists: Mapping[str, NDArray[np.int64]],
        rankers: dict[str, RankerResult],
    ) -> Section:
        num_targets = metrics.count_targets(targets.offsets)
        users, rows = np.unique(targets.users, return_inverse=True)
        values = {name: self._user_values(found, targets, num_targets, rows) for name, found in lists.items()}
        self.per_user[f"{unit}/{targets.mode}/users"] = users
        for name, by_metric in values.items():
            self.per_user.update(
                {f"{unit}/{targets.mode}/{name}/{metric}": value for metric, value in by_metric.items()}
            )
        return Section(
            unit=unit,
            mode=targets.mode,
            num_users=len(users),
            num_rows=len(targets),
            num_targets=len(targets.items),
            recall_ceiling={str(k): metrics.recall_ceiling(num_targets, k) for k in self.ks},
            systems=self._compare(values, lists),
            rankers=rankers,
        )

    def _user_values(
        self,
        lists: NDArray[np.int64],
        targets: Targets,
        num_targets: NDArray[np.int64],
        rows: NDArray[np.int64],
    ) -> dict[str, NDArray[np.float64]]:
        """Each metric's mean over the rows of a user, float64 [U]: who comes often does not count more."""
        hits = metrics.find_hits(lists, targets.offsets, targets.items)
        per_row = metrics.list_metrics(hits, num_targets, self.ks)
        return {name: np.bincount(rows, weights=value) / np.bincount(rows) for name, value in per_row.items()}

    def _compare(
        self, values: Mapping[str, dict[str, NDArray[np.float64]]], lists: Mapping[str, NDArray[np.int64]]
    ) -> dict[str, SystemResult]:
        """Intervals from one set of draws, so that every comparison is paired."""
        if not values:
            return {}
        columns = [(system, metric) for system, found in values.items() for metric in found]
        matrix = np.column_stack([values[system][metric] for system, metric in columns])
        means = dict(zip(columns, matrix.mean(axis=0), strict=True))
        draws = dict(zip(columns, resampled_means(matrix, self.seed).T, strict=True))
        return {
            system: SystemResult(
                metrics={m: Interval.of(means[system, m], draws[system, m]) for m in values[system]},
                coverage={str(k): metrics.coverage(lists[system], self.dataset.num_items, k) for k in self.ks},
                versus={
                    other: {
                        m: paired(means[system, m], means[other, m], draws[system, m], draws[other, m])
                        for m in values[system]
                    }
                    for other in self.references
                    if other != system and other in values
                },
            )
            for system in values
        }
