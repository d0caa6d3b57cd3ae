"""Differences of two cells against scipy's tests."""

import numpy as np
import pytest
from scipy import stats

from sweep.statistics.differences import difference

RNG = np.random.default_rng(1)
FIRST = 0.9 + 0.02 * RNG.standard_normal(12)
SECOND = FIRST - 0.05 + 0.002 * RNG.standard_normal(12)
CHIPS = np.arange(12)


def test_shared_seeds_are_compared_with_themselves() -> None:
    expected = stats.ttest_rel(FIRST, SECOND).confidence_interval()
    value, low, high, pairs = difference(FIRST, SECOND, (CHIPS, CHIPS))
    assert pairs == 12
    assert value == pytest.approx(np.mean(FIRST - SECOND))
    assert (low, high) == pytest.approx((expected.low, expected.high))
    shuffled = RNG.permutation(12)
    assert difference(FIRST, SECOND[shuffled], (CHIPS, shuffled)) == pytest.approx((value, low, high, 12))


def test_only_common_seeds_count_where_there_are_two() -> None:
    found = difference(FIRST, SECOND, (CHIPS, CHIPS + 9))
    assert found == pytest.approx(difference(FIRST[9:], SECOND[:3], (CHIPS[9:], CHIPS[:3] + 9)))
    assert found.pairs == 3


@pytest.mark.parametrize("chips", [(CHIPS, CHIPS + 11), (CHIPS, CHIPS + 12), None])
def test_cells_without_two_common_seeds_are_independent_samples(chips: tuple[np.ndarray, np.ndarray] | None) -> None:
    expected = stats.ttest_ind(FIRST, SECOND, equal_var=False).confidence_interval()
    value, low, high, pairs = difference(FIRST, SECOND, chips)
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
    assert difference(FIRST, FIRST, (CHIPS, CHIPS)) == (0, 0, 0, 12)
    wild = difference([0.0, 1.0], [1.0, 0.0], ([0, 1], [0, 1]))
    assert wild == (0, -1, 1, 2)


@pytest.mark.parametrize(
    ("cell", "chips", "message"),
    [
        ([], [], "second: empty"),
        (98.5, [0], "second: .*fractions"),
        ([0.5, 0.6], [3, 3], "second: chip 3 is there twice"),
    ],
)
def test_what_is_no_cell_is_refused(cell: float | list[float], chips: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        difference(FIRST, cell, (CHIPS, chips))


def test_estimates_that_are_no_fractions_are_compared_where_that_is_said() -> None:
    first, second = FIRST * 1.3, SECOND * 1.3
    assert first.max() > 1
    expected = stats.ttest_rel(first, second).confidence_interval()
    found = difference(first, second, (CHIPS, CHIPS), bounded=False)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    with pytest.raises(ValueError, match="first: expected fractions"):
        difference(first, second, (CHIPS, CHIPS))
    with pytest.raises(ValueError, match="second: expected finite values"):
        difference(first, np.where(CHIPS == 3, np.nan, second), bounded=False)
    far = difference(first + 5, second, bounded=False)
    assert (far.low, far.high) == (1, 1)
