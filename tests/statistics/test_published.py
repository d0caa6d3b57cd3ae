"""Percentiles of published values, and the fit of published tables."""

import numpy as np
import pytest
from scipy import stats

from sweep.statistics.published import fit, percentile

RNG = np.random.default_rng(0)
CHIP = RNG.standard_normal((200, 1))
CHIPS = 0.8 + 0.05 * (0.95 * CHIP + np.sqrt(1 - 0.95**2) * RNG.standard_normal((200, 3))) - [0, 0.1, 0.2]
CENTRE = CHIPS.mean(axis=0)


def test_percentile_counts_ties_half() -> None:
    expected = stats.binomtest(2, 8).proportion_ci(method="wilson")
    found = percentile([0.1, 0.2, 0.2 + 1e-17, 0.9, 0.9, 0.9, 0.9, 0.9], 0.2)
    assert found.value == 0.25
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert percentile([0.5], 0.4).value == 0
    assert percentile([0.5], 0.4).high > 0.5
    with pytest.raises(ValueError, match="fractions"):
        percentile([98.0], 0.4)


def test_a_table_in_the_middle_fits() -> None:
    found = fit(CHIPS, CENTRE)
    assert found.independent > 0.5
    assert found.common > 0.5
    assert (found.levels, found.chips) == (3, 200)


def test_a_table_that_is_low_everywhere_may_be_one_chip_and_hardly_three() -> None:
    found = fit(CHIPS, CENTRE - 0.09)
    assert found.common > 0.02
    assert found.independent < 0.02


def test_a_table_that_jumps_may_be_three_chips_and_not_one() -> None:
    found = fit(CHIPS, CENTRE + np.array([0.05, -0.05, 0.05]))
    assert found.independent > 0.1
    assert found.common < 0.01


def test_independent_is_chi_square_where_chips_are_many() -> None:
    chips = np.random.default_rng(1).standard_normal((20_000, 4)) * 0.01 + 0.5
    theirs = 0.5 + 0.01 * np.array([1.0, -2.0, 0.5, 1.5])
    assert fit(chips, theirs).independent == pytest.approx(stats.chi2.sf(7.5, 4), abs=0.01)


def test_p_values_of_a_published_chip_are_those_of_any_chip() -> None:
    """Exchangeable: leaving each chip out in turn, the p-values of `common` are evenly spread, whatever the law."""
    chips = np.round(np.exp(CHIPS[:60]) / 3, 3)
    p = [fit(np.delete(chips, i, axis=0), chips[i]).common for i in range(60)]
    assert sorted(p) == pytest.approx(np.arange(1, 61) / 60, abs=0.02)


def test_chips_of_equal_accuracy_fit_a_published_equal() -> None:
    assert fit(np.full((20, 2), 0.5), [0.5, 0.5])[:2] == (1, 1)


@pytest.mark.parametrize(
    ("chips", "published", "message"),
    [
        (CHIPS, [0.5], "expected accuracies"),
        (CHIPS[:, 0], [0.5], "expected"),
        (CHIPS[:1], CENTRE, "two chips or more; got 1"),
    ],
)
def test_shapes_that_do_not_agree_are_refused(chips: np.ndarray, published: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(chips, published)
