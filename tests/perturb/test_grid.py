"""The grid of evenly spaced levels, against decimals and by counting."""

from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pytest

from sweep.perturb.grid import Levels, affine, symmetric, twos_complement


@pytest.mark.parametrize(
    ("levels", "low", "high", "count"),
    [
        (twos_complement(0.125, 4), -1.0, 0.875, 16),
        (symmetric(1.5, 3.0), -1.5, 1.5, 7),
        (affine(-1.0, 2.0, 2), -1.0, 2.0, 4),
        (affine(0.0, 7.5, 4), 0.0, 7.5, 16),
        (Levels(0.5, -0.25, 0, 3), -0.25, 1.25, 4),
    ],
)
def test_a_grid_has_so_many_levels_between_its_ends(levels: Levels, low: float, high: float, count: int):
    got = levels.round(np.linspace(low - 3, high + 3, 10_001))
    assert np.unique(got).size == count
    assert (got.min(), got.max()) == (low, high)
    assert (levels.resolved(got).low, levels.resolved(got).high) == (low, high)


@pytest.mark.parametrize("offset", [0.0, 0.375])
def test_values_go_to_the_nearest_level_and_ties_to_even_codes(offset: float):
    values = np.arange(-40, 41) / 16 + offset
    got = Levels(0.25, offset, -6, 5).round(values)
    for value, found in zip(values.tolist(), got.tolist(), strict=True):
        code = ((Decimal(value) - Decimal(offset)) / Decimal("0.25")).to_integral_value(ROUND_HALF_EVEN)
        assert Decimal(found) == min(max(code, Decimal(-6)), Decimal(5)) * Decimal("0.25") + Decimal(offset)


def test_what_lies_more_than_half_a_step_beyond_the_ends_is_saturated():
    values = np.array([-1.07, -1.06, 0.0, 0.93, 0.94, 5.0], np.float32)  # the ends with half a step: -1.0625 and 0.9375
    assert twos_complement(0.125, 4).resolved(values).saturated == pytest.approx(3 / 6)
    assert Levels(0.125).resolved(values).saturated == 0
    assert Levels(0.125).resolved(None).saturated is None


def test_a_zero_keeps_its_sign_and_a_grid_without_a_step_keeps_zeros():
    assert np.signbit(Levels(0.5).round(np.array([-0.1, 0.1]))).tolist() == [True, False]
    assert not np.any(symmetric(np.zeros((1, 2)), 7.0).round(np.zeros((3, 2), np.float32)))


def test_the_four_numbers_of_the_engine():
    array = Levels(0.5, -1.0, 0.0, 7.0).array()
    assert array.dtype == np.float32
    assert array.tolist() == [-1.0, 0.5, 0.0, 7.0]
    assert Levels(0.5).array().tolist() == [0.0, 0.5, -np.inf, np.inf]
