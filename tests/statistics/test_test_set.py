"""Chips and images, by hand, from images one by one, and by simulation (test_coverage)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweep.statistics import estimates
from sweep.statistics.test_set import spread

CHIPS = [0.90, 0.95, 0.97, 0.80, 0.985, 0.93, 0.96, 0.91]


def test_on_this_test_set_it_is_what_statistics_say() -> None:
    found = spread(CHIPS, 1000)
    assert (found.mean, found.mean_low, found.mean_high) == estimates.mean(CHIPS)
    assert (found.std, found.std_low, found.std_high) == estimates.standard_deviation(CHIPS)


def test_the_images_share_by_hand() -> None:
    mean = np.mean(CHIPS)
    apart = np.mean([[abs(a - b) for a in CHIPS] for b in CHIPS])
    assert spread(CHIPS, 1001).std_images == pytest.approx(np.sqrt((mean * (1 - mean) - apart / 2) / 1000))


def test_the_interval_on_new_images_by_hand() -> None:
    found = spread(CHIPS, 200)
    chips = np.var(CHIPS, ddof=1) / 8
    total = chips + found.std_images**2
    freedom = 7 * (total / chips) ** 2
    centre = np.mean(CHIPS)
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(total) / (centre * (1 - centre))
    logits = np.log(np.array([found.new_low, found.new_high]) / (1 - np.array([found.new_low, found.new_high])))
    assert logits == pytest.approx(np.log(centre / (1 - centre)) + np.array([-reach, reach]))


@given(st.integers(0, 2**31), st.integers(2, 9), st.integers(2, 40))
def test_counts_bound_what_the_images_themselves_say(seed: int, chips: int, images: int) -> None:
    """The variance over images of the share of chips that are right, over m - 1, from a table of chips and images."""
    rng = np.random.default_rng(seed)
    right = rng.random((chips, 1)) + rng.random() * rng.standard_normal((chips, images)) > rng.random(images)
    known = right.mean(axis=0).var() / (images - 1)
    assert spread(right.mean(axis=1), images).std_images ** 2 >= known - 1e-12


def test_the_bound_is_reached_where_images_are_ordered_by_difficulty() -> None:
    ability, difficulty = np.array([[0.5], [0.7], [0.9]]), np.linspace(0, 1, 50)
    right = ability > difficulty
    known = right.mean(axis=0).var() / 49
    assert spread(right.mean(axis=1), 50).std_images ** 2 == pytest.approx(known)


def test_what_an_image_does_to_the_spread_of_chips_is_that_of_ordered_images() -> None:
    ability, difficulty = np.array([[0.5], [0.7], [0.72], [0.9], [0.95]]), np.linspace(0, 1, 400)
    right = (ability > difficulty).astype(float)
    accuracies = right.mean(axis=1)
    covariances = np.mean((accuracies - accuracies.mean())[:, None] * right, axis=0)
    value, _, std_high = estimates.standard_deviation(accuracies)
    reach = 1.959964 * np.sqrt(covariances.var() / 399) / accuracies.var()
    expected = value * np.exp(np.hypot(np.log(std_high / value), reach))
    assert spread(accuracies, 400).std_new_high == pytest.approx(min(expected, 0.5), rel=1e-6)


def test_a_cell_without_randomness_has_the_binomial_interval_of_its_images() -> None:
    expected = stats.binomtest(9845, 10_000).proportion_ci(method="wilson")
    found = spread([0.9845], 10_000, exact=True)
    assert (found.new_low, found.new_high) == pytest.approx((expected.low, expected.high))
    assert (found.mean_low, found.mean_high) == (0.9845, 0.9845)
    assert found.std == found.std_new_high == 0
    assert found.std_images == pytest.approx(np.sqrt(0.9845 * 0.0155 / 9999))


def test_more_chips_do_not_make_up_for_few_images() -> None:
    few, many = (spread(np.resize(CHIPS, n), 500) for n in (16, 16_000))
    assert many.mean_high - many.mean_low < 0.05 * (few.mean_high - few.mean_low)
    assert many.new_high - many.new_low > 3.5 * many.std_images
    assert many.std_images == pytest.approx(few.std_images)


@given(st.lists(st.integers(0, 1000).map(lambda k: k / 1000), min_size=1, max_size=30))
def test_intervals_on_new_images_hold_those_on_this_set(sample: list[float]) -> None:
    found = spread(sample, 1000)
    if len(sample) == 1:
        assert np.isnan([found.new_low, found.new_high, found.std_new_low, found.std_new_high]).all()
        return
    assert 0 <= found.std_new_low <= found.std_low + 1e-12
    assert found.std_new_high >= found.std_high - 1e-12
    if len(sample) > 4 or len(set(sample)) == 1:
        assert found.new_low <= found.mean <= found.new_high


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((CHIPS, 1), "two or more; got 1"),
        ((CHIPS, 100, True), "one accuracy only"),
        (([], 100), "empty"),
        (([98.5], 100), "fractions"),
    ],
)
def test_what_is_no_cell_is_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spread(*arguments)  # type: ignore[arg-type]
