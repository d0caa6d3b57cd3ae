"""Samples of images: exact probabilities by enumeration, designs against scipy, estimates against known truths."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize

from sweep.statistics.sampling import FLOOR, STRATA, Design, design, draw, edges, estimates_of, starts

UNIT = 1024  # of sizes
STARTS = 2**62

Ints = NDArray[np.int64]


def begins(total: int) -> Ints:
    """A start for each of the places where a systematic sample can begin, equally likely: (total, 2), halves equal."""
    first = np.array([-(-place * STARTS // total) for place in range(total)])
    return np.column_stack([first, first])


@st.composite
def designs(draws: st.DrawFn) -> tuple[Design, Ints | None]:
    """Designs of small test sets, and the classes that they know of."""
    images = draws(st.integers(1, 80))
    half = draws(st.integers(1, images))
    strata = len(edges(images)) - 1
    seen = draws(st.lists(st.integers(0, 40), min_size=strata, max_size=strata))
    right = [draws(st.integers(0, count)) for count in seen]
    margins = draws(st.lists(st.integers(-5, 5), min_size=images, max_size=images))
    labels = st.lists(st.integers(0, 3), min_size=images, max_size=images)
    classes = draws(st.none() | labels.map(np.array))
    return design(margins, right, seen, half, classes), classes


@given(designs())
def test_every_image_is_drawn_exactly_as_often_as_its_size_says(given_: tuple[Design, Ints | None]) -> None:
    plan, _ = given_
    total = int(plan.sizes.sum())
    sample = draw(plan, begins(total))
    assert sample.images.shape == (total, 2, plan.half)
    times = np.bincount(sample.images[:, 0].ravel(), minlength=len(plan.order))
    np.testing.assert_array_equal(times[plan.order], plan.half * plan.sizes)
    size = np.empty_like(plan.sizes)
    size[plan.order] = plan.sizes
    np.testing.assert_allclose(sample.weights * plan.half * size[sample.images] * len(plan.order), total, rtol=1e-12)


@given(designs())
def test_no_image_is_twice_in_a_half_sample(given_: tuple[Design, Ints | None]) -> None:
    plan, _ = given_
    for begin in (begins(int(plan.sizes.sum())), np.random.default_rng(0).integers(STARTS, size=(50, 2))):
        images = np.sort(draw(plan, begin).images, axis=-1)
        assert (np.diff(images, axis=-1) > 0).all()


@given(designs(), st.integers(0, 2**32))
def test_the_estimate_is_unbiased_over_all_places_to_begin(given_: tuple[Design, Ints | None], seed: int) -> None:
    plan, _ = given_
    right = np.random.default_rng(seed).random(len(plan.order)) < 0.7
    sample = draw(plan, begins(int(plan.sizes.sum())))
    estimate, apart = estimates_of(sample, right[sample.images])
    assert estimate.mean() == pytest.approx(right.mean(), abs=1e-9)
    np.testing.assert_array_equal(apart, 0)


def test_the_halves_tell_the_square_of_a_chips_accuracy_without_bias() -> None:
    plan = Design(np.array([3, 0, 4, 1, 2]), np.array([0.2, 0.5, 0.8, 0.9, 0.9]), np.array([5, 6, 4, 2, 2]), 2)
    right = np.array([True, False, True, True, False])
    first = begins(19)[:, 0]
    sample = draw(plan, list(itertools.product(first, first)))  # the halves begin independently of one another
    estimate, apart = estimates_of(sample, right[sample.images])
    assert estimate.mean() == pytest.approx(0.6, abs=1e-11)
    assert np.mean(estimate**2 - apart**2 / 4) == pytest.approx(0.36, abs=1e-11)
    assert estimate.min() < 0.3


def test_estimates_by_hand() -> None:
    plan = Design(np.array([2, 0, 1]), np.array([0.25, 0.5, 1.0]), np.array([1, 2, 1]), 1)
    sample = draw(plan, [[0, STARTS // 2]])  # the first image in this order, and the second
    np.testing.assert_array_equal(sample.images, [[[2], [0]]])
    base = 1.75 / 3
    estimate, apart = estimates_of(sample, [[[1], [0]]])
    halves = base + 4 / 3 * 0.75, base - 2 / 3 * 0.5
    assert estimate[0] == pytest.approx(sum(halves) / 2, abs=1e-11)
    assert apart[0] == pytest.approx(halves[0] - halves[1], abs=1e-11)


def test_a_half_sample_of_all_images_is_the_accuracy() -> None:
    images, strata = 20, len(edges(20)) - 1
    plan = design(np.arange(images), np.arange(strata) % 3, np.full(strata, 3), images)
    right = np.random.default_rng(0).random(images) < 0.5
    sample = draw(plan, starts(np.random.default_rng(1))[None])
    estimate, apart = estimates_of(sample, right[sample.images])
    assert estimate[0] == pytest.approx(right.mean(), abs=1e-12)
    assert apart[0] == 0


@given(st.integers(1, 3_000_000))
def test_strata_cut_any_test_set(images: int) -> None:
    bounds = edges(images)
    assert bounds[0] == 0
    assert bounds[-1] == images
    assert (np.diff(bounds) > 0).all()
    assert len(bounds) - 1 <= min(images, STRATA)
    if images >= STRATA**2:
        assert len(bounds) == STRATA + 1


@given(st.data())
def test_predictions_are_isotonic_regression_and_sizes_go_with_their_scatter(data: st.DataObject) -> None:
    images = 10_000
    seen = np.array(data.draw(st.lists(st.integers(1, 200), min_size=STRATA, max_size=STRATA)))
    right = np.array([data.draw(st.integers(0, int(count))) for count in seen])
    plan = design(np.arange(images), right, seen, 1)
    blocks = optimize.isotonic_regression(right / seen, weights=seen).blocks
    share = np.empty(STRATA)
    for low, high in itertools.pairwise(blocks):
        share[low:high] = (right[low:high].sum() + 0.5) / (seen[low:high].sum() + 1)
    each = np.diff(edges(images))
    np.testing.assert_allclose(plan.predicted, np.repeat(share, each), rtol=1e-12)
    wanted = UNIT * (np.sqrt(share * (1 - share)) + FLOOR)
    assert np.max(np.abs(plan.sizes - np.repeat(wanted, each))) < 2  # whole numbers, each rounded down twice


def test_strata_that_no_pilot_chip_saw_go_with_their_neighbours() -> None:
    strata = len(edges(100)) - 1
    right, seen = np.full(strata, 6), np.full(strata, 8)
    right[3] = seen[3] = right[-1] = seen[-1] = 0
    plan = design(np.arange(100), right, seen, 4)
    assert len(np.unique(plan.predicted)) == 1
    assert (design(np.arange(100), 0 * seen, 0 * seen, 4).predicted == 0.5).all()


def test_classes_lie_together_and_change_no_probability() -> None:
    rng = np.random.default_rng(0)
    margins, classes, strata = rng.normal(size=500), rng.integers(4, size=500), len(edges(500)) - 1
    given_ = margins, np.arange(strata), np.full(strata, strata), 8
    plan, without = design(*given_, classes), design(*given_)
    assert (np.diff(classes[plan.order]) >= 0).all()
    for k in range(4):
        assert (np.diff(margins[plan.order[classes[plan.order] == k]]) > 0).all()
    assert (np.diff(margins[without.order]) > 0).all()
    by_image, by_image_without = np.argsort(plan.order), np.argsort(without.order)
    np.testing.assert_array_equal(plan.sizes[by_image], without.sizes[by_image_without])
    np.testing.assert_array_equal(plan.predicted[by_image], without.predicted[by_image_without])


def test_millions_of_images_do_not_overflow() -> None:
    images, half = 5_000_000, 16
    plan = design(np.arange(images), np.arange(STRATA), np.full(STRATA, STRATA), half)
    ends = np.cumsum(plan.sizes).tolist()
    total = ends[-1]
    assert total < 2**32  # sizes are coarser than those of small test sets
    assert plan.sizes.min() > 0
    begin = [[0, STARTS - 1], [STARTS // 3, 12345678901234567]]
    sample = draw(plan, begin)
    for chip, h in itertools.product(range(2), range(2)):
        offset = begin[chip][h] * total >> 62
        for k, image in enumerate(sample.images[chip, h].tolist()):
            before = ends[image - 1] if image else 0
            assert before * half <= offset + k * total < ends[image] * half


def test_the_same_images_everywhere() -> None:
    strata = len(edges(1000)) - 1
    plan = design(np.arange(1000), np.arange(strata), np.full(strata, strata), 6, np.arange(1000) % 3)
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([0, 1, 2, 3])))
    images = draw(plan, starts(generator)[None]).images
    assert images.tolist() == [[[150, 573, 151, 574, 152, 575], [219, 651, 220, 652, 221, 653]]]


@pytest.mark.parametrize(
    ("images", "right", "seen", "half", "problem"),
    [
        (5, 5 * [1], 5 * [2], 6, r"half: expected 1 to 5 images; got 6"),
        (5, 5 * [1], 5 * [2], 0, r"half: expected 1 to 5 images; got 0"),
        (5, 4 * [1], 4 * [2], 1, r"right and seen: expected counts of 5 strata"),
        (5, 5 * [3], 5 * [2], 1, r"right and seen"),
        (5, 5 * [-1], 5 * [2], 1, r"right and seen"),
        (5, 5 * [1], 4 * [2], 1, r"right and seen"),
    ],
)
def test_what_is_no_design(images: int, right: list[int], seen: list[int], half: int, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        design(np.arange(images), right, seen, half)


def test_the_sample_of_a_few_images_knows_more_where_classes_fail_together() -> None:
    rng = np.random.default_rng(2)
    images, chips = 1000, 4000
    classes, margins = rng.integers(5, size=images), rng.normal(1, 1, images)
    ability = rng.normal(0, 1, (chips, 5))[:, classes]
    right = margins + ability + rng.normal(0, 0.2, (chips, images)) > 0
    order, bounds = np.argsort(margins), edges(images)
    good = [int(right[:64, order[low:high]].sum()) for low, high in itertools.pairwise(bounds)]
    given_ = margins, good, 64 * np.diff(bounds), 16
    begin = rng.integers(STARTS, size=(chips, 2))
    errors = []
    for plan in (design(*given_), design(*given_, classes)):
        sample = draw(plan, begin)
        estimate, _ = estimates_of(sample, right[np.arange(chips)[:, None, None], sample.images])
        assert abs(np.mean(estimate - right.mean(axis=1))) < 4.4 * np.std(estimate) / math.sqrt(chips)
        errors.append(np.var(estimate - right.mean(axis=1)))
    assert errors[1] < 0.8 * errors[0]
