"""How far chips are above a limit, on average or all but a share of them: with limits of any confidence."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from sweep.statistics.estimates import ROUNDING, Estimate, Floats

DOUBT = 0.025
"""Of each limit of a 95 % interval, that the truth is beyond it."""


def margin(margins: ArrayLike, quantile: float | None = None, doubt: float = DOUBT) -> Estimate:
    """The mean over all chips, or a quantile of them, with a lower and an upper limit.

    Of the mean, limits are Student's t. Of a quantile they are order statistics, by the binomial number of chips below
    it (Hahn & Meeker 1991, Statistical Intervals, chapter 5): they hold whatever the law, and a little more often than
    they must.

    Args:
        margins: one per chip, whatever their scale; shape (n,). Single ones may be estimates, unbiased, for the mean.
        quantile: the share of the chips below; None for the mean.
        doubt: that the truth is beyond a limit, for each of the two: 0.025 gives a 95 % interval.

    Returns:
        Infinite limits where chips are too few for any. Chips that are all equal have limits of no width.

    Raises:
        ValueError: no chips, more than one axis, or values that are not finite.
    """
    sample = np.asarray(margins, np.float64)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"expected finite values of one axis, one per chip; got shape {sample.shape}")
    n = sample.size
    if quantile is not None:
        return _quantile(np.sort(sample), quantile, doubt)
    centre = float(sample.mean())
    if n > 1 and np.ptp(sample) < ROUNDING:
        return Estimate(centre, centre, centre)
    reach = float(special.stdtrit(n - 1, 1 - doubt)) * deviation(sample) if n > 1 else math.inf
    return Estimate(centre, centre - reach, centre + reach)


def deviation(margins: ArrayLike, quantile: float | None = None) -> float:
    """The standard error of `margin`: of a quantile half of what lies between its limits one standard error apart."""
    sample = np.asarray(margins, np.float64)
    if quantile is not None:
        _, low, high = _quantile(np.sort(sample), quantile, float(special.ndtr(-1.0)))
        return (high - low) / 2
    if sample.size < 2:
        return math.inf
    return 0.0 if np.ptp(sample) < ROUNDING else float(sample.std(ddof=1)) / math.sqrt(sample.size)


def _quantile(ordered: Floats, probability: float, doubt: float) -> Estimate:
    """A quantile of ordered values: the ranks whose values are beyond it with no more than the doubt."""
    n = ordered.size
    # Of fewer than r values below the quantile, the r-th is above it; of r or more, the r-th is not.
    fewer = special.bdtr(np.arange(n), n, probability)  # at most 0, 1, … n - 1 values
    rank = int(np.count_nonzero(fewer <= doubt))
    above = int(np.count_nonzero(1 - fewer > doubt))
    low = float(ordered[rank - 1]) if rank else -math.inf
    high = float(ordered[above]) if above < n else math.inf
    return Estimate(float(np.quantile(ordered, probability)), low, high)
