"""Differences of two cells against scipy's tests."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sweep.statistics.differences import difference

RNG = np.random.default_rng(1)
FIRST = pd.Series(0.9 + 0.02 * RNG.standard_normal(12))
SECOND = FIRST - 0.05 + 0.002 * RNG.standard_normal(12)


def test_shared_seeds_are_compared_with_themselves() -> None:
    expected = stats.ttest_rel(FIRST, SECOND).confidence_interval()
    value, low, high, pairs = difference(FIRST, SECOND)
    assert pairs == 12
    assert value == pytest.approx(np.mean(FIRST - SECOND))
    assert (low, high) == pytest.approx((expected.low, expected.high))
    shuffled = SECOND.sample(frac=1, random_state=0)
    assert difference(FIRST, shuffled) == pytest.approx((value, low, high, 12))


def test_only_common_seeds_count_where_there_are_two() -> None:
    later = SECOND.set_axis(SECOND.index + 9)
    assert difference(FIRST, later) == pytest.approx(difference(FIRST[9:], later[:3]))
    assert difference(FIRST, later).pairs == 3


@pytest.mark.parametrize("shift", [11, 12])
def test_cells_without_two_common_seeds_are_independent_samples(shift: int) -> None:
    expected = stats.ttest_ind(FIRST, SECOND, equal_var=False).confidence_interval()
    value, low, high, pairs = difference(FIRST, SECOND.set_axis(SECOND.index + shift))
    assert pairs == 0
    assert value == pytest.approx(FIRST.mean() - SECOND.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_a_cell_without_randomness_is_a_constant() -> None:
    expected = stats.ttest_1samp(FIRST, 0.985).confidence_interval()
    value, low, high, pairs = difference(FIRST, 0.985)
    assert (value, low, high) == pytest.approx((FIRST.mean() - 0.985, expected.low - 0.985, expected.high - 0.985))
    assert pairs == 0
    assert difference(0.985, FIRST) == pytest.approx((-value, -high, -low, 0))
    assert difference(0.9, 0.8) == pytest.approx((0.1, 0.1, 0.1, 0))


def test_one_trial_gives_no_interval() -> None:
    for second in (0.9, FIRST[:1], FIRST[3:]):
        value, low, high, _ = difference(FIRST[:1], second)
        assert np.isfinite(value)
        assert np.isnan([low, high]).all()


def test_equal_differences_have_no_width_and_limits_stay_possible() -> None:
    assert difference(FIRST, FIRST) == (0, 0, 0, 12)
    wild = difference(pd.Series([0.0, 1.0]), pd.Series([1.0, 0.0]))
    assert wild == (0, -1, 1, 2)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (pd.Series([], dtype=float), "second: empty"),
        (98.5, "second: .*fractions"),
        (pd.Series([0.5, 0.6], index=[3, 3]), "second: seed 3 is there twice"),
    ],
)
def test_what_is_no_cell_is_refused(cell: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        difference(FIRST, cell)  # type: ignore[arg-type]
