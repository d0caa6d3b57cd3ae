"""What the finite test set leaves open: accuracies "on this test set" and "on new images", from counts alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # not stats, which takes a second to import

from sweep.statistics import estimates
from sweep.statistics.estimates import CONFIDENCE

_ROUNDING = 1e-12
_WIDEST = 0.5  # no law on [0, 1] has a larger standard deviation


class Spread(NamedTuple):
    """Where the uncertainty about a cell comes from; fractions, nan where one chip cannot tell.

    Attributes:
        mean: over chips.
        mean_low, mean_high: 95 % interval on this test set: other chips, the same images.
        new_low, new_high: at least 95 % on new images: other chips and another test set of this size and source.
        std_images: how far the mean over chips differs from one such test set to another, at the most.
        std: between chips, on this test set.
        std_low, std_high: its 95 % interval on this test set.
        std_new_low, std_new_high: at least 95 %, between chips on images at large.
    """

    mean: float
    mean_low: float
    mean_high: float
    new_low: float
    new_high: float
    std_images: float
    std: float
    std_low: float
    std_high: float
    std_new_low: float
    std_new_high: float


def spread(accuracies: ArrayLike, n_images: int, exact: bool = False) -> Spread:
    """Split the uncertainty about one cell into chips and the finite test set.

    The model: chips i = 1…n and images j = 1…m are random samples, crossed; x_ij is 1 where chip i is right about
    image j; x_ij = μ + C_i + J_j + (CJ)_ij (Brennan 2001, Generalizability Theory, chapter 2). What is known are the
    accuracies a_i, the means over j.

    For one chip, the images leave a variance of p_i(1 - p_i)/m, binomial. Over chips that does not average out: all
    see the same images, and an image that is hard for one is hard for most. The variance of the mean over chips from
    one test set to another is V/(m - 1), with V the variance over images of the share of chips that are right. Counts
    do not give V, and bound it: two chips are both right about min(a_i, a_k) of the images at the most (Fréchet 1951),
    so that V ≤ Σ_ik min(a_i, a_k)/n² - ā² = ā(1 - ā) - Σ_ik |a_i - a_k|/(2n²). The bound is reached where the worse
    chip fails on all that the better one fails on. It is used as if it were the variance: intervals on new images hold
    with 95 % or more. Chips add s²/n; the degrees of freedom are Satterthwaite's, the scale is the logit, as in
    `statistics.mean`, and an interval on new images is never inside that on these.

    The spread between chips on this test set is part chips, part chance of the images, and itself differs from one
    test set to another. s² estimates σ_C² + σ_CJ²/m, with σ_CJ² between 0 and the mean of p_i(1 - p_i): that mean over
    m - 1 is taken off the lower limit. An image moves s² by twice the covariance, over chips, of being right about it
    and accuracy; its variance over images is computed as if the bound above were reached, and widens the interval of
    `statistics.standard_deviation` on the log scale.

    Args:
        accuracies: fractions in [0, 1], one per chip; shape (n,).
        n_images: m, of each trial.
        exact: a cell without randomness, whose one accuracy is that of every chip. On new images it has Wilson's
            interval.

    Raises:
        ValueError: as `statistics.mean`; fewer than two images; an exact cell with several accuracies.
    """
    if n_images < 2:
        raise ValueError(f"n_images: expected two or more; got {n_images}")
    sample = np.asarray(accuracies, dtype=np.float64)
    mean, mean_low, mean_high = estimates.mean(sample)
    n = sample.size
    if exact and np.ptp(sample) > 0:
        raise ValueError("accuracies: a cell without randomness has one accuracy only")
    ordered = np.sort(sample)
    # Σ_ik |a_i - a_k| = 2 Σ_i (2i - n - 1) a_(i)
    apart = 2 * float(np.sum((2 * np.arange(1, n + 1) - n - 1) * ordered)) / n**2
    images = max(mean * (1 - mean) - apart / 2, 0) / (n_images - 1)
    std_images = float(np.sqrt(images))
    if exact:
        new = estimates.wilson(mean * n_images, n_images)
        return Spread(mean, mean, mean, new.low, new.high, std_images, 0, 0, 0, 0, 0)
    std, std_low, std_high = estimates.standard_deviation(sample)
    if n == 1:
        return Spread(mean, mean_low, mean_high, np.nan, np.nan, std_images, std, std_low, std_high, np.nan, np.nan)
    new_low, new_high = _on_new_images(mean, std**2 / n, n, images)
    return Spread(
        mean,
        mean_low,
        mean_high,
        min(new_low, mean_low),
        max(new_high, mean_high),
        std_images,
        std,
        std_low,
        std_high,
        *_spread_on_new_images(ordered, n_images, (std, std_low, std_high)),
    )


def _on_new_images(mean: float, chips: float, n: int, images: float) -> tuple[float, float]:
    """The interval of a mean whose error has one variance from n chips, one from the images."""
    total = chips + images
    if total < _ROUNDING**2:  # all chips right about every image, or none about any
        return mean, mean
    freedom = (n - 1) * (total / chips) ** 2 if chips > 0 else np.inf
    reach = special.stdtrit(freedom, (1 + CONFIDENCE) / 2) * np.sqrt(total) / (mean * (1 - mean))
    low, high = special.expit(special.logit(mean) + np.array([-reach, reach]))
    return float(low), float(high)


def _spread_on_new_images(
    ordered: NDArray[np.float64], n_images: int, std: tuple[float, float, float]
) -> tuple[float, float]:
    """The interval of the standard deviation between chips, from accuracies in rising order."""
    value, low, high = std
    if value < _ROUNDING:
        return 0.0, 0.0
    # Between two neighbouring accuracies lie the images that only the chips above are right about.
    away = ordered - ordered.mean()
    covariances = np.flip(np.cumsum(np.flip(away)))[1:] / away.size
    variance = float(np.mean(away**2))
    of_images = max(float(np.sum(covariances**2 * np.diff(ordered))) - variance**2, 0)
    reach = special.ndtri((1 + CONFIDENCE) / 2) * np.sqrt(of_images / (n_images - 1)) / variance
    chance = float(np.mean(ordered * (1 - ordered))) / (n_images - 1)
    low = value * np.exp(-np.hypot(np.log(value / low), reach)) if low > 0 else 0.0
    high = value * np.exp(np.hypot(np.log(high / value), reach))
    return float(np.sqrt(max(low**2 - chance, 0))), float(min(high, max(_WIDEST, value)))
