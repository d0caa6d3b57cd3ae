"""Limits of means and quantiles at any confidence: against scipy, enumeration and simulation."""

import numpy as np
import pytest
from scipy import stats

from sweep.statistics.estimates import Estimate
from sweep.statistics.margins import deviation, margin
from sweep.statistics.precision import precise_mean


def test_the_mean_has_students_interval():
    sample = np.random.default_rng(0).normal(0.3, 0.1, 40)
    for doubt in (0.025, 0.0125, 0.1):
        low, high = stats.t.interval(1 - 2 * doubt, 39, sample.mean(), stats.sem(sample))
        assert margin(sample, doubt=doubt) == pytest.approx((sample.mean(), low, high))
    assert margin(sample) == pytest.approx(precise_mean(sample))
    assert deviation(sample) == pytest.approx(stats.sem(sample))


@pytest.mark.parametrize(("n", "quantile", "doubt"), [(100, 0.05, 0.025), (72, 0.05, 0.025), (500, 0.1, 0.005)])
def test_limits_of_a_quantile_are_the_furthest_ranks_that_hold(n: int, quantile: float, doubt: float):
    """The limits of the ranks 1, 2, … n: from the binomial number of chips below the quantile."""
    found = margin(np.random.default_rng(1).permutation(np.arange(1, n + 1)), quantile, doubt)
    below = stats.binom(n, quantile)
    # The r-th value is above the quantile where fewer than r are below it, and below where r or more are.
    assert below.cdf(found.low - 1) <= doubt < below.cdf(found.low)
    assert below.sf(found.high - 1) <= doubt < below.sf(found.high - 2)


def test_few_chips_have_no_lower_limit_of_a_quantile():
    assert margin(np.arange(71), 0.05) == pytest.approx(Estimate(3.5, -np.inf, 8), abs=1)
    assert np.isfinite(margin(np.arange(72), 0.05).low)


def test_limits_of_a_quantile_hold_as_often_as_they_say():
    rng, law = np.random.default_rng(2), stats.beta(30, 3)
    truth, doubt = law.ppf(0.05), 0.025
    found = np.array([margin(law.rvs(300, random_state=rng), 0.05, doubt) for _ in range(2000)])
    wrong = np.array([(found[:, 1] > truth).mean(), (found[:, 2] < truth).mean()])
    assert (wrong <= doubt + 3 * np.sqrt(doubt * (1 - doubt) / 2000)).all()
    assert (wrong > 0.01).all()  # and not much more often
    errors = [deviation(law.rvs(300, random_state=rng), 0.05) for _ in range(200)]
    assert np.mean(errors) == pytest.approx(found[:, 0].std(), rel=0.35)


def test_chips_that_are_all_equal_have_limits_of_no_width():
    assert margin([0.25] * 5) == (0.25, 0.25, 0.25)
    assert deviation([0.25] * 5) == 0
    assert margin([0.25]) == (0.25, -np.inf, np.inf)
    assert deviation([0.25]) == np.inf


def test_what_is_no_sample_is_refused():
    for values in ([], [[0.1]], [np.nan]):
        with pytest.raises(ValueError, match="expected finite values"):
            margin(values)
