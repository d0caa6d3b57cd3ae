"""Thresholds, equivalent noise and claims, on curves whose inverse is known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweep.statistics import estimates
from sweep.statistics.inversion import Threshold, check_claims, equivalent_levels, thresholds
from sweep.statistics.monotone import Curve, furthest

LEVELS = np.array([0.0, 0.05, 0.1, 0.15])


def noise(n: int = 100) -> Curve:
    """Accuracy 0.95 - 4 · level, and a deviation per chip that grows with the level."""
    chips = np.random.default_rng(0).standard_normal(n)
    accuracies = 0.95 - 4 * LEVELS[:, None] + LEVELS[:, None] * 0.2 * (chips - chips.mean())
    return Curve(LEVELS, np.arange(n), accuracies, LEVELS == 0)


def exact(levels: Sequence[float], accuracies: list[float]) -> Curve:
    shape = np.array(accuracies)[:, None]
    return Curve(np.array(levels), np.array([], dtype=np.int64), shape, np.full(len(levels), True))


def columns(*arguments: Any, **named: Any) -> Any:
    """The fields of thresholds, a list each."""
    return Threshold(*map(list, zip(*thresholds(*arguments, **named), strict=True)))  # type: ignore[arg-type]


def test_the_mean_by_hand() -> None:
    table = columns(noise(), 0.95, [0.0, 0.1, 0.2, 0.59])
    assert table.limit == pytest.approx([0.95, 0.85, 0.75, 0.36])
    assert table.level == pytest.approx([0, 0.025, 0.05, 0.1475])
    assert table.swept == [0, 0, 0.05, 0.1]
    assert table.outside == [""] * 4
    # At a level that was run the interval is where the intervals of the means cross the limit.
    estimate = estimates.mean(noise().accuracies[1])
    assert table.level_low[2] == pytest.approx(0.05 - (0.75 - estimate.low) / 4, abs=2e-4)
    assert table.level_high[2] == pytest.approx(0.05 + (estimate.high - 0.75) / 4, abs=2e-4)


def test_limits_beyond_the_sweep_are_said() -> None:
    table = columns(noise(), 0.95, [0.7])
    assert table.outside == ["beyond 0.15"]
    assert table.level_low == [0.15]
    assert np.isnan([table.level[0], table.level_high[0]]).all()
    assert table.swept == [0.15]
    late = noise()
    late = Curve(late.levels[1:], late.seeds, late.accuracies[1:], late.exact[1:])
    table = columns(late, 0.95, [0.1])
    assert table.outside == ["before 0.05"]
    assert table.level_high == [0.05]
    assert np.isnan([table.level[0], table.level_low[0], table.swept[0]]).all()


def test_a_limit_of_the_estimate_may_lie_beyond_the_sweep_alone() -> None:
    table = columns(noise(), 0.95, [0.599])
    assert np.isfinite(table.level_low[0])
    assert np.isfinite(table.level[0])
    assert np.isnan(table.level_high[0])


def test_a_quantile_breaks_sooner_and_has_no_interval_with_few_chips() -> None:
    mean, low = columns(noise(), 0.95, [0.2]), columns(noise(), 0.95, [0.2], quantile=0.05)
    assert low.level[0] < mean.level[0]
    assert low.level_low[0] < low.level[0] < low.level_high[0]
    few = columns(noise(20), 0.95, [0.2], quantile=0.05)
    assert np.isnan(few.level_low[0])
    assert few.level[0] < few.level_high[0]


def test_fewest_bits() -> None:
    bits = exact([1, 2, 3, 4], [0.3, 0.9, 0.96, 0.98])
    table = columns(bits, 0.98, [0.0, 0.02, 0.05, 0.7], fewest=True)
    assert table.level[:2] == [4, 3]
    assert 2 < table.level[2] < 3
    assert table.swept == [4, 3, 3, 1]
    assert table.outside == ["", "", "", "beyond 1"]
    assert table.level_high[3] == 1
    random = Curve(np.array([1.0, 2.0]), np.arange(50), noise(50).accuracies[[3, 1]], np.array([False, False]))
    table = columns(random, 0.95, [0.3], fewest=True)
    assert 1 < table.level_low[0] < table.level[0] < table.level_high[0] < 2


def test_times_are_interpolated_over_their_logarithm() -> None:
    times = exact([1, 100], [0.9, 0.7])
    assert columns(times, 0.9, [0.1], spacing="log").level[0] == pytest.approx(10)
    with pytest.raises(ValueError, match="level 0 has no logarithm"):
        thresholds(noise(), 0.95, [0.1], spacing="log")


def test_noise_is_interpolated_over_its_power() -> None:
    power = exact([0, 1, 2], [0.9, 0.8, 0.5])
    assert columns(power, 0.9, [0.05], spacing="square").level[0] == pytest.approx(0.5**0.5)
    with pytest.raises(ValueError, match="level -1 is negative"):
        thresholds(exact([-1, 1], [0.9, 0.8]), 0.9, [0.1], spacing="square")


def test_a_level_that_does_better_by_chance_does_not_break_the_order() -> None:
    table = columns(exact([0, 1, 2, 3], [0.95, 0.8, 0.82, 0.5]), 0.95, [0.145])
    assert table.level[0] == pytest.approx(2.1, abs=0.05)  # 0.81 at levels 1 and 2, together
    assert table.swept[0] == 0


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"drops: .* got -0.1"):
        thresholds(noise(), 0.95, [-0.1])
    with pytest.raises(ValueError, match="two levels or more"):
        thresholds(exact([1], [0.9]), 0.9, [0.1])


@given(st.integers(0, 10_000), st.sampled_from([None, 0.05, 0.5]), st.floats(0.001, 0.5))
def test_the_interval_holds_the_estimate(seed: int, quantile: float | None, drop: float) -> None:
    rng = np.random.default_rng(seed)
    chips = np.clip(np.sort(rng.random(3))[::-1, None] * 0.9 + 0.05 * rng.standard_normal((3, 80)), 0, 1)
    curve = Curve(LEVELS, np.arange(80), np.vstack([np.full(80, 0.95), chips]), LEVELS == 0)
    for spacing in ("linear", "square"):
        (row,) = thresholds(curve, 0.95, [drop], quantile, spacing=spacing)  # type: ignore[arg-type]
        assert not row.level_low > row.level
        assert not row.level > row.level_high


BITS = np.array([1.0, 2.0, 3.0, 8.0])
ROUNDING = exact(BITS, [0.2, 0.65, 0.85, 0.95])


def power_noise(n: int = 50, spread: float = 0.02, seed: int = 0) -> Curve:
    """Accuracy 0.95 - 25 · level², and one deviation per chip that grows with the level."""
    chips = np.random.default_rng(seed).standard_normal(n)
    accuracies = 0.95 - 25 * LEVELS[:, None] ** 2 + spread * (LEVELS[:, None] / 0.15) ** 2 * (chips - chips.mean())
    return Curve(LEVELS, np.arange(n), accuracies, LEVELS == 0)


def test_levels_are_the_inverse_of_the_noise_curve() -> None:
    table = equivalent_levels(power_noise(), ROUNDING)
    assert table.bits.tolist() == [8, 3, 2, 1]
    assert table.accuracy.tolist() == [0.95, 0.85, 0.65, 0.2]
    assert table.level.tolist()[:3] == pytest.approx([0, (0.1 / 25) ** 0.5, (0.3 / 25) ** 0.5])
    assert np.isnan(table.level[3])
    assert table.outside.tolist() == ["", "", "", "above 0.15"]
    assert table.level_low[3] == 0.15
    assert np.isnan(table.level_high[3])
    assert table.theory.tolist() == pytest.approx([0.0011276, 0.0360844, 0.0721688, 0.1443376], rel=1e-4)


def test_the_interval_is_as_wide_as_the_error_of_the_mean_over_the_slope() -> None:
    curve = power_noise(200)
    table = equivalent_levels(curve, ROUNDING)
    level = (0.3 / 25) ** 0.5
    error = curve.accuracies[3].std(ddof=1) / np.sqrt(200) * (level / 0.15) ** 2 / (50 * level)
    assert table.bits.tolist() == [8, 3, 2, 1]
    assert (table.level_low[2], table.level_high[2]) == pytest.approx(
        (level - 1.97 * error, level + 1.97 * error), rel=0.01
    )
    assert table.level_low[0] == table.level_high[0] == 0


def test_levels_in_units_of_another_law() -> None:
    uniform = equivalent_levels(power_noise(), ROUNDING, std_per_level=12**-0.5)
    assert uniform.theory.tolist() == pytest.approx((2.0**-uniform.bits).tolist())


def test_random_rounding_shares_chips_with_the_power_noise() -> None:
    """A deviation common to both cancels: the interval is narrower than with chips of its own."""
    curve = power_noise(100)
    deviation = curve.accuracies[2] - curve.accuracies[2].mean()
    accuracies = np.vstack([0.5 + deviation, 0.6 + deviation])
    shared = Curve(np.array([1.0, 2.0]), np.arange(100), accuracies, np.array([False, False]))
    other = Curve(shared.levels, np.arange(100, 200), accuracies, shared.exact)
    found = [equivalent_levels(curve, rounding) for rounding in (shared, other)]
    widths = [table.level_high[0] - table.level_low[0] for table in found]
    assert widths[0] < 0.5 * widths[1]


def test_claims() -> None:
    table = check_claims(power_noise(), ROUNDING, {3: 0.0632, 2: 0.1, 1: 0.15})
    assert table.bits.tolist() == [3, 2, 1]
    assert table.claimed.tolist() == [0.0632, 0.1, 0.15]
    assert table.holds == [True, False, False]
    assert table.difference.tolist() == pytest.approx([0, -0.05, -0.1875], abs=1e-3)
    assert table.difference_low[1] < table.difference[1] < table.difference_high[1]


def test_a_claim_beyond_the_sweep_is_neither_right_nor_wrong() -> None:
    table = check_claims(power_noise(), ROUNDING, {1: 0.3})
    assert table.holds == [None]
    assert np.isnan(table.difference).all()


def test_a_claim_about_bits_that_were_not_run_is_refused() -> None:
    with pytest.raises(ValueError, match="5 bits were not run; there are 1, 2, 3, 8"):
        check_claims(power_noise(), ROUNDING, {5: 0.01})


def test_without_chips_there_is_no_interval_to_give() -> None:
    table = equivalent_levels(exact(LEVELS, [0.95, 0.8875, 0.7, 0.3875]), ROUNDING)
    assert table.level_low[1] == table.level[1] == table.level_high[1] == pytest.approx((0.1 / 25) ** 0.5)


def test_same_seed_same_table() -> None:
    first, again, other = (equivalent_levels(power_noise(), ROUNDING, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_equal(first, again)
    assert (first.level_low != other.level_low).any()


def sampled_noise(n: int, rng: np.random.Generator) -> Curve:
    """As `power_noise`, of estimates with errors of 0.1; the last level has n chips, each one before half as many."""
    sizes = n >> np.arange(3, -1, -1)
    chips, luck = rng.standard_normal(n), 0.1 * (rng.exponential(size=(4, n)) - 1)
    values = 0.95 - 25 * LEVELS[:, None] ** 2 + 0.02 * (LEVELS[:, None] / 0.15) ** 2 * chips + luck
    values = np.where(np.arange(n) < sizes[:, None], values, np.nan)
    values[0] = 0.95
    return Curve(LEVELS, np.arange(n), values, LEVELS == 0, LEVELS > 0)


@pytest.mark.slow
def test_levels_of_estimates_are_held_as_often_as_they_should_be() -> None:
    """Truth interpolated as the estimates are, as in docs/statistics.md; 200 studies, false alarms 1e-5."""
    studies, drop = 200, 0.2
    truth = 0.95 - 25 * LEVELS**2
    level = float(furthest(LEVELS**2, truth, 0.95 - drop)[0]) ** 0.5
    equivalent = [float(furthest(LEVELS**2, truth, target)[0]) ** 0.5 for target in (0.85, 0.65)]
    held = np.zeros(3)
    for study in range(studies):
        curve = sampled_noise(4096, np.random.default_rng([1, study]))
        assert np.nanmax(curve.accuracies) > 1
        (row,) = thresholds(curve, 0.95, [drop], spacing="square")
        table = equivalent_levels(curve, ROUNDING)
        within = (table.level_low[1:3] <= equivalent) & (equivalent <= table.level_high[1:3])
        held += [row.level_low <= level <= row.level_high, *within]
    low, high = stats.binom.ppf([1e-5, 1 - 1e-5], studies, 0.95)
    assert ((low <= held) & (held <= high)).all(), held


def test_estimates_have_limits_where_their_mean_has_them_and_no_quantiles() -> None:
    rng = np.random.default_rng(3)
    curve = sampled_noise(800, rng)
    flat = Curve(curve.levels, curve.seeds, np.full(curve.accuracies.shape, 0.95), curve.exact, curve.estimated)
    flat.accuracies[2] = 0.6 + rng.normal(0, 0.1, 800)
    flat.accuracies[3] = 0.2
    reach = stats.t.ppf(0.975, 799) * flat.accuracies[2].std(ddof=1) / np.sqrt(800)
    (row,) = thresholds(flat, 0.95, [0.95 - (flat.accuracies[2].mean() + reach)])
    assert row.level_high == pytest.approx(LEVELS[2], rel=1e-3)
    with pytest.raises(ValueError, match="estimates for the mean, not accuracies"):
        thresholds(curve, 0.95, [0.1], 0.05)
