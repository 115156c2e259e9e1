"""The evaluation as a whole: systems whose lists are known, measured by hand; the window starts on day 10."""

from collections.abc import Callable
from io import StringIO
from math import log2

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from rich.console import Console

from models.baselines import baselines
from models.bootstrap import mean_interval, paired_interval
from models.data.dataset import Dataset
from models.evaluate import evaluate_systems
from models.evaluate_ranker import Scored, evaluate_ranker
from models.report import Report
from models.report_table import print_report
from models.targets import Mode, Window, window_targets

DAY_MS = 86_400_000
# before: user 0 has item 0, user 1 has item 1.  in the window: user 0 buys 0 and 2, then 3; user 1 buys 1.
TRIPLES = [(0, 0, 1.0), (1, 1, 1.0), (0, 0, 11.0), (0, 2, 11.0), (0, 3, 12.0), (1, 1, 11.0)]
Lists = NDArray[np.int64]


def always(*items: int) -> Callable[[Lists, Mode, int], Lists]:
    """The same list for everyone."""
    return lambda users, mode, k: np.tile(np.array(items, np.int64)[:k], (len(users), 1))


@pytest.fixture
def dataset(make_dataset: Callable[..., Dataset]) -> Dataset:
    return make_dataset(TRIPLES, num_users=2, num_items=4)


@pytest.fixture
def report(dataset: Dataset) -> Report:
    systems = {"good": always(1, 2), "poor": always(3, 1)}
    return evaluate_systems(dataset, Window.test(dataset), systems, ks=[2, 1], references=["poor"])


def test_metrics_are_means_over_users(report: Report) -> None:
    """All items: user 0 wants {0, 2, 3}, user 1 wants {1}."""
    good, poor = (report.section("all").systems[name].metrics for name in ("good", "poor"))
    ideal = 1 + 1 / log2(3)
    assert good["recall@2"].value == (1 / 3 + 1 / 1) / 2
    assert good["precision@2"].value == (1 / 2 + 1 / 2) / 2
    assert good["ndcg@2"].value == pytest.approx(((1 / log2(3)) / ideal + 1) / 2, rel=1e-15)
    assert good["mrr@2"].value == (1 / 2 + 1) / 2
    assert good["hit_rate@1"].value == (0 + 1) / 2
    assert poor["ndcg@2"].value == pytest.approx((1 / ideal + 1 / log2(3)) / 2, rel=1e-15)


def test_new_items_leave_out_users_who_turned_to_nothing_new(report: Report) -> None:
    section = report.section("new")
    assert (section.num_users, section.num_rows, section.num_targets) == (1, 1, 2)
    assert section.systems["good"].metrics["recall@2"].value == 1 / 2


def test_what_the_means_are_of_is_kept_by_user(report: Report) -> None:
    """So that reports of two trainings can be compared user by user; the JSON stays without it."""
    assert report.per_user["window/all/users"].tolist() == [0, 1]
    assert report.per_user["window/all/good/recall@2"].tolist() == [1 / 3, 1.0]
    assert report.per_user["window/new/users"].tolist() == [0]
    assert "per_user" not in orjson.loads(report.to_json())


def test_section_counts_and_ceiling(report: Report) -> None:
    section = report.section("all")
    assert (section.num_users, section.num_targets) == (2, 4)
    assert section.recall_ceiling == {"1": (1 / 3 + 1) / 2, "2": (2 / 3 + 1) / 2}
    assert section.systems["good"].coverage == {"1": 1 / 4, "2": 2 / 4}


def test_intervals_are_paired_against_the_reference(report: Report, dataset: Dataset) -> None:
    systems = report.section("all").systems
    assert systems["poor"].versus == {}
    assert systems["good"].metrics["recall@2"] == mean_interval(np.array([1 / 3, 1.0]), report.seed)
    expected = paired_interval(np.array([1 / 2, 1.0]), np.array([1.0, 1 / 2]), report.seed)
    assert systems["good"].versus["poor"]["mrr@2"] == expected


def test_a_chunk_of_users_gets_the_same_lists(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    window, systems = Window.test(dataset), baselines(dataset, 10 * DAY_MS)
    whole = evaluate_systems(dataset, window, systems, ks=[2]).to_json()
    monkeypatch.setattr("models.evaluate._CHUNK_ROWS", 1)
    assert evaluate_systems(dataset, window, systems, ks=[2]).to_json() == whole


def test_baskets_of_a_user_count_together_as_one(dataset: Dataset) -> None:
    """User 0's baskets are {0, 2} and {3}; user 1's is {1}. Their own items: 0, then 0 and 2; 1."""
    timed = {"own": baselines(dataset, 10 * DAY_MS)["own_frequent"]}
    report = evaluate_systems(dataset, Window.test(dataset), {}, modes=["all"], ks=[1], basket_systems=timed)
    section = report.section("all", "basket")
    assert (section.num_users, section.num_rows, section.num_targets) == (2, 3, 4)
    assert section.systems["own"].metrics["recall@1"].value == ((1 / 2 + 0 / 1) / 2 + 1 / 1) / 2


def test_report_is_the_same_for_the_same_seed(report: Report, dataset: Dataset) -> None:
    systems = {"good": always(1, 2), "poor": always(3, 1)}
    arguments = {"ks": [2, 1], "references": ["poor"]}
    again = evaluate_systems(dataset, Window.test(dataset), systems, seed=0, **arguments)
    assert again.to_json() == report.to_json()


def test_json_names_every_figure(report: Report) -> None:
    found = orjson.loads(report.to_json())
    assert list(found) == [
        *("fingerprint", "window", "start_ms", "end_ms", "num_items", "ks", "seed", "references", "sections"),
        *("left_out", "num_resamples", "confidence", "version", "training_key"),
    ]
    assert (found["ks"], found["start_ms"], found["version"]) == ([1, 2], 10 * DAY_MS, 1)
    section = found["sections"][0]
    good = section["systems"]["good"]
    assert (section["unit"], section["mode"], section["recall_ceiling"]["2"]) == ("window", "all", 0.833333)
    assert good["metrics"]["recall@2"] == {"value": 0.666667, "low": 0.333333, "high": 1.0}
    assert set(good["versus"]["poor"]["ndcg@2"]) == {"difference", "relative"}


def test_an_undefined_figure_is_null_in_json(dataset: Dataset) -> None:
    """Nothing can be said relative to a reference that never hits."""
    systems = {"nothing": always(-1), "good": always(1)}
    report = evaluate_systems(dataset, Window.test(dataset), systems, modes=["all"], ks=[1])
    versus = orjson.loads(report.to_json())["sections"][0]["systems"]["good"]["versus"]["nothing"]["recall@1"]
    assert versus["relative"] == {"value": None, "low": None, "high": None}
    assert versus["difference"]["value"] == 0.5


def test_ranker_is_judged_on_the_candidates_it_was_given(dataset: Dataset) -> None:
    """User 0 wants {0, 2, 3}: candidates 2 (target) above 1. User 1 wants {1}: candidates 0 above 1 (target), 3."""
    targets = window_targets(dataset, Window.test(dataset), "all")
    scored = Scored(np.array([0, 2, 5]), np.array([1, 2, 0, 1, 3]), np.log(np.array([1, 3, 3, 1, 1 / 3], np.float32)))
    found = evaluate_ranker(scored, targets, seed=0)
    assert (found.num_candidates, found.num_positives, found.num_users_auc) == (5, 2, 2)
    assert found.user_auc.value == (1 / 1 + 1 / 2) / 2
    # positives 3 and 1 against negatives 1, 3, 1/3: (1 + 1/2 + 1) and (1/2 + 0 + 1)
    assert found.auc == pytest.approx((2.5 + 1.5) / 6, rel=1e-12)
    # probabilities 3/4 and 1/2 of the targets; 1/2, 3/4 and 1/4 of the others
    chances = [3 / 4, 1 / 2, 1 - 1 / 2, 1 - 3 / 4, 1 - 1 / 4]
    assert found.log_loss == pytest.approx(-np.log(chances).mean(), rel=1e-6)
    assert found.predicted_over_actual == pytest.approx((3 / 4 + 1 / 2 + 1 / 2 + 3 / 4 + 1 / 4) / 2, rel=1e-6)
    assert sum(row.count for row in found.bins) == 5


def test_users_whose_candidates_are_all_alike_have_no_auc_of_their_own(dataset: Dataset) -> None:
    """User 0's candidates are all targets; user 1's are 1 (target) below 0, then only 0."""
    targets = window_targets(dataset, Window.test(dataset), "all")
    both = evaluate_ranker(
        Scored(np.array([0, 2, 4]), np.array([0, 2, 1, 0]), np.arange(4.0, dtype=np.float32)), targets, 0
    )
    assert (both.user_auc.value, both.num_users_auc) == (0.0, 1)
    none = evaluate_ranker(Scored(np.array([0, 2, 3]), np.array([0, 2, 0]), np.zeros(3, np.float32)), targets, 0)
    assert (np.isnan(none.user_auc.value), none.num_users_auc, none.auc) == (True, 0, 0.5)


def test_candidates_for_other_users_are_refused(dataset: Dataset) -> None:
    targets = window_targets(dataset, Window.test(dataset), "all")
    with pytest.raises(ValueError, match="candidates for 1 users; expected 2"):
        evaluate_ranker(Scored(np.array([0, 1]), np.array([0]), np.zeros(1, np.float32)), targets, seed=0)


def test_tables_fit_a_terminal_of_100_columns(dataset: Dataset) -> None:
    """With names of 24 characters, every comparison and the ranker's table."""
    ranker = {"ranker": lambda users, mode: Scored(np.array([0, 2, 3][: len(users) + 1]), *_candidates(len(users)))}
    systems = {"retrieval and ranking 24": always(1, 2), "nothing": always(-1, -1), "poor": always(3, 1)}
    timed = {"retrieval and ranking 24": baselines(dataset, 10 * DAY_MS)["own_frequent"]}
    report = evaluate_systems(
        dataset, Window.test(dataset), systems, ks=[1, 2], references=["poor"], rankers=ranker, basket_systems=timed
    )
    output = StringIO()
    print_report(report, Console(file=output, width=100))
    lines = output.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 100
    assert sum("retrieval and ranking 24 " in line for line in lines) == 4
    assert [line.strip() for line in lines if line.startswith("Probabilities")] == [
        "Probabilities of ranker, mode all",
        "Probabilities of ranker, mode new",
    ]
    assert not any("…" in line for line in lines)


def test_table_says_how_much_better_a_system_is_relative_to_the_reference(dataset: Dataset) -> None:
    """The reference finds 0 first for user 0, who wants {0, 2, 3}, and 1 second for user 1; the other is perfect."""
    systems = {"reference": always(0, 1), "perfect": lambda users, mode, k: np.array([[0, 2], [1, 0]])[users]}
    report = evaluate_systems(dataset, Window.test(dataset), systems, modes=["all"], ks=[2])
    output = StringIO()
    print_report(report, Console(file=output, width=100))
    worse, better = 1 / (1 + 1 / log2(3)), 1 / log2(3)
    assert f"1.0000  {1 / ((worse + better) / 2) - 1:+.1%}".split() == output.getvalue().split("perfect")[1].split()[:2]
    # one of the two users drawn twice: the ends of the interval
    assert f"{1 / better - 1:+.1%} to {1 / worse - 1:+.1%}" in output.getvalue()


def _candidates(num_users: int) -> tuple[Lists, NDArray[np.float32]]:
    return np.array([1, 2, 0][: num_users + 1]), np.zeros(num_users + 1, np.float32)


@pytest.mark.parametrize(
    ("system", "message"),
    [
        (always(4, 0), r"outside 0\.\.3"),
        (always(-2, 0), r"outside 0\.\.3"),
        (always(1), r"expected int64 \(2, 2\)"),
        (lambda users, mode, k: np.zeros((len(users), k)), "lists are float64"),
        (always(1, 1), "names an item twice"),
    ],
)
def test_lists_that_cannot_be_measured_are_refused(
    dataset: Dataset, system: Callable[[Lists, Mode, int], Lists], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_systems(dataset, Window.test(dataset), {"broken": system}, modes=["all"], ks=[2])


def test_an_unknown_reference_is_refused(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="reference 'best' is not a system; choose from good"):
        evaluate_systems(dataset, Window.test(dataset), {"good": always(1)}, ks=[1], references=["best"])


def test_a_window_without_targets_is_refused(dataset: Dataset) -> None:
    with pytest.raises(
        ValueError, match=r"window, mode all: no targets, nobody .* took an item in it; window, mode new"
    ):
        evaluate_systems(dataset, Window("empty", 15 * DAY_MS, 16 * DAY_MS), {"good": always(1)}, ks=[1])


def test_a_mode_without_targets_is_left_out_with_a_note(make_dataset: Callable[..., Dataset]) -> None:
    """One user, who comes back only to what they have: there is nothing new to find, in window or basket."""
    one = make_dataset([(0, 0, 1.0), (0, 1, 2.0), (0, 0, 11.0)], num_users=1, num_items=2)
    timed = {"popular": baselines(one, 10 * DAY_MS)["popularity"]}
    report = evaluate_systems(one, Window.test(one), {"good": always(0)}, ks=[1], basket_systems=timed)
    assert [(section.unit, section.mode) for section in report.sections] == [("window", "all"), ("basket", "all")]
    assert report.left_out == [
        f"{unit}, mode new: no targets, nobody known before the window took a new item in it"
        for unit in ("window", "basket")
    ]
    assert orjson.loads(report.to_json())["left_out"] == report.left_out
    console = Console(file=StringIO(), width=100)
    print_report(report, console)
    assert f"left out: {report.left_out[0]}" in " ".join(console.file.getvalue().split())


def test_a_missing_section_is_named(report: Report) -> None:
    with pytest.raises(KeyError, match="unit 'basket' and mode 'all'"):
        report.section("all", "basket")
