"""Bootstrap intervals, against drawing users one resample at a time and against what normal theory gives."""

import numpy as np
import pytest

from models import bootstrap
from models.bootstrap import Interval, mean_interval, paired, paired_interval, resampled_means


def test_each_resample_is_the_mean_of_the_users_drawn() -> None:
    values = np.random.default_rng(0).random((40, 3))
    drawn = np.random.default_rng(7).integers(0, 40, size=(25, 40))
    expected = np.stack([values[rows].mean(axis=0) for rows in drawn])
    np.testing.assert_allclose(resampled_means(values, seed=7, num_resamples=25), expected, rtol=1e-13)


def test_blocks_of_resamples_draw_the_same_users(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((40, 2))
    whole = resampled_means(values, seed=3, num_resamples=31)
    monkeypatch.setattr(bootstrap, "_BLOCK_CELLS", 40 * 4)
    np.testing.assert_allclose(resampled_means(values, seed=3, num_resamples=31), whole, rtol=1e-13)


def test_interval_of_the_mean_is_close_to_normal_theory() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 2500)
    interval = mean_interval(values, seed=0)
    assert interval.value == values.mean()
    error = values.std() / np.sqrt(2500)
    # the ends are percentiles of 2000 draws: within 0.2 standard errors of where they should be
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_interval_ends_are_the_percentiles() -> None:
    # 0, 1, ..., 1000: the 2.5th and the 97.5th percentile are 25 and 975
    assert Interval.of(500.0, np.arange(1001.0)) == Interval(500.0, 25.0, 975.0)


def test_pairing_leaves_no_spread_where_users_gain_alike() -> None:
    reference = np.random.default_rng(2).random(500)
    found = paired_interval(reference + 0.25, reference, seed=0).difference
    np.testing.assert_allclose([found.value, found.low, found.high], [0.25] * 3, rtol=1e-12)


def test_relative_difference_of_a_proportional_gain_is_that_proportion() -> None:
    reference = np.random.default_rng(2).random(500)
    found = paired_interval(reference * 0.9, reference, seed=0).relative
    np.testing.assert_allclose([found.value, found.low, found.high], [-0.1] * 3, rtol=1e-12)


def test_relative_difference_from_zero_is_undefined_and_the_difference_is_not() -> None:
    found = paired_interval(np.ones(4), np.zeros(4), seed=0)
    assert (found.difference.low, found.difference.high) == (1.0, 1.0)
    assert np.isnan([found.relative.value, found.relative.low, found.relative.high]).all()


def test_the_estimate_itself_is_not_one_of_the_draws() -> None:
    # differences 0, 1, ..., 1000, relative to 2 half of that
    found = paired(9.0, 2.0, np.arange(1001.0) + 2.0, np.full(1001, 2.0))
    assert found.difference == Interval(7.0, 25.0, 975.0)
    assert found.relative == Interval(3.5, 12.5, 487.5)


def test_a_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(3).random(300)
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1)
    assert mean_interval(values, seed=1) != mean_interval(values, seed=2)


def test_one_user_has_an_interval_of_no_width() -> None:
    assert mean_interval(np.array([0.5]), seed=0) == Interval(0.5, 0.5, 0.5)


def test_no_users_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one user"):
        resampled_means(np.empty((0, 1)), seed=0)


def test_paired_values_of_different_users_are_refused() -> None:
    with pytest.raises(ValueError, match="3 users against 2"):
        paired_interval(np.ones(3), np.ones(2), seed=0)
