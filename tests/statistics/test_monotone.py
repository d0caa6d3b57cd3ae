"""Monotone curves: regression against a formula, inversion against the curve itself, the bootstrap against theory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.interpolate import PchipInterpolator

from sweep.statistics.monotone import (
    curve_of,
    falling,
    furthest,
    interpolate,
    normal_means,
    percentile_limits,
    resampled_means,
)

LEVELS = np.array([0.0, 0.04, 0.1, 0.16])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_falling_is_isotonic_regression(values: list[float]) -> None:
    """By the min-max formula of Barlow and others."""
    places = range(len(values))
    means = {(i, j): np.mean(values[i : j + 1]) for i in places for j in places[i:]}
    expected = [min(max(means[i, j] for j in places[k:]) for i in places[: k + 1]) for k in places]
    np.testing.assert_allclose(falling(values), expected, atol=1e-12)


def test_falling_leaves_what_is_missing_missing() -> None:
    found = falling([[0.5, np.nan, 0.4], [0.4, 0.5, 0.2]])
    np.testing.assert_allclose(found, [[np.nan] * 3, [0.45, 0.45, 0.2]])


def test_falling_works_on_many_curves_at_once() -> None:
    curves = np.random.default_rng(0).random((5, 7))
    np.testing.assert_array_equal(falling(curves), [falling(curve) for curve in curves])


def test_the_furthest_level_is_the_inverse_of_the_curve() -> None:
    curves = np.sort(np.random.default_rng(1).random((50, 4)), axis=1)[:, ::-1]
    targets = curves[:, 3] + 0.9 * (curves[:, 0] - curves[:, 3])
    found = furthest(LEVELS, curves, targets)
    for curve, level, target in zip(curves, found, targets, strict=True):
        assert PchipInterpolator(LEVELS, curve)(level) == pytest.approx(target, abs=1e-12)
        assert interpolate(LEVELS, curve[None], level)[0] == pytest.approx(target, abs=1e-12)


@pytest.mark.parametrize(
    ("target", "level"),
    [(0.9, 0), (0.91, -np.inf), (0.7, 0.1), (0.4, 0.16), (0.39, np.inf), (0.1 + 0.2 + 0.4, 0.1), (0.55, 0.13)],
)
def test_plateaus_ends_and_levels_themselves(target: float, level: float) -> None:
    found = furthest(LEVELS, [0.9, 0.7, 0.7, 0.4], target)
    assert found == pytest.approx([level], abs=0.011 if target == 0.55 else 0)


def test_two_levels_are_joined_by_a_line() -> None:
    assert furthest(np.array([1.0, 3.0]), [0.9, 0.5], 0.6) == pytest.approx([2.5])


def test_a_curve_from_trials() -> None:
    levels, seeds, accuracies = [0.1, 0.1, 0.0, 0.2, 0.2], [0, 2, 0, 1, 2], [0.8, 0.7, 0.9, 0.5, 0.4]
    curve = curve_of(levels, seeds, accuracies, [False, False, True, False, False])
    np.testing.assert_array_equal(curve.levels, [0, 0.1, 0.2])
    np.testing.assert_array_equal(curve.seeds, [0, 1, 2])
    np.testing.assert_array_equal(curve.accuracies, [[0.9, 0.9, 0.9], [0.8, np.nan, 0.7], [np.nan, 0.5, 0.4]])
    np.testing.assert_array_equal(curve.exact, [True, False, False])
    assert curve.means == pytest.approx([0.9, 0.75, 0.45])


def test_a_curve_of_estimates_that_levels_have_in_different_numbers() -> None:
    levels, seeds, values = [0.1, 0.1, 0.0, 0.2, 0.2, 0.2], [7, 8, 0, 7, 8, 9], [1.2, 0.9, 0.95, 0.4, -0.1, 0.6]
    curve = curve_of(levels, seeds, values, [False, False, True, False, False, False], [level > 0 for level in levels])
    np.testing.assert_array_equal(curve.accuracies, [[0.95] * 3, [1.2, 0.9, np.nan], [0.4, -0.1, 0.6]])
    assert curve.estimated.tolist() == [False, True, True]
    assert curve.means == pytest.approx([0.95, 1.05, 0.3])
    assert curve.chips == 2
    assert curve_of([1, 2], [0, 0], [0.3, 0.9], [True, True]).chips == 0
    with pytest.raises(ValueError, match="one cell at each level"):
        curve_of([1, 1], [0, 1], [0.5, 0.5], [False, False], [True, False])


def test_a_curve_without_randomness_has_no_seeds() -> None:
    curve = curve_of([1, 2], [0, 0], [0.3, 0.9], [True, True])
    assert curve.seeds.size == 0
    np.testing.assert_array_equal(curve.accuracies, [[0.3], [0.9]])


def test_seeds_that_no_float_tells_apart_are_two_chips() -> None:
    assert curve_of([1, 1], [2**53, 2**53 + 1], [0.3, 0.9], [False, False]).seeds.tolist() == [2**53, 2**53 + 1]


@pytest.mark.parametrize(
    ("levels", "seeds", "exact"),
    [
        ([], [], []),
        ([0.1, 0.1], [0, 0], [False, False]),
        ([0.1, 0.1], [0, 0], [True, True]),
        ([1, 1], [0, 1], [True, False]),
    ],
)
def test_levels_with_several_cells_are_refused(levels: list[float], seeds: list[int], exact: list[bool]) -> None:
    with pytest.raises(ValueError, match="one cell at each level"):
        curve_of(levels, seeds, [0.5] * len(levels), exact)


def test_the_bootstrap_has_the_spread_of_the_mean_and_keeps_chips_together() -> None:
    chips = np.random.default_rng(2).random(200)
    accuracies = np.vstack([chips, chips / 2, np.where(np.arange(200) < 150, chips, np.nan)])
    means = resampled_means(accuracies, 4000, np.random.default_rng(3))
    np.testing.assert_allclose(means[:, 1], means[:, 0] / 2)
    assert means[:, 0].std() == pytest.approx(chips.std() / np.sqrt(200), rel=0.05)
    assert means[:, 2].std() == pytest.approx(chips[:150].std() / np.sqrt(150), rel=0.05)


def test_normal_means_have_the_covariance_of_means_over_chips_that_levels_share() -> None:
    """Against repeated sampling: level k has the first n_k of the same chips."""
    rng, sizes, studies = np.random.default_rng(9), np.array([300, 700, 1000]), 4000
    mixing = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.5, 0.5, 0.7]])
    means = np.empty((studies, 3))
    for study in range(studies):
        chips = rng.exponential(size=(1000, 3)) @ mixing.T
        means[study] = [chips[:n, level].mean() for level, n in enumerate(sizes)]
    table = np.where(np.arange(1000) < sizes[:, None], chips.T, np.nan)
    drawn = normal_means(table, 200_000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(axis=0), np.nanmean(table, axis=1), atol=5e-4)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(means.T), rtol=0.15)
    expected = mixing @ mixing.T / np.maximum(sizes, sizes[:, None])
    np.testing.assert_allclose(np.cov(drawn.T), expected, rtol=0.15)


def test_normal_means_are_what_the_bootstrap_tends_to() -> None:
    chips = np.random.default_rng(2).random((3, 2000))
    chips[1] += chips[0]
    chips[2, 1500:] = np.nan
    chips = np.vstack([chips, np.full(2000, 0.9)])
    normal, resampled = (f(chips, 4000, np.random.default_rng(3)) for f in (normal_means, resampled_means))
    np.testing.assert_allclose(normal.std(axis=0), resampled.std(axis=0), rtol=0.06)
    np.testing.assert_allclose(np.quantile(normal, 0.025, axis=0), np.quantile(resampled, 0.025, axis=0), atol=1e-3)
    assert np.corrcoef(normal[:, 0], normal[:, 1])[0, 1] == pytest.approx(0.5**0.5, abs=0.04)
    assert np.ptp(normal[:, 3]) == 0
    assert normal[0, 3] == pytest.approx(0.9, abs=1e-12)
    np.testing.assert_array_equal(normal, normal_means(chips, 4000, np.random.default_rng(3)))


def test_limits_of_many_chips_are_percentiles_and_of_few_are_wider() -> None:
    replicates = np.random.default_rng(4).standard_normal(100_000)
    assert percentile_limits(replicates, 10_000) == pytest.approx((-1.96, 1.96), abs=0.03)
    expected = stats.t.ppf(0.975, 7) * np.sqrt(8 / 7)
    assert percentile_limits(replicates, 8) == pytest.approx((-expected, expected), abs=0.06)
    assert percentile_limits(np.array([0.1, 0.2, np.inf]), 20) == (0.1, np.inf)
    assert np.isnan(percentile_limits(replicates, 1)).all()
