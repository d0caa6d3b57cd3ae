"""The mean over chips to a precision that was asked for: how many chips it takes, and what they say.

Everything here takes one unbiased estimate per chip, of chips that are drawn independently of one another, such as
`sampling.estimates_of` gives, less its control where there is one; single estimates may lie outside [0, 1].
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from sweep.statistics.estimates import ROUNDING, UPPER, WIDEST, Estimate, Floats, student

PILOT = 256
"""Chips of the first stage: fewer do not tell the variance of estimates with unequal weights."""
FIRST_SHARE = 0.5
"""Of the chips that the pilot asks for, those of the second stage, which tell the variance better."""
RESERVE = 1.02
"""By so much more than what the variance asks for, the last stage is larger: it is seldom followed by another."""
SHIFT = 0.2
"""This part of the variance of the estimates is added to that between chips, of which the rest may be 0 or less."""
_LONGEST = 50.0  # on the log scale; beyond lies no limit that would be used
_LARGEST_FREEDOM = 1e9


def precise_mean(estimates: ArrayLike) -> Estimate:
    """The mean over all chips, with Student's 95 % interval, all within [0, 1].

    Args:
        estimates: unbiased, one per chip, fractions; shape (n,).

    Raises:
        ValueError: no chips, more than one axis, or values that are not finite.
    """
    sample = _sample(estimates)
    centre = float(sample.mean())
    if sample.size == 1:
        return Estimate(centre, np.nan, np.nan)
    reach = _reach(sample)
    return Estimate(*(min(max(value, 0.0), 1.0) for value in (centre, centre - reach, centre + reach)))


def spread(estimates: ArrayLike, apart: ArrayLike) -> Estimate:
    """The standard deviation between chips, without what the samples of images add, and its 95 % interval.

    With e₁, e₂ the estimates of a chip's two half-samples, independent given the chip, the variance between chips is
    V = Cov(e₁, e₂) = Var((e₁ + e₂)/2) - E(e₁ - e₂)²/4: the mean of one term a chip, which has a standard error. The
    interval is that of V + `SHIFT` · Var((e₁ + e₂)/2): below by Student's t on the log scale, above by chi-square with
    Satterthwaite's degrees of freedom, each the wider one on its side. Terms lean to the right, few chips hold their
    tail, and on the plain scale the truth is above in up to a tenth of samples. Chips cannot vary more than their
    estimates do, so that the upper limit of these is one as well.

    Coverage: docs/precision.md.

    Args:
        estimates: (e₁ + e₂)/2 of each chip, without a control, fractions; shape (n,).
        apart: e₁ - e₂; shape (n,).

    Returns:
        Standard deviation and limits, fractions; 0 where the samples explain all that is seen. Two chips or fewer
        have no interval (nan).

    Raises:
        ValueError: as `precise_mean`; shapes that differ.
    """
    sample, gaps = _sample(estimates), _sample(apart)
    if sample.shape != gaps.shape:
        raise ValueError(f"apart: expected shape {sample.shape}; got {gaps.shape}")
    n = sample.size
    if n < 3:
        return Estimate(np.nan, np.nan, np.nan)
    squares = (sample - sample.mean()) ** 2 * n / (n - 1)
    terms, total = squares - gaps**2 / 4, float(squares.mean())
    if total < ROUNDING**2:
        return Estimate(0.0, 0.0, 0.0)
    variance = float(terms.mean())
    shift = SHIFT * total
    centre = max(variance, 0.0) + shift
    low = centre * math.exp(-min(_reach(terms) / centre, _LONGEST)) - shift
    limits = (variance, low, min(_upper(centre, terms) - shift, _upper(total, squares)))
    return Estimate(*(min(math.sqrt(max(v, 0.0)), WIDEST) for v in limits))


def chips_for(estimates: ArrayLike, half_width: float, least: int = PILOT, most: int | None = None) -> int:
    """How many chips a half-width asks for, as far as the first ones tell: the mean of so many, or of more, has it.

    Triple sampling (Hall 1981): a pilot; then half of the chips that its variance asks for; then all that the variance
    so far asks for, and so on while these do not give it. Of the chips that are there, only those count by which the
    stages would have been decided without the others, so that whoever goes on later, or to a smaller half-width, comes
    to the same number.

    Args:
        estimates: of the chips that are there, in the order in which they are drawn; shape (n,), maybe (0,).
        half_width: of the 95 % interval of the mean, a fraction.
        least: chips of the pilot, two at least.
        most: chips at most; None for no bound.

    Returns:
        The number of chips that are needed to know more; not above `n` when the mean is known.
    """
    values = np.asarray(estimates, np.float64)
    bound = math.inf if most is None else most
    size, share = min(max(least, 2), bound), FIRST_SHARE
    while size < bound and size <= len(values):
        wanted = _wanted(values[: int(size)], half_width)
        if wanted <= size:
            break
        grown = math.ceil(share * RESERVE * wanted)
        if grown > size:
            size = min(grown, bound)
        share = 1.0
    return int(size)


def expected_chips(estimates: ArrayLike, half_width: float) -> int:
    """How many chips a half-width will probably take, by two or more that are there."""
    return math.ceil(RESERVE * _wanted(_sample(estimates), half_width))


def _wanted(values: Floats, half_width: float) -> float:
    """Chips that give this half-width, if the variance is that of these."""
    return float((student(len(values) - 1) * values.std(ddof=1) / half_width) ** 2)


def _upper(variance: float, terms: Floats) -> float:
    """The upper limit of a variance, the mean of terms but for a constant, by chi-square (Satterthwaite 1946)."""
    error = float(terms.std(ddof=1)) / math.sqrt(terms.size)
    if np.ptp(terms) < ROUNDING**2:
        return variance
    freedom = min(2 * (variance / error) ** 2, _LARGEST_FREEDOM)
    point = float(special.chdtri(freedom, UPPER))
    return variance * freedom / point if point > 0 else math.inf


def _reach(sample: Floats) -> float:
    if np.ptp(sample) < ROUNDING:
        return 0.0
    return student(sample.size - 1) * float(sample.std(ddof=1)) / math.sqrt(sample.size)


def _sample(values: ArrayLike) -> Floats:
    sample = np.asarray(values, np.float64)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"expected finite values of one axis, one per chip; got shape {sample.shape}")
    return sample
