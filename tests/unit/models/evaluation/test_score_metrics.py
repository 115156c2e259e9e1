"""Metrics of a ranker's scores, worked by hand; the AUC also against counting every pair."""

from math import log

import numpy as np
import pytest

from models import score_metrics


def test_auc_counts_pairs_and_half_of_ties() -> None:
    # positives .9 .4, negatives .4 .1: .9 beats both, .4 ties one and beats one: (1 + 1 + 1/2 + 1) / 4
    scores, labels = np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, True, False, False])
    assert score_metrics.auc(scores, labels) == 3.5 / 4


def test_auc_of_equal_scores_is_a_half() -> None:
    assert score_metrics.auc(np.zeros(5), np.array([True, False, False, True, False])) == 0.5


def test_auc_without_both_classes_is_undefined() -> None:
    assert np.isnan(score_metrics.auc(np.array([1.0, 2.0]), np.array([True, True])))
    assert np.isnan(score_metrics.auc(np.empty(0), np.empty(0, np.bool_)))


def test_grouped_auc_never_compares_across_users() -> None:
    # user 0: positive above its negative, 1.  user 1: positive below, 0, though above all of user 0.
    # user 2: negatives only.  user 3 has no rows.  user 4: 1 of 2 pairs.
    scores = np.array([9.0, 3.0, 2.0, 1.0, 10.0, 5.0, 5.5, 1.0, 2.0, 3.0])
    labels = np.array([0, 1, 0, 0, 0, 0, 0, 0, 1, 0], np.bool_)
    groups = np.array([1, 1, 2, 2, 2, 2, 2, 4, 4, 4])
    scores, labels, groups = np.append(scores, [1.0, 0.0]), np.append(labels, [True, False]), np.append(groups, [0, 0])
    found = score_metrics.grouped_auc(scores, labels, groups)
    np.testing.assert_array_equal(found, [1.0, 0.0, np.nan, np.nan, 0.5])


def test_equal_scores_of_two_users_are_no_tie() -> None:
    """User 0's best score is user 1's worst."""
    found = score_metrics.grouped_auc(
        np.array([0.0, 1.0, 1.0, 2.0]), np.array([False, True, False, True]), np.array([0, 0, 1, 1])
    )
    assert found.tolist() == [1.0, 1.0]


def test_auc_agrees_with_counting_every_pair() -> None:
    rng = np.random.default_rng(5)
    scores, labels = rng.integers(0, 8, 300).astype(np.float32), rng.random(300) < 0.3
    groups = rng.integers(0, 6, 300)
    found = score_metrics.grouped_auc(scores, labels, groups)
    for group in range(6):
        ups, downs = scores[labels & (groups == group)], scores[~labels & (groups == group)]
        wins = (ups[:, None] > downs).sum() + 0.5 * (ups[:, None] == downs).sum()
        assert found[group] == pytest.approx(wins / (len(ups) * len(downs)), rel=1e-14)


def test_log_loss_of_known_probabilities() -> None:
    # logit log(p / (1 - p)): p = .8 for a positive, .25 for a negative
    logits = np.array([log(0.8 / 0.2), log(0.25 / 0.75)])
    expected = (-log(0.8) - log(1 - 0.25)) / 2
    assert score_metrics.log_loss(logits, np.array([True, False])) == pytest.approx(expected, rel=1e-15)


def test_log_loss_is_exact_for_huge_logits() -> None:
    assert score_metrics.log_loss(np.array([1000.0, -1000.0]), np.array([False, False])) == (1000 + 0) / 2


def test_constant_log_loss_is_the_entropy_of_the_labels() -> None:
    assert score_metrics.constant_log_loss(np.array([True, False, False, False])) == pytest.approx(
        -(0.25 * log(0.25) + 0.75 * log(0.75)), rel=1e-15
    )
    assert score_metrics.constant_log_loss(np.array([False, False])) == 0.0


def test_sigmoid_reaches_both_ends_without_overflow() -> None:
    assert score_metrics.sigmoid(np.array([-1e4, 0.0, 1e4], np.float32)).tolist() == [0.0, 0.5, 1.0]


def test_calibration_bins_hold_equal_mass() -> None:
    # sorted: .1 .2 | .6 .8 with labels 0 0 | 1 0
    table = score_metrics.calibration(np.array([0.8, 0.1, 0.6, 0.2]), np.array([False, False, True, False]), num_bins=2)
    assert table.counts.tolist() == [2, 2]
    np.testing.assert_allclose(table.predicted, [(0.1 + 0.2) / 2, (0.6 + 0.8) / 2], rtol=1e-15)
    assert table.actual.tolist() == [0 / 2, 1 / 2]
    assert table.error == pytest.approx((2 * abs(0.15 - 0.0) + 2 * abs(0.7 - 0.5)) / 4, rel=1e-14)
    assert table.ratio == pytest.approx((0.8 + 0.1 + 0.6 + 0.2) / 1, rel=1e-14)


def test_equal_probabilities_share_a_bin_whatever_the_order_of_rows() -> None:
    probabilities, labels = np.array([0.2, 0.5, 0.5, 0.5]), np.array([False, True, False, False])
    tables = [score_metrics.calibration(probabilities[o], labels[o], 2) for o in ([0, 1, 2, 3], [3, 0, 2, 1])]
    # middle ranks: .2 is 1st; the three .5 share rank 3, the second half
    assert [table.counts.tolist() for table in tables] == [[1, 3], [1, 3]]
    assert [table.actual.tolist() for table in tables] == [[0.0, 1 / 3], [0.0, 1 / 3]]
    # a bin weighs by its rows
    assert tables[0].error == pytest.approx((1 * abs(0.2 - 0.0) + 3 * abs(0.5 - 1 / 3)) / 4, rel=1e-14)


def test_calibration_of_one_constant_probability_is_one_bin() -> None:
    table = score_metrics.calibration(np.full(10, 0.3), np.arange(10) < 3)
    assert (table.counts.tolist(), table.actual.tolist()) == ([10], [0.3])
    assert table.error == pytest.approx(0.0, abs=1e-15)


def test_ratio_without_positives_is_undefined() -> None:
    assert np.isnan(score_metrics.calibration(np.array([0.1, 0.2]), np.array([False, False]), 2).ratio)


def test_a_score_that_is_not_finite_is_refused() -> None:
    for call in (score_metrics.auc, score_metrics.log_loss, score_metrics.calibration):
        with pytest.raises(ValueError, match="row 1 is not finite"):
            call(np.array([0.5, np.nan]), np.array([True, False]))


def test_calibration_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        score_metrics.calibration(np.empty(0), np.empty(0, np.bool_))
