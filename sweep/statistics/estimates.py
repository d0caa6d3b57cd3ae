"""What a sample of chips says about all chips: arrays of accuracies in, estimates with 95 % intervals out.

Every function takes one accuracy per chip, as a fraction; those with `bounded` also another measure, in its own unit,
which is no fraction where that is false. The intervals describe the spread from chip to chip
for one trained network on one test set; neither another training nor other images are in them. For those see
`sweep.statistics.variance_components` and `on_new_images`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # not stats, which takes a second to import

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
"""The confidence of every interval in this package."""
UPPER = (1 + CONFIDENCE) / 2
"""The probability below the upper limit of such an interval."""
ROUNDING = 1e-12
"""Accuracies are counts over images; closer ones differ by arithmetic only."""
WIDEST = 0.5
"""No law on [0, 1] has a larger standard deviation."""

_FEWEST_FOR_KURTOSIS = 5
_SKEWED = 1.5  # standard errors from which on a skewness is taken as real


class Estimate(NamedTuple):
    """An estimate and its 95 % interval, in the unit of the data; nan where the data cannot give one."""

    value: float
    low: float
    high: float


def mean(accuracies: ArrayLike, bounded: bool = True) -> Estimate:
    """Estimate the mean accuracy over all chips, with a 95 % interval.

    The interval is Student's t on the logit scale, taken back to accuracies: with m the sample mean, s the
    sample standard deviation (ddof = 1) and n chips, logit m ± t(n-1) · s / (√n · m(1-m)), the delta method
    (Casella & Berger, Statistical Inference, 2nd ed., section 5.5.4). Accuracies are bounded and lean to the
    left; the plain interval m ± t·s/√n does not follow that, and passes 100 % where chips are few. Of values without
    bounds the interval is that plain one.

    Coverage: docs/statistics.md; 93.8 to 95.4 % from 20 chips on, 93.5 to 95.5 % with 2 to 10.

    Args:
        accuracies: fractions in [0, 1], one per chip, any order; shape (n,).
        bounded: whether they are fractions.

    Returns:
        Mean and limits, fractions. One chip has no interval (nan). Chips that are all equal have an interval
        of no width: it says that no difference was seen, not that none exists.

    Raises:
        ValueError: no chips, more than one axis, or values that are not fractions.
    """
    sample = sample_of(accuracies, bounded)
    n = sample.size
    if n == 1:
        return Estimate(float(sample[0]), np.nan, np.nan)
    if np.ptp(sample) < rounding(sample, bounded):
        return Estimate(float(sample[0]), float(sample[0]), float(sample[0]))
    centre = float(sample.mean())
    if not bounded:
        reach = student(n - 1) * float(sample.std(ddof=1)) / np.sqrt(n)
        return Estimate(centre, float(centre - reach), float(centre + reach))
    error = sample.std(ddof=1) / np.sqrt(n) / (centre * (1 - centre))
    return Estimate(centre, *logit_interval(centre, student(n - 1) * error))


def standard_deviation(accuracies: ArrayLike, bounded: bool = True) -> Estimate:
    """Estimate the standard deviation between chips (ddof = 1), with a 95 % interval.

    From five chips on, Bonett's interval (Bonett 2006, Approximate confidence interval for standard deviation
    of nonnormal distributions, Computational Statistics & Data Analysis 50, 775-782,
    doi:10.1016/j.csda.2004.10.003): normal on the scale of the log variance, its error from a kurtosis taken
    about a trimmed mean so that skewness does not hide heavy tails. Two changes, both kept because simulation
    favoured them: Student's t with n-1 degrees of freedom in place of his normal quantile, since the error is
    itself estimated; and no kurtosis below 2.8 + 1.3 g² where the skewness g is more than 1.5 standard errors from
    0, since few chips from a skewed law rarely hold its tail. (Pearson's diagram: gamma laws, the heavy edge of the
    betas, have 3 + 1.5 g².) Fewer than five chips cannot give a kurtosis; theirs is the normal theory's chi-square
    interval. No law on [0, 1] has a standard deviation above 1/2, so no upper limit passes that, unless the estimate
    itself does.

    Coverage: docs/statistics.md; 93.7 to 96.3 % from 20 chips on for the laws of measured cells, 92 to 94 % for longer
    tails. With fewer it is wider than it need be: about 97 % at n = 10, above 99 % at n = 5; the chi-square interval,
    as used for 2 to 4 chips, holds in 92.2 to 95.7 %.

    Args:
        accuracies: fractions in [0, 1], one per chip, any order; shape (n,).
        bounded: whether they are fractions.

    Returns:
        Standard deviation and limits, fractions. One chip has none of them (nan). Chips that are all equal
        have 0 and an interval of no width: it says that no difference was seen, not that none exists.

    Raises:
        ValueError: no chips, more than one axis, or values that are not fractions.
    """
    sample = sample_of(accuracies, bounded)
    n = sample.size
    if n == 1:
        return Estimate(np.nan, np.nan, np.nan)
    if np.ptp(sample) < rounding(sample, bounded):
        return Estimate(0.0, 0.0, 0.0)
    widest = WIDEST if bounded else np.inf
    spread = float(sample.std(ddof=1))
    if n < _FEWEST_FOR_KURTOSIS:
        low, high = spread * np.sqrt((n - 1) / special.chdtri(n - 1, np.array([(1 - CONFIDENCE) / 2, UPPER])))
        return Estimate(spread, float(low), _bounded(high, spread, widest))
    small_sample = n / (n - special.ndtri(UPPER))
    kurtosis = max(_kurtosis(sample), _fewest_kurtosis(sample))
    error = small_sample * np.sqrt((kurtosis - (n - 3) / n) / (n - 1))
    reach = student(n - 1) * error
    low, high = spread * np.sqrt(small_sample * np.exp(np.array([-reach, reach])))
    return Estimate(spread, float(low), _bounded(high, spread, widest))


def quantiles(accuracies: ArrayLike, probabilities: Sequence[float], bounded: bool = True) -> Floats:
    """Estimate quantiles over chips.

    Linear interpolation between order statistics: type 7 of Hyndman & Fan 1996, Sample quantiles in
    statistical packages, The American Statistician 50, 361-365.

    Args:
        accuracies: fractions in [0, 1], one per chip, any order; shape (n,).
        probabilities: in [0, 1]; shape (k,).
        bounded: whether they are fractions.

    Returns:
        Fractions, shape (k,), in the order of `probabilities`.

    Raises:
        ValueError: no chips, more than one axis, or values that are not fractions.
    """
    return np.asarray(np.quantile(sample_of(accuracies, bounded), probabilities), dtype=np.float64)


def quantile(accuracies: ArrayLike, probability: float, bounded: bool = True) -> Estimate:
    """Estimate one quantile over chips, with a 95 % interval from the order statistics.

    No law is assumed. The number of chips below the quantile is binomial, which gives the ranks whose chips are
    limits with 2.5 % on either side (Hahn & Meeker 1991, Statistical Intervals, chapter 5). As ranks are whole, such
    limits hold in up to 99 % of samples; interpolation between the two ranks about 2.5 % takes that back (Nyblom 1992,
    Note on interpolated order statistics, Statistics & Probability Letters 14, 129-131; Hettmansperger & Sheather 1986
    for the median).

    Args:
        accuracies: fractions in [0, 1], one per chip, any order; shape (n,).
        probability: in (0, 1); 0.05 is the accuracy that 95 % of chips pass.
        bounded: whether they are fractions.

    Returns:
        The quantile as in `quantiles`, and limits. A limit is nan where even the last chip on that side is none, and
        the other one then holds alone, with 97.5 %: from 72 chips on the 5 % and the 95 % quantile have both limits,
        the median from 6 on.

    Raises:
        ValueError: no chips, more than one axis, or values that are not fractions; a probability that is none.
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability: expected a number between 0 and 1; got {probability:g}")
    sample = np.sort(sample_of(accuracies, bounded))
    low = _lower_limit(sample, probability)
    high = -_lower_limit(-sample[::-1], 1 - probability)
    return Estimate(float(np.quantile(sample, probability)), low, high)


def on_new_images(accuracies: ArrayLike, n_images: int, exact: bool = False) -> Estimate:
    """Estimate the mean accuracy over all chips on images at large, with an interval of at least 95 %.

    Other chips and another test set of this size and source. The variance that the images leave, by `image_variance`,
    is added to that of the chips, s²/n; the degrees of freedom are Satterthwaite's, the scale is the logit, as in
    `mean`, and the interval is never inside that one.

    Args:
        accuracies: fractions in [0, 1], one per chip; shape (n,).
        n_images: of each trial.
        exact: a cell without randomness, whose one accuracy is that of every chip. It has Wilson's interval.

    Returns:
        Mean and limits, fractions. One chip of a random cell has no interval (nan).

    Raises:
        ValueError: as `mean`; fewer than two images; an exact cell with several accuracies.
    """
    sample = sample_of(accuracies)
    images = image_variance(sample, n_images)
    centre, low, high = mean(sample)
    if exact:
        if np.ptp(sample) > 0:
            raise ValueError("accuracies: a cell without randomness has one accuracy only")
        return Estimate(centre, *wilson(centre * n_images, n_images)[1:])
    if sample.size == 1:
        return Estimate(centre, np.nan, np.nan)
    chips = float(sample.std(ddof=1)) ** 2 / sample.size if np.ptp(sample) >= ROUNDING else 0.0
    total = chips + images
    if total < ROUNDING**2:  # all chips right about every image, or none about any
        return Estimate(centre, low, high)
    freedom = (sample.size - 1) * (total / chips) ** 2 if chips > 0 else np.inf
    new = logit_interval(centre, student(freedom) * np.sqrt(total) / (centre * (1 - centre)))
    return Estimate(centre, min(new[0], low), max(new[1], high))


def image_variance(accuracies: ArrayLike, n_images: int) -> float:
    """The variance of the mean over chips from one test set to another, at the most.

    Chips i = 1…n and images j = 1…m are taken as random samples, crossed; x_ij is 1 where chip i is right about image
    j; x_ij = μ + C_i + J_j + (CJ)_ij (Brennan 2001, Generalizability Theory, chapter 2). What is known are the
    accuracies a_i, the means over j.

    For one chip, the images leave a variance of p_i(1 - p_i)/m, binomial. Over chips that does not average out: all
    see the same images, and an image that is hard for one is hard for most. The variance of the mean over chips from
    one test set to another is V/(m - 1), with V the variance over images of the share of chips that are right. Counts
    do not give V, and bound it: two chips are both right about min(a_i, a_k) of the images at the most (Fréchet 1951),
    so that V ≤ Σ_ik min(a_i, a_k)/n² - ā² = ā(1 - ā) - Σ_ik |a_i - a_k|/(2n²). The bound is reached where the worse
    chip fails on all that the better one fails on. It is used as if it were the variance: intervals on new images hold
    with 95 % or more.

    Args:
        accuracies: fractions in [0, 1], one per chip; shape (n,).
        n_images: m, of each trial.

    Raises:
        ValueError: as `mean`; fewer than two images.
    """
    if n_images < 2:
        raise ValueError(f"n_images: expected two or more; got {n_images}")
    ordered = np.sort(sample_of(accuracies))
    n, centre = ordered.size, mean(accuracies).value
    # Σ_ik |a_i - a_k| = 2 Σ_i (2i - n - 1) a_(i)
    apart = 2 * float(np.sum((2 * np.arange(1, n + 1) - n - 1) * ordered)) / n**2
    return max(centre * (1 - centre) - apart / 2, 0) / (n_images - 1)


def wilson(successes: float, trials: int) -> Estimate:
    """A share with Wilson's 95 % interval; successes may be halves, where ties count so.

    Wilson 1927, Journal of the American Statistical Association 22, 209-212; recommended over Clopper-Pearson, which
    holds in 97 to 99 % of samples, by Brown, Cai & DasGupta 2001, Statistical Science 16, 101-133, and by the exact
    coverages in docs/statistics.md. Its limits lie within [0, 1], and have a width even where all trials or none
    succeed.
    """
    z2 = float(special.ndtri(UPPER)) ** 2
    share = successes / trials
    centre = (successes + z2 / 2) / (trials + z2)
    reach = np.sqrt(z2 * (trials * share * (1 - share) + z2 / 4)) / (trials + z2)
    return Estimate(share, float(max(min(centre - reach, share), 0)), float(min(max(centre + reach, share), 1)))


def logit_interval(centre: float, reach: float) -> tuple[float, float]:
    """The limits so far below and above a fraction on the logit scale, taken back to fractions."""
    low, high = special.expit(special.logit(centre) + np.array([-reach, reach]))
    return float(low), float(high)


def student(freedom: float) -> float:
    """How many standard errors a limit lies from its estimate: the 97.5 % point of Student's t."""
    return float(special.stdtrit(freedom, UPPER))


def _lower_limit(ordered: Floats, probability: float) -> float:
    """The lower limit of a quantile, with 2.5 %, from ordered values; nan where the lowest is none."""
    n, tail = ordered.size, (1 - CONFIDENCE) / 2
    held = special.bdtr(np.arange(n), n, probability)  # that the quantile lies below the values of rank 1, 2, …, n
    rank = int(np.count_nonzero(held <= tail))
    if rank in (0, n):
        return float(ordered[-1]) if rank else np.nan
    before, after = held[rank - 1], held[rank]
    odds = (n - rank) * probability * (tail - before) / (rank * (1 - probability) * (after - tail))
    outer, inner = ordered[rank - 1], ordered[rank]
    return float(min(outer + odds / (1 + odds) * (inner - outer), inner))


def _bounded(high: float, spread: float, widest: float) -> float:
    """An upper limit that no law of its kind rules out; few chips can scatter wider than any law."""
    return float(min(high, max(widest, spread)))


def _kurtosis(sample: Floats) -> float:
    """Bonett's kurtosis (3 for a normal law): fourth moment about a trimmed mean, variance about the mean."""
    n = sample.size
    # At n = 5 the median is left. At most half is cut, less one chip.
    cut = min(int(n / (2 * np.sqrt(n - 4))), (n - 1) // 2)
    trimmed = np.sort(sample)[cut : n - cut].mean()
    # Scaled first: fourth powers of differences of one image in many would underflow.
    scale = np.ptp(sample)
    fourth = np.sum(((sample - trimmed) / scale) ** 4)
    second = np.sum(((sample - sample.mean()) / scale) ** 2)
    return float(n * fourth / second**2)


def _fewest_kurtosis(sample: Floats) -> float:
    """The kurtosis that a law as skewed as this sample has at the least; 0 where no skewness is to be seen."""
    n = sample.size
    centred = (sample - sample.mean()) / np.ptp(sample)
    skewness = np.mean(centred**3) / np.mean(centred**2) ** 1.5 * np.sqrt(n * (n - 1)) / (n - 2)
    variance = 6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3))  # of the skewness of normal samples
    return float(2.8 + 1.3 * skewness**2) if skewness**2 > _SKEWED**2 * variance else 0.0


def fractions(accuracies: ArrayLike, name: str = "accuracies") -> Floats:
    """Accuracies as they are; raises ValueError where one is no fraction."""
    values = np.asarray(accuracies, dtype=np.float64)
    outside = ~((values >= 0) & (values <= 1))
    if outside.any():
        raise ValueError(f"{name}: expected fractions in [0, 1]; got {values[outside][0]:g}")
    return values


def sample_of(accuracies: ArrayLike, bounded: bool = True) -> Floats:
    """One accuracy per chip, shape (n,), or another finite value; ValueError where it is none, or no chip is there."""
    sample = fractions(accuracies) if bounded else np.asarray(accuracies, dtype=np.float64)
    if not np.isfinite(sample).all():
        raise ValueError("values: expected finite numbers")
    if sample.ndim != 1:
        raise ValueError(f"accuracies: expected one axis, one value per chip; got shape {sample.shape}")
    if sample.size == 0:
        raise ValueError("accuracies: empty; an estimate needs at least one chip")
    return sample


def rounding(values: Floats, bounded: bool) -> float:
    """The difference below which values differ by arithmetic only: `ROUNDING`, of others than fractions by their size.

    Values that are all 0 differ by less.
    """
    return ROUNDING if bounded else max(ROUNDING * float(np.abs(values).max(initial=0)), float(np.finfo(float).tiny))
