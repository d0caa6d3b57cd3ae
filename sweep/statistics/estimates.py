"""What a sample of chips says about all chips: arrays of accuracies in, estimates with 95 % intervals out.

Every function takes one accuracy per chip, as a fraction. The intervals describe the spread from chip to chip
for one trained network on one test set; neither another training nor other images are in them (for those see
`components` and `spread`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # not stats, which takes a second to import

CONFIDENCE = 0.95
"""The confidence of every interval in this package."""

_FEWEST_FOR_KURTOSIS = 5
_SKEWED = 1.5  # standard errors from which on a skewness is taken as real
_WIDEST = 0.5  # no law on [0, 1] has a larger standard deviation
_ROUNDING = 1e-12  # accuracies are counts over images; closer ones differ by arithmetic only


class Estimate(NamedTuple):
    """An estimate and its 95 % interval, in the unit of the data; nan where the data cannot give one."""

    value: float
    low: float
    high: float


def mean(accuracies: ArrayLike) -> Estimate:
    """Estimate the mean accuracy over all chips, with a 95 % interval.

    The interval is Student's t on the logit scale, taken back to accuracies: with m the sample mean, s the
    sample standard deviation (ddof = 1) and n chips, logit m ± t(n-1) · s / (√n · m(1-m)), the delta method
    (Casella & Berger, Statistical Inference, 2nd ed., section 5.5.4). Accuracies are bounded and lean to the
    left; the plain interval m ± t·s/√n does not follow that, and passes 100 % where chips are few.

    Coverage: docs/statistics.md; 93.8 to 95.4 % from 20 chips on, 93.5 to 95.5 % with 2 to 10.

    Args:
        accuracies: fractions in [0, 1], one per chip, any order; shape (n,).

    Returns:
        Mean and limits, fractions. One chip has no interval (nan). Chips that are all equal have an interval
        of no width: it says that no difference was seen, not that none exists.

    Raises:
        ValueError: no chips, more than one axis, or values that are not fractions.
    """
    sample = _sample(accuracies)
    n = sample.size
    if n == 1:
        return Estimate(float(sample[0]), np.nan, np.nan)
    if np.ptp(sample) < _ROUNDING:
        return Estimate(float(sample[0]), float(sample[0]), float(sample[0]))
    centre = float(sample.mean())
    error = sample.std(ddof=1) / np.sqrt(n) / (centre * (1 - centre))
    reach = special.stdtrit(n - 1, (1 + CONFIDENCE) / 2) * error
    low, high = special.expit(special.logit(centre) + np.array([-reach, reach]))
    return Estimate(centre, float(low), float(high))


def standard_deviation(accuracies: ArrayLike) -> Estimate:
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

    Returns:
        Standard deviation and limits, fractions. One chip has none of them (nan). Chips that are all equal
        have 0 and an interval of no width: it says that no difference was seen, not that none exists.

    Raises:
        ValueError: no chips, more than one axis, or values that are not fractions.
    """
    sample = _sample(accuracies)
    n = sample.size
    if n == 1:
        return Estimate(np.nan, np.nan, np.nan)
    if np.ptp(sample) < _ROUNDING:
        return Estimate(0.0, 0.0, 0.0)
    spread = float(sample.std(ddof=1))
    tails = np.array([(1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2])
    if n < _FEWEST_FOR_KURTOSIS:
        low, high = spread * np.sqrt((n - 1) / special.chdtri(n - 1, tails[::-1]))
        return Estimate(spread, float(low), _bounded(high, spread))
    small_sample = n / (n - special.ndtri(tails[0]))
    kurtosis = max(_kurtosis(sample), _fewest_kurtosis(sample))
    error = small_sample * np.sqrt((kurtosis - (n - 3) / n) / (n - 1))
    reach = special.stdtrit(n - 1, tails[0]) * error
    low, high = spread * np.sqrt(small_sample * np.exp(np.array([-reach, reach])))
    return Estimate(spread, float(low), _bounded(high, spread))


def quantiles(accuracies: ArrayLike, probabilities: Sequence[float]) -> NDArray[np.float64]:
    """Estimate quantiles over chips.

    Linear interpolation between order statistics: type 7 of Hyndman & Fan 1996, Sample quantiles in
    statistical packages, The American Statistician 50, 361-365.

    Args:
        accuracies: fractions in [0, 1], one per chip, any order; shape (n,).
        probabilities: in [0, 1]; shape (k,).

    Returns:
        Fractions, shape (k,), in the order of `probabilities`.

    Raises:
        ValueError: no chips, more than one axis, or values that are not fractions.
    """
    return np.asarray(np.quantile(_sample(accuracies), probabilities), dtype=np.float64)


def quantile(accuracies: ArrayLike, probability: float) -> Estimate:
    """Estimate one quantile over chips, with a 95 % interval from the order statistics.

    No law is assumed. The number of chips below the quantile is binomial, which gives the ranks whose chips are
    limits with 2.5 % on either side (Hahn & Meeker 1991, Statistical Intervals, chapter 5). As ranks are whole, such
    limits hold in up to 99 % of samples; interpolation between the two ranks about 2.5 % takes that back (Nyblom 1992,
    Note on interpolated order statistics, Statistics & Probability Letters 14, 129-131; Hettmansperger & Sheather 1986
    for the median).

    Args:
        accuracies: fractions in [0, 1], one per chip, any order; shape (n,).
        probability: in (0, 1); 0.05 is the accuracy that 95 % of chips pass.

    Returns:
        The quantile as in `quantiles`, and limits. A limit is nan where even the last chip on that side is none: with
        fewer than `chips_for_quantile(probability)` chips the lower limit of a low quantile (the upper one of a high
        quantile) does not exist, and the other one holds alone, with 97.5 %.

    Raises:
        ValueError: no chips, more than one axis, or values that are not fractions; a probability that is none.
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability: expected a number between 0 and 1; got {probability:g}")
    sample = np.sort(_sample(accuracies))
    low = _lower_limit(sample, probability)
    high = -_lower_limit(-sample[::-1], 1 - probability)
    return Estimate(float(np.quantile(sample, probability)), low, high)


def chips_for_quantile(probability: float) -> int:
    """The fewest chips that give a quantile both limits of `quantile`: 72 for 5 % or 95 %, 6 for the median."""
    return math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(max(probability, 1 - probability)))


def chip_yield(accuracies: ArrayLike, threshold: float) -> Estimate:
    """Estimate the yield, the share of all chips that reach an accuracy, with Wilson's 95 % interval.

    Wilson 1927, Journal of the American Statistical Association 22, 209-212; recommended over Clopper-Pearson, which
    holds in 97 to 99 % of samples, by Brown, Cai & DasGupta 2001, Statistical Science 16, 101-133, and by the exact
    coverages in docs/statistics.md.

    Args:
        accuracies: fractions in [0, 1], one per chip, any order; shape (n,).
        threshold: the accuracy to reach, a fraction; a chip that just reaches it counts.

    Returns:
        The share of chips and limits, fractions. The limits are within [0, 1], and have a width even where all chips
        or none reach the threshold.

    Raises:
        ValueError: no chips, more than one axis, or values that are not fractions.
    """
    sample = _sample(accuracies)
    return wilson(float(np.count_nonzero(sample >= threshold - _ROUNDING)), sample.size)


def wilson(successes: float, trials: int) -> Estimate:
    """A share and Wilson's 95 % interval; see `chip_yield`. Successes may be halves, where ties count so."""
    z2 = float(special.ndtri((1 + CONFIDENCE) / 2)) ** 2
    share = successes / trials
    centre = (successes + z2 / 2) / (trials + z2)
    reach = np.sqrt(z2 * (trials * share * (1 - share) + z2 / 4)) / (trials + z2)
    return Estimate(share, float(max(min(centre - reach, share), 0)), float(min(max(centre + reach, share), 1)))


def _lower_limit(ordered: NDArray[np.float64], probability: float) -> float:
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


def _bounded(high: float, spread: float) -> float:
    """An upper limit that no law on [0, 1] rules out; few chips can scatter wider than any law."""
    return float(min(high, max(_WIDEST, spread)))


def _kurtosis(sample: NDArray[np.float64]) -> float:
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


def _fewest_kurtosis(sample: NDArray[np.float64]) -> float:
    """The kurtosis that a law as skewed as this sample has at the least; 0 where no skewness is to be seen."""
    n = sample.size
    centred = (sample - sample.mean()) / np.ptp(sample)
    skewness = np.mean(centred**3) / np.mean(centred**2) ** 1.5 * np.sqrt(n * (n - 1)) / (n - 2)
    variance = 6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3))  # of the skewness of normal samples
    return float(2.8 + 1.3 * skewness**2) if skewness**2 > _SKEWED**2 * variance else 0.0


def _sample(accuracies: ArrayLike) -> NDArray[np.float64]:
    sample = np.asarray(accuracies, dtype=np.float64)
    if sample.ndim != 1:
        raise ValueError(f"accuracies: expected one axis, one value per chip; got shape {sample.shape}")
    if sample.size == 0:
        raise ValueError("accuracies: empty; an estimate needs at least one chip")
    outside = ~((sample >= 0) & (sample <= 1))
    if outside.any():
        raise ValueError(f"accuracies: expected fractions in [0, 1]; got {sample[outside][0]:g}")
    return sample
