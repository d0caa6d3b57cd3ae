"""Thresholds and areas on curves whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.statistics import estimates
from sweep.statistics.monotone import Curve
from sweep.statistics.thresholds import area, thresholds

LEVELS = np.array([0.0, 0.05, 0.1, 0.15])


def noise(n: int = 100) -> Curve:
    """Accuracy 0.95 - 4 · level, and a deviation per chip that grows with the level."""
    chips = np.random.default_rng(0).standard_normal(n)
    accuracies = 0.95 - 4 * LEVELS[:, None] + LEVELS[:, None] * 0.2 * (chips - chips.mean())
    return Curve(LEVELS, np.arange(n), accuracies, LEVELS == 0)


def exact(levels: list[float], accuracies: list[float]) -> Curve:
    shape = np.array(accuracies)[:, None]
    return Curve(np.array(levels), np.array([], dtype=np.int64), shape, np.full(len(levels), True))


def test_the_mean_by_hand() -> None:
    table = thresholds(noise(), 0.95, [0.0, 0.1, 0.2, 0.59])
    assert table["limit"].tolist() == pytest.approx([0.95, 0.85, 0.75, 0.36])
    assert table["level"].tolist() == pytest.approx([0, 0.025, 0.05, 0.1475])
    assert table["swept"].tolist() == [0, 0, 0.05, 0.1]
    assert table["outside"].tolist() == [""] * 4
    # At a level that was run the interval is where the intervals of the means cross the limit.
    estimate = estimates.mean(noise().accuracies[1])
    assert table["low"][2] == pytest.approx(0.05 - (0.75 - estimate.low) / 4, abs=2e-4)
    assert table["high"][2] == pytest.approx(0.05 + (estimate.high - 0.75) / 4, abs=2e-4)


def test_limits_beyond_the_sweep_are_said() -> None:
    table = thresholds(noise(), 0.95, [0.7])
    assert table["outside"].tolist() == ["beyond 0.15"]
    assert table["low"].tolist() == [0.15]
    assert table[["level", "high"]].isna().all(axis=None)
    assert table["swept"].tolist() == [0.15]
    late = noise()
    late = Curve(late.levels[1:], late.seeds, late.accuracies[1:], late.exact[1:])
    table = thresholds(late, 0.95, [0.1])
    assert table["outside"].tolist() == ["before 0.05"]
    assert table["high"].tolist() == [0.05]
    assert table[["level", "low", "swept"]].isna().all(axis=None)


def test_a_limit_of_the_estimate_may_lie_beyond_the_sweep_alone() -> None:
    table = thresholds(noise(), 0.95, [0.599])
    assert np.isfinite(table["low"][0])
    assert np.isfinite(table["level"][0])
    assert np.isnan(table["high"][0])


def test_a_quantile_breaks_sooner_and_has_no_interval_with_few_chips() -> None:
    mean, low = thresholds(noise(), 0.95, [0.2]), thresholds(noise(), 0.95, [0.2], quantile=0.05)
    assert low["level"][0] < mean["level"][0]
    assert low["low"][0] < low["level"][0] < low["high"][0]
    few = thresholds(noise(20), 0.95, [0.2], quantile=0.05)
    assert np.isnan(few["low"][0])
    assert few["level"][0] < few["high"][0]


def test_fewest_bits() -> None:
    bits = exact([1, 2, 3, 4], [0.3, 0.9, 0.96, 0.98])
    table = thresholds(bits, 0.98, [0.0, 0.02, 0.05, 0.7], fewest=True)
    assert table["level"].tolist()[:2] == [4, 3]
    assert 2 < table["level"][2] < 3
    assert table["swept"].tolist() == [4, 3, 3, 1]
    assert table["outside"].tolist() == ["", "", "", "beyond 1"]
    assert table["high"][3] == 1
    random = Curve(np.array([1.0, 2.0]), np.arange(50), noise(50).accuracies[[3, 1]], np.array([False, False]))
    table = thresholds(random, 0.95, [0.3], fewest=True)
    assert 1 < table["low"][0] < table["level"][0] < table["high"][0] < 2


def test_times_are_interpolated_over_their_logarithm() -> None:
    times = exact([1, 100], [0.9, 0.7])
    assert thresholds(times, 0.9, [0.1], spacing="log")["level"][0] == pytest.approx(10)
    assert area(times, logarithmic=True).value == pytest.approx(0.8)
    with pytest.raises(ValueError, match="level 0 has no logarithm"):
        thresholds(noise(), 0.95, [0.1], spacing="log")


def test_noise_is_interpolated_over_its_power() -> None:
    power = exact([0, 1, 2], [0.9, 0.8, 0.5])
    assert thresholds(power, 0.9, [0.05], spacing="square")["level"][0] == pytest.approx(0.5**0.5)
    with pytest.raises(ValueError, match="level -1 is negative"):
        thresholds(exact([-1, 1], [0.9, 0.8]), 0.9, [0.1], spacing="square")


def test_a_level_that_does_better_by_chance_does_not_break_the_order() -> None:
    table = thresholds(exact([0, 1, 2, 3], [0.95, 0.8, 0.82, 0.5]), 0.95, [0.145])
    assert table["level"][0] == pytest.approx(2.1, abs=0.05)  # 0.81 at levels 1 and 2, together
    assert table["swept"][0] == 0


def test_area_is_the_mean_over_levels_of_each_chip() -> None:
    curve = noise()
    value, low, high = area(curve)
    assert value == pytest.approx(0.95 - 4 * 0.075)
    per_chip = np.trapezoid(curve.accuracies, LEVELS, axis=0) / 0.15
    assert (value, low, high) == pytest.approx(tuple(estimates.mean(per_chip)))
    assert area(exact([0, 1], [0.9, 0.7])) == pytest.approx((0.8, 0.8, 0.8))


def test_area_takes_chips_that_were_run_everywhere() -> None:
    curve = noise(10)
    curve.accuracies[2, 7:] = np.nan
    whole = Curve(curve.levels, curve.seeds[:7], curve.accuracies[:, :7], curve.exact)
    assert area(curve) == area(whole)
    curve.accuracies[1, :7] = np.nan
    with pytest.raises(ValueError, match="no chip was run at every level"):
        area(curve)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"drops: .* got -0.1"):
        thresholds(noise(), 0.95, [-0.1])
    for function in (lambda c: thresholds(c, 0.9, [0.1]), area):
        with pytest.raises(ValueError, match="two levels or more"):
            function(exact([1], [0.9]))


@given(st.integers(0, 10_000), st.sampled_from([None, 0.05, 0.5]), st.floats(0.001, 0.5))
def test_the_interval_holds_the_estimate(seed: int, quantile: float | None, drop: float) -> None:
    rng = np.random.default_rng(seed)
    chips = np.clip(np.sort(rng.random(3))[::-1, None] * 0.9 + 0.05 * rng.standard_normal((3, 80)), 0, 1)
    curve = Curve(LEVELS, np.arange(80), np.vstack([np.full(80, 0.95), chips]), LEVELS == 0)
    for spacing in ("linear", "square"):
        row = thresholds(curve, 0.95, [drop], quantile, spacing=spacing).iloc[0]  # type: ignore[arg-type]
        assert not row["low"] > row["level"]
        assert not row["level"] > row["high"]
