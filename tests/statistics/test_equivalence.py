"""Equivalent noise and bits on curves whose inverse is known."""

import numpy as np
import pytest

from sweep.statistics.equivalence import check_claims, equivalent_bits, equivalent_levels, step_noise
from sweep.statistics.monotone import Curve

BITS = np.array([1.0, 2.0, 3.0, 8.0])
LEVELS = np.array([0.0, 0.05, 0.1, 0.15])


def exact(levels: np.ndarray, accuracies: list[float]) -> Curve:
    return Curve(levels, np.array([], dtype=np.int64), np.array(accuracies)[:, None], np.full(len(levels), True))


def noise(n: int = 50, spread: float = 0.02, seed: int = 0) -> Curve:
    """Accuracy 0.95 - 25 · level², and one deviation per chip that grows with the level."""
    chips = np.random.default_rng(seed).standard_normal(n)
    accuracies = 0.95 - 25 * LEVELS[:, None] ** 2 + spread * (LEVELS[:, None] / 0.15) ** 2 * (chips - chips.mean())
    return Curve(LEVELS, np.arange(n), accuracies, LEVELS == 0)


ROUNDING = exact(BITS, [0.2, 0.65, 0.85, 0.95])


def test_levels_are_the_inverse_of_the_noise_curve() -> None:
    table = equivalent_levels(noise(), ROUNDING)
    assert table["bits"].tolist() == [8, 3, 2, 1]
    assert table["accuracy"].tolist() == [0.95, 0.85, 0.65, 0.2]
    assert table["level"].tolist()[:3] == pytest.approx([0, (0.1 / 25) ** 0.5, (0.3 / 25) ** 0.5])
    assert np.isnan(table["level"][3])
    assert table["outside"].tolist() == ["", "", "", "above 0.15"]
    assert table.loc[3, "level_low"] == 0.15
    assert np.isnan(table.loc[3, "level_high"])
    assert table["theory"].tolist() == pytest.approx([0.0011276, 0.0360844, 0.0721688, 0.1443376], rel=1e-4)
    assert table["article"].tolist() == pytest.approx([0.0013021, 0.0416667, 0.0833333, 0.1666667], rel=1e-4)


def test_the_interval_is_as_wide_as_the_error_of_the_mean_over_the_slope() -> None:
    curve = noise(200)
    table = equivalent_levels(curve, ROUNDING).set_index("bits")
    level = (0.3 / 25) ** 0.5
    error = curve.accuracies[3].std(ddof=1) / np.sqrt(200) * (level / 0.15) ** 2 / (50 * level)
    low, high = table.loc[2, ["level_low", "level_high"]].astype(float)
    assert (low, high) == pytest.approx((level - 1.97 * error, level + 1.97 * error), rel=0.01)
    assert table.loc[8, ["level_low", "level_high"]].tolist() == [0, 0]


def test_levels_in_units_of_another_law() -> None:
    uniform = equivalent_levels(noise(), ROUNDING, std_per_level=12**-0.5)
    assert uniform["theory"].tolist() == pytest.approx((2.0 ** -uniform["bits"]).tolist())


def test_bits_are_the_inverse_of_the_rounding_curve() -> None:
    table = equivalent_bits(noise(), ROUNDING)
    assert table["level"].tolist() == LEVELS.tolist()
    assert table["bits"].tolist()[0] == 8
    assert 2 < table["bits"][2] < 3  # 0.7 lies between 0.65 and 0.85
    assert (table["bits_low"] <= table["bits"]).all()
    assert (table["bits"] <= table["bits_high"]).all()
    assert table["theory"].tolist()[0] == np.inf
    assert step_noise(table["theory"].to_numpy()[1:]) == pytest.approx(LEVELS[1:])


def test_both_directions_agree() -> None:
    dense = np.arange(1, 8.25, 0.25)
    curve = exact(dense, list(0.95 - 1.2 * 2.0**-dense))
    bits = float(equivalent_bits(noise(), curve).set_index("level").loc[0.1, "bits"])
    assert 0.95 - 1.2 * 2.0**-bits == pytest.approx(0.7, abs=2e-3)
    single = exact(np.array([bits, 8.0]), [0.95 - 1.2 * 2.0**-bits, 0.94])
    assert equivalent_levels(noise(), single)["level"][1] == pytest.approx(0.1, abs=1e-3)


def test_sides_of_bits() -> None:
    table = equivalent_bits(noise(), exact(np.array([2.0, 4.0]), [0.75, 0.9]))
    assert table["outside"].tolist() == ["above 4", "", "below 2", "below 2"]
    assert table["bits_high"][3] == 2
    assert table["bits_low"][0] == 4
    assert np.isnan(table["bits_low"][3])


def test_random_rounding_shares_chips_with_the_noise() -> None:
    """A deviation common to both cancels: the interval is narrower than with chips of its own."""
    curve = noise(100)
    deviation = curve.accuracies[2] - curve.accuracies[2].mean()
    accuracies = np.vstack([0.5 + deviation, 0.6 + deviation])
    shared = Curve(np.array([1.0, 2.0]), np.arange(100), accuracies, np.array([False, False]))
    other = Curve(shared.levels, np.arange(100, 200), accuracies, shared.exact)
    widths = [
        np.ptp(equivalent_levels(curve, c).loc[0, ["level_low", "level_high"]].astype(float)) for c in (shared, other)
    ]
    assert widths[0] < 0.5 * widths[1]


def test_claims() -> None:
    table = check_claims(noise(), ROUNDING, {3: 0.0632, 2: 0.1, 1: 0.15})
    assert table["bits"].tolist() == [3, 2, 1]
    assert table["claimed"].tolist() == [0.0632, 0.1, 0.15]
    assert table["holds"].tolist() == [True, False, False]
    assert table["difference"].tolist() == pytest.approx([0, -0.05, -0.1875], abs=1e-3)
    assert table["difference_low"][1] < table["difference"][1] < table["difference_high"][1]


def test_a_claim_beyond_the_sweep_is_neither_right_nor_wrong() -> None:
    table = check_claims(noise(), ROUNDING, {1: 0.3})
    assert table["holds"].isna().all()
    assert table["difference"].isna().all()


def test_a_claim_about_bits_that_were_not_run_is_refused() -> None:
    with pytest.raises(ValueError, match="5 bits were not run; there are 1, 2, 3, 8"):
        check_claims(noise(), ROUNDING, {5: 0.01})


def test_without_chips_there_is_no_interval_to_give() -> None:
    table = equivalent_levels(exact(LEVELS, [0.95, 0.8875, 0.7, 0.3875]), ROUNDING)
    assert table["level_low"][1] == table["level"][1] == table["level_high"][1] == pytest.approx((0.1 / 25) ** 0.5)


def test_same_seed_same_table() -> None:
    first, again, other = (equivalent_levels(noise(), ROUNDING, seed=seed) for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)
