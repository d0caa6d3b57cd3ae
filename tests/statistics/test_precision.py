"""The mean to a precision and the spread behind samples: against scipy, by hand, and against known truths."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweep.statistics.estimates import Floats
from sweep.statistics.precision import PILOT, chips_for, not_negative, precise_mean, spread
from tests.statistics.few_images import HALF, Decisions, held, sampled

FALSE_ALARM = 1e-5
"""Of one check, were the method right; seeds are fixed, so that a check which passes passes always."""

ESTIMATES = [0.81, 1.02, 0.78, 0.85, 0.69, 0.87]
APART = [0.02, -0.05, 0.10, 0.00, -0.12, 0.04]


def test_the_interval_of_the_mean_is_students_t() -> None:
    found = precise_mean(ESTIMATES)
    low, high = stats.t.interval(0.95, 5, np.mean(ESTIMATES), stats.sem(ESTIMATES))
    assert found == pytest.approx((np.mean(ESTIMATES), low, high), rel=1e-12)


@pytest.mark.parametrize(
    ("estimates", "value", "low", "high"),
    [
        ([0.7], 0.7, np.nan, np.nan),
        ([0.7, 0.7, 0.7], 0.7, 0.7, 0.7),
        ([0.99, 1.01, 0.98], 2.98 / 3, None, 1.0),
        ([0.02, -0.01, 0.0], 0.01 / 3, 0.0, None),
    ],
)
def test_the_mean_of_few(estimates: list[float], value: float, low: float | None, high: float | None) -> None:
    found = precise_mean(estimates)
    assert found.value == pytest.approx(value)
    for limit, expected in ((found.low, low), (found.high, high)):
        assert 0 < limit < 1 if expected is None else limit == pytest.approx(expected, nan_ok=True)


def test_spread_by_hand() -> None:
    rng, n = np.random.default_rng(3), 40
    estimates, apart = rng.normal(0.6, 0.1, n).tolist(), rng.normal(0, 0.05, n).tolist()
    mean = sum(estimates) / n
    squares = [(e - mean) ** 2 * n / (n - 1) for e in estimates]
    terms = [s - g**2 / 4 for s, g in zip(squares, apart, strict=True)]
    variance, total = sum(terms) / n, sum(squares) / n
    away = [x - variance for x in terms]
    error = math.sqrt(sum(x**2 for x in away) / (n - 1) / n)
    kurtosis = n * sum(x**4 for x in away) / sum(x**2 for x in away) ** 2
    t = stats.t.ppf(0.975, 1.5 * n / (kurtosis - 1))
    assert 2 < 1.5 * n / (kurtosis - 1) < n - 1
    shift = 0.4 * total
    low, high = ((variance + shift) * math.exp(s * t * error / (variance + shift)) - shift for s in (-1, 1))
    assert spread(estimates, apart) == pytest.approx([math.sqrt(v) for v in (variance, low, high)], rel=1e-6)


def test_halves_that_differ_as_much_as_chips_tell_of_no_spread() -> None:
    value, low, high = spread([0.90, 0.92, 0.94, 0.92], [0.1, -0.1, 0.1, -0.1])
    assert (value, low) == (0, 0)
    assert 0 < high < 0.1
    assert spread([0.9, 0.9, 0.9], [0, 0, 0]) == (0, 0, 0)
    assert all(map(math.isnan, spread([0.9, 0.8], [0, 0])))


def test_limits_of_what_is_not_negative_hold_at_every_truth_alike() -> None:
    at = np.arange(-6, 14, 2e-3)
    low, high = np.array([not_negative(x) for x in at.tolist()]).T
    assert np.all(np.diff(low) >= -1e-8)
    assert np.all(np.diff(high) >= -1e-8)
    for truth in (0.02, 0.3, 1.0, 1.9, 2.5, 4.0, 7.0):
        inside = (low <= truth) & (truth <= high)
        assert np.sum(stats.norm.pdf(at[inside] - truth)) * 2e-3 == pytest.approx(0.95, abs=1e-3)
        ratios = stats.norm.logpdf(at - truth) - stats.norm.logpdf(at - np.maximum(at, 0))
        assert ratios[inside].min() > ratios[~inside & (np.abs(at - truth) < 5)].max() - 0.01
    assert not_negative(8.0) == pytest.approx((8 - 1.959964, 8 + 1.959964), abs=1e-6)
    assert not_negative(1.64)[0] == 0 < not_negative(1.65)[0]


@given(st.lists(st.tuples(st.floats(-1, 2), st.floats(-3, 3)), min_size=3, max_size=30))
def test_the_spread_lies_in_its_interval(pairs: list[tuple[float, float]]) -> None:
    value, low, high = spread(*zip(*pairs, strict=True))
    assert 0 <= low <= value + 1e-12
    assert value <= high + 1e-12
    assert high <= 0.5


@pytest.mark.parametrize("values", [[], [[0.5, 0.6]], [0.5, np.nan], [0.5, np.inf]])
def test_what_are_no_estimates(values: list[float]) -> None:
    for estimator in (precise_mean, lambda v: spread(v, v)):
        with pytest.raises(ValueError, match="expected finite values of one axis"):
            estimator(values)
    with pytest.raises(ValueError, match="apart: expected shape"):
        spread([0.5, 0.6, 0.7], [0.1, 0.1])


def test_the_number_of_chips_by_hand() -> None:
    rng = np.random.default_rng(0)
    values = 0.8 + 0.1 * stats.zscore(rng.normal(size=4000))
    pilot, half = np.std(values[:256], ddof=1), 0.005
    assert chips_for([], half) == chips_for(values[:255], half) == PILOT == 256
    wanted = (stats.t.ppf(0.975, 255) * pilot / half) ** 2
    second = math.ceil(0.5 * 1.02 * wanted)
    assert 256 < second < 1000
    for there in (256, 300, second - 1):
        assert chips_for(values[:there], half) == second
    last = math.ceil(1.02 * (stats.t.ppf(0.975, second - 1) * np.std(values[:second], ddof=1) / half) ** 2)
    for there in (second, 1000, last - 1):
        assert chips_for(values[:there], half) == last
    found = chips_for(values, half)
    mean = precise_mean(values[:found])
    assert (mean.high - mean.low) / 2 <= half


@pytest.mark.parametrize(
    ("least", "most", "expected"), [(256, None, 256), (40, None, 40), (1, None, 2), (256, 100, 100), (40, 40, 40)]
)
def test_bounds_of_the_number_of_chips(least: int, most: int | None, expected: int) -> None:
    assert chips_for([], 0.01, least, most) == expected
    assert chips_for(np.full(1000, 0.5), 0.01, least, most) == expected
    wild = np.random.default_rng(0).random(1000)
    assert chips_for(wild, 1e-4, least, most) == most or chips_for(wild, 1e-4, least, most) > 1000


@given(st.data())
def test_going_on_comes_to_the_same_number_as_asking_at_once(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([2.0, 0.1]))  # the second leans far: its variance is known late
    values = 0.9 - np.random.default_rng(data.draw(st.integers(0, 2**32))).gamma(shape, 0.02, 60_000)
    least, most = data.draw(st.integers(20, 300)), data.draw(st.none() | st.integers(20, 6000))
    half = data.draw(st.floats(0.0008, 0.02))
    there = data.draw(st.integers(0, 3000))  # whatever was drawn before, for another half-width
    at_once, later = _drawn(values, 0, half, least, most), _drawn(values, there, half, least, most)
    assert later == at_once
    assert at_once <= (most or math.inf)
    if at_once < (most or math.inf):
        mean = precise_mean(values[:at_once])
        assert (mean.high - mean.low) / 2 <= half * (1 + 1e-9)


def _drawn(values: Floats, there: int, half_width: float, least: int, most: int | None) -> int:
    """How many chips count in the end, for one who has some and draws what is asked for."""
    while (wanted := chips_for(values[:there], half_width, least, most)) > there:
        assert wanted <= len(values)
        there = wanted
    return wanted


IMAGES, CHIPS = 2000, 2000


@cache
def population(noise: float) -> Decisions:
    """Chips that differ in ability, all in all and by class, much as those of measured cells do."""
    rng = np.random.default_rng([1, round(100 * noise)])
    classes, margins = rng.integers(10, size=IMAGES), rng.gamma(2, 2, IMAGES) - 0.3
    ability = rng.gamma(6, 1 / 3, (CHIPS, 1)) + 0.7 * rng.normal(size=(CHIPS, 10))[:, classes]
    return Decisions(margins > noise * (ability + rng.normal(0, 1, (CHIPS, IMAGES))), margins, classes)


@cache
def studies(noise: float) -> tuple[Floats, Floats]:
    """Estimates and what their halves are apart, (400, 256) each."""
    return sampled(population(noise), 400, 256, designs=10)


@pytest.mark.parametrize("noise", [0.1, 0.5, 1.5])
def test_estimates_of_few_images_tell_mean_and_variance_without_bias(noise: float) -> None:
    accuracies = population(noise).accuracies
    estimates, apart = studies(noise)
    z = stats.norm.ppf(1 - FALSE_ALARM / 2)
    assert abs(estimates.mean() - accuracies.mean()) < z * estimates.std() / math.sqrt(estimates.size)
    terms = (estimates - accuracies.mean()) ** 2 - apart**2 / 4
    assert abs(terms.mean() - accuracies.var()) < z * terms.std() / math.sqrt(terms.size)
    in_full = accuracies.var() * IMAGES  # variance times images seen, of a chip
    assert estimates.var() * 2 * HALF < in_full / 10


@pytest.mark.parametrize("noise", [0.1, 0.5, 1.5])
def test_intervals_hold_what_they_should(noise: float) -> None:
    accuracies = population(noise).accuracies
    estimates, apart = studies(noise)
    half = 1.96 * float(estimates.std()) / math.sqrt(150)
    stopped = [study[: chips_for(study, half, least=64)] for study in estimates]
    for found, truth, lowest, highest in (
        ([precise_mean(study) for study in estimates], accuracies.mean(), 94, 96),
        ([precise_mean(study) for study in stopped], accuracies.mean(), 94, 96),
        ([spread(*study) for study in zip(estimates, apart, strict=True)], accuracies.std(), 93, 97),
    ):
        fewest = stats.binom.ppf(FALSE_ALARM, 400, lowest / 100) / 4
        most = stats.binom.ppf(1 - FALSE_ALARM, 400, highest / 100) / 4
        assert fewest <= held(found, truth) <= most
