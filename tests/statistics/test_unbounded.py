"""Estimates of values that are no fractions, against SciPy's intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sweep.statistics import estimates
from sweep.statistics.differences import difference
from sweep.statistics.inversion import thresholds
from sweep.statistics.monotone import curve_of
from sweep.statistics.variance_components import decompose

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("chips", [2, 5, 40])
def test_the_interval_of_the_mean_is_students(size: float, chips: int) -> None:
    values = size * (3 + RNG.standard_normal(chips))
    found = estimates.mean(values, bounded=False)
    expected = stats.t.interval(0.95, chips - 1, values.mean(), stats.sem(values))
    assert found == pytest.approx((values.mean(), *expected), rel=1e-9)


@pytest.mark.parametrize("size", [1e-9, 1e9])
@pytest.mark.parametrize("chips", [3, 30])
def test_the_standard_deviation_goes_with_the_unit(size: float, chips: int) -> None:
    values = 0.4 + 0.1 * RNG.random(chips)
    plain = np.array(estimates.standard_deviation(values))
    assert np.array(estimates.standard_deviation(size * values, bounded=False)) / size == pytest.approx(plain, rel=1e-6)


def test_equal_values_differ_by_arithmetic_only() -> None:
    values = 1e9 * (1 + np.array([0, 1e-15, 2e-15]))
    assert estimates.standard_deviation(values, bounded=False).value == 0
    assert estimates.mean(np.zeros(3), bounded=False) == (0, 0, 0)
    with pytest.raises(ValueError, match="finite"):
        estimates.mean([1.0, np.nan], bounded=False)


def test_differences_have_no_bounds() -> None:
    first, second = 1e3 * RNG.standard_normal(20), 1e3 * RNG.standard_normal(20)
    chips = np.arange(20)
    found = difference(first, second, (chips, chips), bounded=False, widest=np.inf)
    apart = first - second
    expected = stats.t.interval(0.95, 19, apart.mean(), stats.sem(apart))
    assert found[:3] == pytest.approx((apart.mean(), *expected), rel=1e-9)


def test_what_trainings_leave_goes_with_the_unit() -> None:
    table = 0.5 + 0.02 * RNG.standard_normal((4, 9)) + 0.05 * RNG.standard_normal((4, 1))
    plain, large = decompose(table, bounded=False), decompose(1e6 * table, bounded=False)
    for ours, theirs in zip(plain[:8], large[:8], strict=True):
        assert 1e6 * ours == pytest.approx(theirs, rel=1e-9)


def test_a_threshold_of_what_is_better_when_low() -> None:
    levels = np.repeat([0.0, 1.0, 2.0], 4)
    losses = 1 + levels + np.tile([-0.01, 0.01, 0.02, -0.02], 3)
    curve = curve_of(levels, np.tile(np.arange(4), 3), -losses, np.zeros(12, bool), bounded=False)
    (found,) = thresholds(curve, -1.0, [1.0])
    assert found.level == pytest.approx(1, abs=1e-6)
    assert found.level_low < 1 < found.level_high
