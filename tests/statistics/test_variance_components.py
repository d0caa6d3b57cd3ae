"""Components of variance against hand calculation and simulation with known components."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sweep.statistics import estimates
from sweep.statistics.variance_components import Components, decompose


def simulated(
    rng: np.random.Generator, a: int, n: int, trainings: float, chips: float, interaction: float
) -> NDArray[np.float64]:
    """Accuracies (networks, chips) about 0.8, with these standard deviations."""
    return np.asarray(
        0.8 + rng.normal(0, trainings, (a, 1)) + rng.normal(0, chips, (1, n)) + rng.normal(0, interaction, (a, n))
    )


def test_a_small_table_by_hand() -> None:
    # Rows 0.80 and 0.90 on average, columns 0.80, 0.85, 0.90; the rest is ±0.02, 0, ∓0.02.
    found = decompose([[0.77, 0.80, 0.83], [0.83, 0.90, 0.97]])
    ms_t, ms_c, ms_r = 3 * 0.005, 2 * 0.0025, 4 * 0.02**2 / 2
    assert found.mean == pytest.approx(0.85)
    assert found.std_trainings == pytest.approx(np.sqrt((ms_t - ms_r) / 3))
    assert found.std_chips == pytest.approx(np.sqrt((ms_c - ms_r) / 2))
    assert found.std_interaction == pytest.approx(np.sqrt(ms_r))
    assert found.truncated == ()
    total = ms_t + ms_c - ms_r
    freedom = total**2 / (ms_t**2 / 1 + ms_c**2 / 2 + ms_r**2 / 2)
    reach = np.log(found.mean_high / (1 - found.mean_high)) - np.log(0.85 / 0.15)
    error = np.sqrt(total / 6) / (0.85 * 0.15)
    # Student's t has its 97.5 % point at 12.706 for 1 degree of freedom and at 4.303 for 2.
    assert 1 < freedom < 2
    assert 4.303 < reach / error < 12.706
    assert np.log(found.mean_low / (1 - found.mean_low)) == pytest.approx(np.log(0.85 / 0.15) - reach)


def test_networks_that_differ_alike_on_every_chip_have_no_interaction() -> None:
    found = decompose(np.array([[0.7], [0.8], [0.9]]) + np.array([[-0.05, 0.0, 0.05]]))
    assert found.std_trainings == pytest.approx(0.1)
    assert found.std_chips == pytest.approx(0.05)
    assert found.std_interaction == pytest.approx(0, abs=1e-12)
    # Without interaction the interval is the normal theory's of a standard deviation, n = 3.
    assert found.std_trainings_low == pytest.approx(0.1 / np.sqrt(7.3778 / 2), rel=1e-4)
    assert found.std_trainings_high == pytest.approx(0.5), "0.63, which no law on [0, 1] has"


def test_a_negative_variance_is_given_as_zero_and_said() -> None:
    found = decompose([[0.8, 0.9, 0.7], [0.9, 0.7, 0.8], [0.7, 0.8, 0.9]])
    assert (found.std_trainings, found.std_chips, found.std_trainings_low) == (0, 0, 0)
    assert found.std_interaction == pytest.approx(np.sqrt(0.06 / 4))
    assert found.truncated == ("trainings", "chips")
    assert found.mean_low < found.mean < found.mean_high


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (1, 1)])
def test_one_network_or_one_chip_gives_a_mean_alone(shape: tuple[int, int]) -> None:
    found = decompose(np.linspace(0.7, 0.9, 5)[: np.prod(shape)].reshape(shape))
    assert 0.7 <= found.mean <= 0.8
    assert np.isnan(found[1:-1]).all()


def test_equal_accuracies_have_no_spread() -> None:
    assert decompose(np.full((3, 4), 0.1)) == Components(*[pytest.approx(0.1)] * 3, 0, 0, 0, 0, 0, ())
    assert decompose(np.ones((2, 2))) == Components(1, 1, 1, 0, 0, 0, 0, 0, ())


@pytest.mark.parametrize("bad", [[0.5, 0.6], [[0.5, 1.1]], [[0.5, np.nan]]])
def test_what_is_not_a_table_of_fractions_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="accuracies: expected"):
        decompose(bad)  # type: ignore[arg-type]


def test_the_estimated_variances_are_right_on_average() -> None:
    # Four standard errors of a mean over 2,000 draws: false alarms 2 in 10,000. Chosen so that none is truncated often.
    rng = np.random.default_rng(11)
    known = (0.02, 0.03, 0.01)
    draws = [decompose(simulated(rng, 8, 12, *known)) for _ in range(2000)]
    assert sum(bool(draw.truncated) for draw in draws) < 10
    for name, std in zip(("std_trainings", "std_chips", "std_interaction"), known, strict=True):
        variances = np.array([getattr(draw, name) ** 2 for draw in draws])
        assert abs(variances.mean() - std**2) < 4 * variances.std() / np.sqrt(len(draws))


@pytest.mark.parametrize(
    ("a", "n", "known"),
    [
        (10, 30, (0.02, 0.03, 0.01)),
        (5, 50, (0.005, 0.04, 0.02)),
        (10, 30, (0.02, 0.005, 0.02)),
        (3, 10, (0.02, 0.02, 0.01)),
    ],
)
def test_intervals_hold_the_truth_about_as_often_as_they_say(a: int, n: int, known: tuple[float, float, float]) -> None:
    # 2,000 draws: standard error 0.5 points. Satterthwaite's interval is wide where networks are few.
    rng = np.random.default_rng(12)
    draws = [decompose(simulated(rng, a, n, *known)) for _ in range(2000)]
    held_mean = np.mean([draw.mean_low <= 0.8 <= draw.mean_high for draw in draws])
    held_std = np.mean([draw.std_trainings_low <= known[0] <= draw.std_trainings_high for draw in draws])
    assert 0.93 < held_mean < 0.985
    assert 0.93 < held_std < 0.975


def test_without_randomness_only_trainings_differ() -> None:
    found = decompose([[0.9], [0.91], [0.92]], exact=True)
    assert found[:3] == estimates.mean([0.9, 0.91, 0.92])
    assert found[3:6] == estimates.standard_deviation([0.9, 0.91, 0.92])
    assert found[6:] == (0, 0, ())
