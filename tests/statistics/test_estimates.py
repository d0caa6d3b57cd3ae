"""Estimates against hand calculation, scipy and simulation."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweep.statistics import estimates

CHIPS = [0.90, 0.95, 0.97, 0.80, 0.985, 0.93, 0.96, 0.91]

fractions = st.integers(0, 10_000).map(lambda correct: correct / 10_000)
samples = st.lists(fractions, min_size=1, max_size=60)


def test_mean_and_its_interval_by_hand() -> None:
    n, centre = 8, 7.405 / 8
    variance = sum((chip - centre) ** 2 for chip in CHIPS) / (n - 1)
    logit = math.log(centre / (1 - centre))
    # 2.364624 is the 97.5 % point of Student's t with 7 degrees of freedom, from a printed table.
    reach = 2.364624 * math.sqrt(variance / n) / (centre * (1 - centre))
    value, low, high = estimates.mean(CHIPS)
    assert value == pytest.approx(centre, rel=1e-14)
    assert low == pytest.approx(1 / (1 + math.exp(reach - logit)), rel=1e-6)
    assert high == pytest.approx(1 / (1 + math.exp(-reach - logit)), rel=1e-6)


def test_interval_of_the_mean_is_students_t_where_chips_are_many() -> None:
    chips = np.random.default_rng(1).beta(18, 4.3, 20_000)
    low, high = stats.t.interval(0.95, chips.size - 1, chips.mean(), stats.sem(chips))
    estimate = estimates.mean(chips)
    width = high - low
    assert estimate.low == pytest.approx(low, abs=0.02 * width)
    assert estimate.high == pytest.approx(high, abs=0.02 * width)


def test_standard_deviation_and_its_interval_by_hand() -> None:
    n = 8
    centre = sum(CHIPS) / n
    squares = sum((chip - centre) ** 2 for chip in CHIPS)
    trimmed = sum(sorted(CHIPS)[2:-2]) / 4  # a share of 1 / (2 √4) = 1/4 from each end
    kurtosis = n * sum((chip - trimmed) ** 4 for chip in CHIPS) / squares**2
    skewness = stats.skew(CHIPS, bias=False)
    assert abs(skewness) > 1.5 * math.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))
    kurtosis = max(kurtosis, 2.8 + 1.3 * skewness**2)
    small_sample = n / (n - 1.959964)
    error = small_sample * math.sqrt((kurtosis - (n - 3) / n) / (n - 1))
    centre_log = math.log(small_sample * squares / (n - 1))
    value, low, high = estimates.standard_deviation(CHIPS)
    assert value == pytest.approx(math.sqrt(squares / (n - 1)), rel=1e-12)
    assert low == pytest.approx(math.exp((centre_log - 2.364624 * error) / 2), rel=1e-6)
    assert high == pytest.approx(math.exp((centre_log + 2.364624 * error) / 2), rel=1e-6)


def test_interval_of_the_standard_deviation_is_chi_square_below_five_chips() -> None:
    value, low, high = estimates.standard_deviation(CHIPS[:4])
    assert value == pytest.approx(np.std(CHIPS[:4], ddof=1))
    # 9.348404 and 0.215795: the 97.5 % and 2.5 % points of chi-square with 3 degrees of freedom.
    assert low == pytest.approx(value * math.sqrt(3 / 9.348404), rel=1e-6)
    assert high == pytest.approx(value * math.sqrt(3 / 0.215795), rel=1e-5)


def test_kurtosis_of_a_sample_without_skewness_is_bonetts_alone() -> None:
    chips = np.array([0.1, 0.2, 0.3, 0.35, 0.45, 0.5, 0.6, 0.7])  # symmetric
    n, trimmed = chips.size, np.sort(chips)[2:-2].mean()
    squares = np.sum((chips - chips.mean()) ** 2)
    kurtosis = n * np.sum((chips - trimmed) ** 4) / squares**2
    small_sample = n / (n - 1.959964)
    reach = 2.364624 * small_sample * math.sqrt((kurtosis - (n - 3) / n) / (n - 1))
    estimate = estimates.standard_deviation(chips)
    assert estimate.low == pytest.approx(math.sqrt(small_sample * squares / (n - 1) * math.exp(-reach)), rel=1e-6)


@pytest.mark.parametrize("chips", [[0.1, 0.6], [0.1, 0.9, 0.1, 0.9, 0.5]])
def test_no_upper_limit_passes_what_a_law_on_fractions_can_have(chips: list[float]) -> None:
    assert np.std(chips, ddof=1) < 0.5
    assert estimates.standard_deviation(chips).high == 0.5


def test_an_estimate_above_what_a_law_can_have_is_its_own_upper_limit() -> None:
    value, _, high = estimates.standard_deviation([0, 1])
    assert value == high == pytest.approx(math.sqrt(0.5))


def test_interval_of_the_standard_deviation_tends_to_the_normal_theory_for_normal_chips() -> None:
    chips = np.random.default_rng(2).normal(0.5, 0.05, 50_000)
    value, low, high = estimates.standard_deviation(chips)
    points = stats.chi2.ppf([0.975, 0.025], chips.size - 1)
    assert (low, high) == pytest.approx(tuple(value * np.sqrt((chips.size - 1) / points)), rel=3e-4)


@pytest.mark.parametrize("chips", [5, 6, 7, 30])
def test_standard_deviation_sees_one_image_in_many(chips: int) -> None:
    accuracies = np.full(chips, 0.5)
    accuracies[0] += 1e-7
    value, low, high = estimates.standard_deviation(accuracies)
    assert 0 < low <= value <= high < np.inf


@given(samples)
def test_intervals_hold_their_estimate_and_stay_fractions(sample: list[float]) -> None:
    mean = estimates.mean(sample)
    std = estimates.standard_deviation(sample)
    assert mean.value == pytest.approx(np.mean(sample), abs=1e-15)
    if len(sample) == 1:
        assert all(map(math.isnan, (mean.low, mean.high, *std)))
        return
    assert std.value == pytest.approx(np.std(sample, ddof=1), abs=1e-15)
    assert 0 <= mean.low <= mean.value <= mean.high <= 1
    assert 0 <= std.low <= std.value <= std.high <= max(0.5, std.value)
    if len(set(sample)) == 1:
        assert mean == (sample[0],) * 3
        assert std == (0, 0, 0)


@given(st.lists(fractions, min_size=2, max_size=60), st.randoms(use_true_random=False))
def test_order_of_chips_does_not_matter(sample: list[float], random: "np.random.Generator") -> None:
    shuffled = list(sample)
    random.shuffle(shuffled)
    for estimate in (estimates.mean, estimates.standard_deviation):
        assert estimate(shuffled) == pytest.approx(estimate(sample), rel=1e-6, abs=1e-12)


@given(st.lists(fractions, min_size=5, max_size=60))
def test_errors_and_accuracies_have_mirrored_intervals(sample: list[float]) -> None:
    mirrored = [1 - accuracy for accuracy in sample]
    accuracy, error = estimates.mean(sample), estimates.mean(mirrored)
    assert (error.low, error.high) == pytest.approx((1 - accuracy.high, 1 - accuracy.low), abs=1e-9)
    assert estimates.standard_deviation(mirrored) == pytest.approx(
        estimates.standard_deviation(sample), rel=1e-6, abs=1e-9
    )


def test_quantiles_interpolate_between_chips() -> None:
    assert estimates.quantiles([0.4, 0.1, 0.3, 0.2], [0, 0.5, 0.95, 1]) == pytest.approx([0.1, 0.25, 0.385, 0.4])


@given(samples)
def test_quantiles_of_the_ends_are_the_extremes(sample: list[float]) -> None:
    low, middle, high = estimates.quantiles(sample, [0, 0.5, 1])
    assert (low, high) == (min(sample), max(sample))
    assert middle == pytest.approx(np.median(sample))


@pytest.mark.parametrize(
    ("chips", "probability", "ranks"),
    # Conover, Practical Nonparametric Statistics, section 3.2: 97.5 % limits from the binomial law.
    [(20, 0.5, (6, 15)), (100, 0.5, (40, 61)), (100, 0.05, (1, 11)), (100, 0.95, (90, 100)), (1000, 0.05, (37, 65))],
)
def test_limits_of_a_quantile_lie_just_inside_those_of_whole_ranks(
    chips: int, probability: float, ranks: tuple[int, int]
) -> None:
    ordered = np.arange(1, chips + 1) / chips
    low, high = ranks
    assert stats.binom.cdf(low - 1, chips, probability) <= 0.025 < stats.binom.cdf(low, chips, probability)
    assert stats.binom.sf(high - 1, chips, probability) <= 0.025 < stats.binom.sf(high - 2, chips, probability)
    value, lower, upper = estimates.quantile(ordered[::-1], probability)
    assert value == pytest.approx(np.quantile(ordered, probability))
    assert ordered[low - 1] - 1e-12 <= lower <= ordered[low]
    assert ordered[high - 2] <= upper <= ordered[high - 1] + 1e-12


def test_limits_of_the_median_are_those_of_hettmansperger_and_sheather() -> None:
    """Their weight of the inner rank, (n - r) I / (r + (n - 2r) I) with I = (γ_r - γ) / (γ_r - γ_(r+1))."""
    n, rank = 20, 6
    outer, inner = (1 - 2 * stats.binom.cdf(r - 1, n, 0.5) for r in (rank, rank + 1))
    share = (outer - 0.95) / (outer - inner)
    weight = (n - rank) * share / (rank + (n - 2 * rank) * share)
    chips = np.linspace(0.1, 0.9, n) ** 2
    expected = (1 - weight) * chips[rank - 1] + weight * chips[rank]
    assert estimates.quantile(chips, 0.5).low == pytest.approx(expected)


@pytest.mark.parametrize(("probability", "chips"), [(0.05, 72), (0.95, 72), (0.5, 6), (0.1, 36)])
def test_a_quantile_has_both_limits_from_so_many_chips_on(probability: float, chips: int) -> None:
    for n, missing in ((chips - 1, True), (chips, False)):
        _, low, high = estimates.quantile(np.linspace(0.2, 0.8, n), probability)
        assert (math.isnan(low) or math.isnan(high)) == missing
        if probability < 0.5:
            assert not math.isnan(high)


@given(samples, st.sampled_from([0.05, 0.25, 0.5, 0.95]))
def test_limits_of_a_quantile_are_chips_accuracies_or_between_and_mirror(
    sample: list[float], probability: float
) -> None:
    value, low, high = estimates.quantile(sample, probability)
    _, mirrored_low, mirrored_high = estimates.quantile([1 - chip for chip in sample], 1 - probability)
    assert (mirrored_low, mirrored_high) == pytest.approx((1 - high, 1 - low), nan_ok=True)
    assert math.isnan(low) or min(sample) <= low
    assert math.isnan(high) or high <= max(sample)
    assert not low > high
    assert min(sample) <= value <= max(sample)


def test_probabilities_of_quantiles_lie_between_0_and_1() -> None:
    with pytest.raises(ValueError, match="between 0 and 1; got 95"):
        estimates.quantile(CHIPS, 95)


@pytest.mark.parametrize("good", [0, 1, 10, 19, 20])
def test_a_share_has_wilsons_interval(good: int) -> None:
    expected = stats.binomtest(good, 20).proportion_ci(method="wilson")
    share, low, high = estimates.wilson(good, 20)
    assert share == good / 20
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_what_the_images_leave_by_hand() -> None:
    mean = np.mean(CHIPS)
    apart = np.mean([[abs(a - b) for a in CHIPS] for b in CHIPS])
    assert estimates.image_variance(CHIPS, 1001) == pytest.approx((mean * (1 - mean) - apart / 2) / 1000)


def test_the_interval_on_new_images_by_hand() -> None:
    centre, low, high = estimates.on_new_images(CHIPS, 200)
    assert centre == estimates.mean(CHIPS).value
    chips = np.var(CHIPS, ddof=1) / 8
    total = chips + estimates.image_variance(CHIPS, 200)
    freedom = 7 * (total / chips) ** 2
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(total) / (centre * (1 - centre))
    logits = [math.log(limit / (1 - limit)) for limit in (low, high)]
    assert logits == pytest.approx(math.log(centre / (1 - centre)) + np.array([-reach, reach]))


@given(st.integers(0, 2**31), st.integers(2, 9), st.integers(2, 40))
def test_counts_bound_what_the_images_themselves_say(seed: int, chips: int, images: int) -> None:
    """The variance over images of the share of chips that are right, over m - 1, from a table of chips and images."""
    rng = np.random.default_rng(seed)
    right = rng.random((chips, 1)) + rng.random() * rng.standard_normal((chips, images)) > rng.random(images)
    known = right.mean(axis=0).var() / (images - 1)
    assert estimates.image_variance(right.mean(axis=1), images) >= known - 1e-12


def test_the_bound_is_reached_where_images_are_ordered_by_difficulty() -> None:
    ability, difficulty = np.array([[0.5], [0.7], [0.9]]), np.linspace(0, 1, 50)
    right = ability > difficulty
    assert estimates.image_variance(right.mean(axis=1), 50) == pytest.approx(right.mean(axis=0).var() / 49)


def test_a_cell_without_randomness_has_the_binomial_interval_of_its_images() -> None:
    expected = stats.binomtest(9845, 10_000).proportion_ci(method="wilson")
    found = estimates.on_new_images([0.9845], 10_000, exact=True)
    assert found == pytest.approx((0.9845, expected.low, expected.high))
    assert estimates.image_variance([0.9845], 10_000) == pytest.approx(0.9845 * 0.0155 / 9999)


def test_more_chips_do_not_make_up_for_few_images() -> None:
    few, many = np.resize(CHIPS, 16), np.resize(CHIPS, 16_000)
    assert np.ptp(estimates.mean(many)[1:]) < 0.05 * np.ptp(estimates.mean(few)[1:])
    assert np.ptp(estimates.on_new_images(many, 500)[1:]) > 3.5 * estimates.image_variance(many, 500) ** 0.5
    assert estimates.image_variance(many, 500) == pytest.approx(estimates.image_variance(few, 500))


@given(st.lists(st.integers(0, 1000).map(lambda k: k / 1000), min_size=1, max_size=30))
def test_an_interval_on_new_images_holds_that_on_this_set(sample: list[float]) -> None:
    value, low, high = estimates.on_new_images(sample, 1000)
    here = estimates.mean(sample)
    if len(sample) == 1:
        assert np.isnan([low, high]).all()
    else:
        assert low <= here.low <= value == here.value <= here.high <= high


@pytest.mark.parametrize(
    ("arguments", "message"), [((CHIPS, 1), "two or more; got 1"), ((CHIPS, 100, True), "one accuracy only")]
)
def test_what_is_no_cell_of_a_test_set_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimates.on_new_images(*arguments)


def test_an_interval_on_the_logit_scale_is_symmetric_in_the_odds() -> None:
    low, high = estimates.logit_interval(0.8, math.log(2))
    assert (low / (1 - low), high / (1 - high)) == pytest.approx((2, 8))


@pytest.mark.parametrize(
    ("accuracies", "message"),
    [
        ([], "empty"),
        ([[0.5, 0.6]], r"shape \(1, 2\)"),
        (0.5, r"shape \(\)"),
        ([0.5, 98.5], "fractions in .* got 98.5"),
        ([0.5, -0.1], "got -0.1"),
        ([0.5, math.nan], "got nan"),
    ],
)
def test_what_is_no_sample_of_accuracies_is_refused(accuracies: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimates.mean(accuracies)
    with pytest.raises(ValueError, match=message):
        estimates.standard_deviation(accuracies)
    with pytest.raises(ValueError, match=message):
        estimates.quantiles(accuracies, [0.5])
    with pytest.raises(ValueError, match=message):
        estimates.quantile(accuracies, 0.5)
    with pytest.raises(ValueError, match=message):
        estimates.on_new_images(accuracies, 100)
