"""The search itself, over an objective whose figures are known: what it finds, prunes, repeats and goes on with."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import create_trial

from models.options import TrainSection
from models.run_log import RunLog, Silent
from models.tune.plot import draw
from models.tune.report import TuneReport, best_toml, describe, markdown, read_report, write_report
from models.tune.search import Plan, open_study, opened, search
from models.tune.space import Choice, Range, Space, Value

SPACE: Space = {
    "learning_rate": Range(1e-4, 1e-1, log=True, whole=False),
    "dim": Choice((16, 32, 64)),
    "layers": Range(1, 3, log=False, whole=True),
}
BASE: dict[str, Value] = {"learning_rate": 2e-3, "dim": 48, "layers": 2}  # its dim is outside of the space
STEPS = 80


class Log(Silent):
    """Notes the trials that begin."""

    def __init__(self) -> None:
        self.begun: list[int] = []

    def trial(self, number: int, total: int, values: dict[str, Value]) -> None:
        self.begun.append(number)


class Objective:
    """80 steps with a validation every tenth; the figure grows evenly to 1 / dim + learning_rate / 10.

    stop_at: the step, counted over all trials, at which the process is killed.
    """

    def __init__(self, stop_at: int = -1) -> None:
        self.steps, self.cleared, self._stop_at = 0, 0, stop_at

    def __call__(self, options: TrainSection, log: RunLog) -> float:
        model = options.retrieval
        assert model.model == "sasrec"
        reached = 1 / model.dim + model.learning_rate / 10
        log.start("retrieval", STEPS)
        for step in range(1, STEPS + 1):
            self.steps += 1
            if self.steps == self._stop_at:
                raise KeyboardInterrupt
            log.step("retrieval", step, {"validation": reached * step / STEPS} if step % 10 == 0 else {"loss": 1.0})
        return reached


def with_values(values: dict[str, Value]) -> TrainSection:
    return TrainSection.model_validate({"retrieval": {"model": "sasrec", **values}})


def run(
    folder: Path | None,
    objective: Objective,
    trials: int,
    log: Log | None = None,
    space: Space = SPACE,
    base: dict[str, Value] = BASE,
    may_start: Callable[[], bool] = lambda: True,
) -> TuneReport:
    def clear() -> None:
        objective.cleared += 1

    plan = Plan("retrieval", 0, space, base, with_values, objective, clear)
    with opened(folder / "studies.db") if folder else nullcontext(InMemoryStorage()) as storage:
        study = open_study(storage, "key")
        describe(study, "retrieval", space, {"model": "sasrec", "heads": 2})
        search(study, plan, trials, may_start, log or Log())
        return read_report(study)


def found(report: TuneReport) -> list[tuple[str, float | None, int, dict[str, Value]]]:
    return [(row.state, row.figure, row.steps, row.values) for row in report.rows]


@pytest.fixture(scope="module")
def whole() -> TuneReport:
    """Eight trials without a break."""
    return run(None, Objective(), 8)


def test_the_first_trial_is_the_configuration_even_outside_of_the_space(whole: TuneReport) -> None:
    assert whole.rows[0].values == BASE
    assert whole.rows[0].figure == 1 / 48 + 2e-4
    assert all(part.has(row.values[key]) for row in whole.rows[1:] for key, part in SPACE.items())


def test_the_best_trial_and_its_gain_are_told(whole: TuneReport) -> None:
    complete = [row for row in whole.rows if row.state == "complete"]
    best = max(complete, key=lambda row: row.figure or 0.0)
    assert whole.best == best
    assert best.values["dim"] == 16
    gain = (best.figure or 0.0) / (1 / 48 + 2e-4) - 1
    assert f"Best: trial {best.number}, validation NDCG@10 {best.figure:.4f}, {gain:+.1%} over" in whole.gain


def test_a_trial_below_the_median_is_pruned_early_but_not_among_the_first_four(whole: TuneReport) -> None:
    """Figures grow evenly, so who is below the median at the second eighth of the budget is so at the end."""
    assert [row.state for row in whole.rows[:4]] == ["complete"] * 4
    pruned = [row for row in whole.rows if row.state == "pruned"]
    assert pruned
    assert {row.steps for row in pruned} == {20}
    for row in pruned:
        before = [other.figure or 0.0 for other in whole.rows[: row.number - 1] if other.state == "complete"]
        middle = sorted(before)[len(before) // 2]
        assert 4 * (row.figure or 0.0) < middle
    assert {row.steps for row in whole.rows if row.state == "complete"} == {STEPS}


def test_a_seed_repeats(whole: TuneReport) -> None:
    assert found(run(None, Objective(), 8)) == found(whole)


@pytest.mark.parametrize("stop_at", [35, 400])
def test_interrupted_and_gone_on_with_it_is_as_if_never_interrupted(
    whole: TuneReport, tmp_path: Path, stop_at: int
) -> None:
    """In the first trial, and among later ones; the study's file is closed and opened between."""
    stopped = Objective(stop_at)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stopped, 8)
    log = Log()
    again = run(tmp_path, Objective(), 8, log)
    assert found(again) == found(whole)
    assert log.begun == list(range(stopped.cleared + 1, 9))


def test_more_trials_go_on_with_the_same_study(whole: TuneReport, tmp_path: Path) -> None:
    run(tmp_path, Objective(), 5)
    log = Log()
    assert found(run(tmp_path, Objective(), 8, log)) == found(whole)
    assert log.begun == list(range(6, 9))
    run(tmp_path, Objective(), 3, log)
    assert log.begun == list(range(6, 9))


def test_no_trial_begins_after_the_time_is_over() -> None:
    left = iter([True, True, False])
    assert len(run(None, Objective(), 8, may_start=lambda: next(left)).rows) == 2


def test_values_that_do_not_go_together_fail_their_trial_alone() -> None:
    """SASRec has two heads; 33 is odd."""
    space: Space = {"dim": Choice((33, 64))}
    objective = Objective()
    report = run(None, objective, 6, space=space, base={"dim": 64})
    failed = [row for row in report.rows if row.state == "failed"]
    assert {row.values["dim"] for row in failed} == {33}
    assert "dim = 33 is not a multiple of heads = 2" in failed[0].error
    assert {row.values["dim"] for row in report.rows if row.state == "complete"} == {64}
    assert "dim = 33 is not a multiple of heads = 2" in markdown(report)
    assert objective.cleared == 6


def test_a_figure_that_is_no_number_fails_its_trial(tmp_path: Path) -> None:
    class Lost(Objective):
        def __call__(self, options: TrainSection, log: RunLog) -> float:
            return float("nan")

    report = run(None, Lost(), 1)
    assert (report.rows[0].state, report.best) == ("failed", None)
    assert report.gain == "No trial came through."
    write_report(report, tmp_path)
    assert not (tmp_path / "best.toml").exists()


def test_a_trial_that_runs_out_of_memory_fails_and_stops_no_other() -> None:
    class Large(Objective):
        def __call__(self, options: TrainSection, log: RunLog) -> float:
            if self.cleared == 0:
                raise RuntimeError("not enough memory: you tried to allocate 8 GB")
            return super().__call__(options, log)

    report = run(None, Large(), 2)
    assert [row.state for row in report.rows] == ["failed", "complete"]
    assert "not enough memory" in report.rows[0].error


def test_importance_is_told_only_of_enough_trials() -> None:
    """The figure rises with the learning rate alone; layers are even."""
    space: Space = {"learning_rate": Range(0.0, 1.0, log=False, whole=False), "layers": Choice((1, 2))}
    distributions = {"learning_rate": FloatDistribution(0.0, 1.0), "layers": CategoricalDistribution((1, 2))}
    study = optuna.create_study(direction="maximize")
    describe(study, "retrieval", space, {"model": "sasrec"})
    for number in range(15):
        assert read_report(study).importance == {}
        values = {"learning_rate": number / 15, "layers": 1 + number % 2}
        study.add_trial(
            create_trial(
                params=values, distributions=distributions, value=values["learning_rate"], user_attrs={"values": values}
            )
        )
    report = read_report(study)
    assert list(report.importance) == ["learning_rate", "layers"]
    assert sum(report.importance.values()) == pytest.approx(1.0)
    assert markdown(report).count("\n| layers | ") == 1


def test_the_best_section_is_toml_with_the_keys_that_were_set(whole: TuneReport) -> None:
    best = whole.best
    assert best is not None
    rate = best.values["learning_rate"]
    assert best_toml(whole, best) == (
        f"# trial {best.number} of `shortlist tune`: validation NDCG@10 {best.figure:.4f}\n[train.retrieval]\n"
        f'model = "sasrec"\nheads = 2\nlearning_rate = {rate}\ndim = 16\nlayers = {best.values["layers"]}\n'
    )


def test_the_plot_has_every_trial_in_every_panel(whole: TuneReport) -> None:
    """The first trial's dim = 48 is no choice, so it has no place among them. Below the dots, the best so far."""
    points = [(row.number, row.state, row.figure or 0.0, row.values) for row in whole.rows]
    panels = draw(SPACE, points, "NDCG@10").axes
    assert [panel.get_title() for panel in panels] == ["history", *SPACE]
    dots = [sum(len(line.get_xdata()) for line in panel.lines if line.get_linestyle() == "None") for panel in panels]
    assert dots == [8, 8, 7, 8]
    best = panels[0].lines[-1].get_ydata()
    complete = [row.figure or 0.0 for row in whole.rows if row.state == "complete"]
    assert list(best) == [max(complete[: number + 1]) for number in range(len(complete))]


def test_the_report_is_three_files(whole: TuneReport, tmp_path: Path) -> None:
    write_report(whole, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.toml", "plot.png", "report.md"]
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "report.md").read_text().count("\n| ") == 1 + len(whole.rows)
