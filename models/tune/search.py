"""The search: which trial comes next, what it is told while it runs, and what is kept of it. Optuna lives here.

Akiba et al. 2019, "Optuna: A Next-generation Hyperparameter Optimization Framework".
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.trial import TrialState
from sqlalchemy import URL

from models.options import TrainSection
from models.run_log import RunLog
from models.tune.options import Stage
from models.tune.space import Choice, Range, Space, Value
from models.tune.trials import Train, TrialLog

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
# A trial is compared with the median of those before it: Hyperband needs many more trials than a search at home has.
# Four have to be complete first, and none is judged in the first eighth of its budget, in which the rate warms up.
COMPLETE_FIRST, NOT_BEFORE = 4, 2


class TuneLog(RunLog, Protocol):
    def trial(self, number: int, total: int, values: dict[str, Value]) -> None:
        """A trial begins.  number: from 1."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What one search does.

    base: the values of the searched keys as they stand in shortlist.toml, which the first trial has.  with_values: all
    options with a trial's values; raises ValueError where they do not go together.  train: see models/tune/trials.py.
    clear: what a trial that has ended leaves is no longer needed.
    """

    stage: Stage
    seed: int
    space: Space
    base: dict[str, Value]
    with_values: Callable[[dict[str, Value]], TrainSection]
    train: Train
    clear: Callable[[], None]


@contextmanager
def opened(file: Path) -> Iterator[optuna.storages.RDBStorage]:
    """The studies in an SQLite file: each change is one transaction, which a killed process leaves done or undone."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file.parent.mkdir(parents=True, exist_ok=True)
    url = URL.create("sqlite", database=str(file)).render_as_string()
    storage = optuna.storages.RDBStorage(url)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def open_study(storage: optuna.storages.BaseStorage, key: str) -> optuna.Study:
    """The study of this key, new or to go on with."""
    pruner = optuna.pruners.MedianPruner(n_startup_trials=COMPLETE_FIRST, n_warmup_steps=NOT_BEFORE)
    return optuna.create_study(
        storage=storage, study_name=key, direction="maximize", pruner=pruner, load_if_exists=True
    )


def num_ended(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=ENDED))


def search(study: optuna.Study, plan: Plan, num_trials: int, may_start: Callable[[], bool], log: TuneLog) -> None:
    """Trial after trial until the study has num_trials in all, those that it had included.

    An interrupted study goes on with its interrupted trial, from that one's checkpoint, and ends as if it had never
    been interrupted.
    """
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial({key: _name(part, plan.base[key]) for key, part in _inside(plan).items()})
    while num_ended(study) < num_trials and may_start():
        trial = _next(study, plan.seed)
        values = _values(trial, plan)
        trial.set_user_attr("values", values)
        log.trial(trial.number + 1, num_trials, values)
        _run(study, trial, plan, values, log)
        plan.clear()


def _next(study: optuna.Study, seed: int) -> optuna.Trial:
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    number = running[0].number if running else num_ended(study)
    # of the trial's own number, so that what is drawn does not depend on where the study was interrupted
    study.sampler = optuna.samplers.TPESampler(seed=int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
    return optuna.Trial(study, running[0]._trial_id) if running else study.ask()


def _values(trial: optuna.Trial, plan: Plan) -> dict[str, Value]:
    """Those of the first trial are the configuration's, even where they lie outside of the space."""
    inside = plan.space if trial.number else _inside(plan)
    given: dict[str, Value] = trial.user_attrs.get("values", {})
    return given or {
        key: _suggest(trial, key, part) if key in inside else plan.base[key] for key, part in plan.space.items()
    }


def _inside(plan: Plan) -> Space:
    return {key: part for key, part in plan.space.items() if part.has(plan.base[key])}


def _suggest(trial: optuna.Trial, key: str, part: Range | Choice) -> Value:
    if isinstance(part, Choice):
        chosen: Any = trial.suggest_categorical(key, part.names)
        return part.values[part.names.index(chosen)]
    if part.whole:
        return trial.suggest_int(key, int(part.low), int(part.high), log=part.log)
    return trial.suggest_float(key, part.low, part.high, log=part.log)


def _name(part: Range | Choice, value: Value) -> Any:
    return part.names[part.values.index(value)] if isinstance(part, Choice) else value


def _run(study: optuna.Study, trial: optuna.Trial, plan: Plan, values: dict[str, Value], log: RunLog) -> None:
    told = set(study.trials[trial.number].intermediate_values)
    _, spent = trial.user_attrs.get("spent", (0, 0.0))
    began = time.monotonic()

    def note(steps: int) -> None:
        trial.set_user_attr("spent", (steps, spent + time.monotonic() - began))

    def judge(eighth: int, steps: int, figure: float) -> None:
        if eighth not in told:  # a resumed trial repeats what came after its checkpoint
            trial.report(figure, eighth)
            told.add(eighth)
        note(steps)
        if trial.should_prune():
            raise optuna.TrialPruned

    report = TrialLog(log, plan.stage, judge)
    try:
        figure = plan.train(plan.with_values(values), report)
        if not math.isfinite(figure):
            raise ValueError("its figure is not a number: the learning rate may be too high")
    except optuna.TrialPruned:
        note(report.steps)
        study.tell(trial, state=TrialState.PRUNED)
    except (ValueError, RuntimeError, MemoryError) as error:  # torch says by a RuntimeError that memory is out
        note(report.steps)
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=TrialState.FAIL)
    else:
        note(report.steps)
        study.tell(trial, figure)
