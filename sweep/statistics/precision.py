"""The mean over chips to a precision that was asked for: how many chips it takes, and what they say.

Everything here takes one unbiased estimate per chip, of chips that are drawn independently of one another, such as
`sampling.estimates_of` gives, less its control where there is one; single estimates may lie outside [0, 1].
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from sweep.statistics.estimates import CONFIDENCE, ROUNDING, WIDEST, Estimate, Floats, student

PILOT = 256
"""Chips of the first stage: fewer do not tell the variance of estimates with unequal weights."""
FIRST_SHARE = 0.5
"""Of the chips that the pilot asks for, those of the second stage, which tell the variance better."""
RESERVE = 1.02
"""By so much more than what the variance asks for, the last stage is larger: it is seldom followed by another."""
SECOND_SHARE = 0.25
"""The same, of the stage behind the chips that a coarse mean takes: controls may have made the others fewer."""
COARSE = 0.005
"""A half-width of means that are not worth controls of the draw, whose gradients cost as much as thousands of chips."""
CAUTION = 1.1
"""By so much more than what `COARSE` asks for by the pilot's variance, chips are without: it seldom takes more."""
SHIFT = 0.4
"""This part of the variance of the estimates is added to that between chips, for a scale on which errors are even."""
FREEDOM = 1.5
"""Degrees of freedom of the error of a variance, times (kurtosis - 1)/chips: 2 were its kurtosis known."""
_ENDLESS = 1e15  # chips
_TELL = 64  # chips, whose variance is taken for that of those to come
_FEWEST_FREEDOM = 2.0
_LONGEST = 50.0  # on the log scale; beyond lies no limit that would be used
_NEAR = 1e-9  # standard errors, to which limits are searched for


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
    V = Cov(e₁, e₂) = Var((e₁ + e₂)/2) - E(e₁ - e₂)²/4: the mean of one term a chip, which has a standard error. Errors
    grow with V, so that the interval is on the scale log(V + `SHIFT` · Var((e₁ + e₂)/2)). Terms have long tails, and
    their error is itself an estimate: the quantile is Student's with Satterthwaite's (1946) degrees of freedom,
    2n/(κ - 1) with κ the kurtosis of the terms, or three quarters of that, as few chips rarely show all of κ. V is
    never below 0, and where it is near, limits are those of `not_negative`.

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
    if np.ptp(terms) < ROUNDING**2:
        low, high = variance, variance
    else:
        error, shift = float(terms.std(ddof=1)) / math.sqrt(n), SHIFT * total
        kurtosis = float(np.mean(((terms - variance) / terms.std()) ** 4))
        freedom = min(max(FREEDOM * n / max(kurtosis - 1, ROUNDING), _FEWEST_FREEDOM), n - 1.0)
        relative = error / (max(variance, 0.0) + shift)
        at = math.log1p(variance / shift) / relative if variance > 0 else variance / error
        stretch = student(freedom) / student(math.inf)
        low, high = (
            shift * math.expm1(min(limit * stretch * relative, _LONGEST)) for limit in not_negative(at / stretch)
        )
    return Estimate(*(min(math.sqrt(max(v, 0.0)), WIDEST) for v in (variance, low, high)))


def not_negative(at: float) -> tuple[float, float]:
    """The 95 % limits of a mean that is 0 or more, of which a normal estimate with standard error 1 is `at`.

    Each mean has those estimates for it that speak for it best, in comparison with the likeliest mean of 0 or more
    (Feldman & Cousins 1998). Far from 0 the limits are `at` ± 1.96; near it they hold just as often, and are never
    below it, nor empty, as plain limits cut off at 0 would be.
    """
    inside, found = max(at, 0.0), []
    for outside in (0.0, inside + student(math.inf) + 1):
        held, missed = inside, outside
        if outside == 0 and at <= special.ndtri(CONFIDENCE):
            held, missed = 0.0, 0.0
        while abs(missed - held) > _NEAR:
            middle = (held + missed) / 2
            held, missed = (middle, missed) if _as_far(at, middle) > 1 - CONFIDENCE else (held, middle)
        found.append(held)
    return found[0], found[1]


def _as_far(at: float, mean: float) -> float:
    """The probability of an estimate that speaks for this mean, above 0, no more than one at `at` does."""
    ratio = (at * mean if at < 0 else at * mean - at**2 / 2) - mean**2 / 2  # logarithm of the likelihoods' ratio
    away = math.sqrt(-2 * min(ratio, 0.0))
    below = mean - away if away <= mean else ratio / mean + mean / 2
    return float(special.ndtr(-away) + special.ndtr(below - mean))


def uncontrolled(estimates: ArrayLike) -> int | None:
    """How many chips of a cell go without controls of the draw, and tell by which factors the others have them.

    It depends on the first `PILOT` alone, whatever precision is asked for; None where these are not there.
    """
    values = np.asarray(estimates, np.float64)[:PILOT]
    return max(PILOT, math.ceil(CAUTION * _wanted(values, COARSE))) if len(values) == PILOT else None


def chips_for(
    estimates: ArrayLike,
    half_width: float,
    least: int = PILOT,
    most: int | None = None,
    lot: int = 1,
    controls: bool = True,
) -> int:
    """How many chips a half-width asks for, as far as the first ones tell: the mean of so many, or of more, has it.

    Triple sampling (Hall 1981): a pilot; then a part of the chips that its variance asks for; then all that the
    variance so far asks for, and so on while these do not give it. No stage goes from the `uncontrolled` chips to those
    behind them, whose variance may be smaller: it is that of the latter that tells how many more it takes. Of the chips
    that are there, only those count by which the stages would have been decided without the others, so that whoever
    goes on later, or to a smaller half-width, comes to the same number.

    Args:
        estimates: of the chips that are there, in the order in which they are drawn; shape (n,), maybe (0,).
        half_width: of the 95 % interval of the mean, a fraction.
        least: chips of the pilot, two at least.
        most: chips at most; None for no bound.
        lot: chips come in lots of so many, but for the last ones before `most`.
        controls: whether chips behind the `uncontrolled` ones may have controls, so that these are a stage.

    Returns:
        The number of chips that are needed to know more; not above `n` when the mean is known.
    """
    values = np.asarray(estimates, np.float64)
    bound = math.inf if most is None else most

    def lots(chips: float) -> float:
        return min(math.ceil(chips / lot) * lot, bound)

    coarse, size, share = uncontrolled(values) if controls else None, lots(max(least, 2)), FIRST_SHARE
    border = 0 if not controls else PILOT if coarse is None else coarse
    while True:
        if size > border and len(values) < border:
            return border
        if size >= bound or size > len(values):
            return int(size)
        wanted = _wanted(values[: int(size)], half_width, coarse)
        if wanted <= size:
            return int(size)
        everything = math.ceil(RESERVE * wanted)
        if size < border < everything:
            grown = border
        elif size == border:
            grown = min(everything, max(2 * border, math.ceil(SECOND_SHARE * everything)))
        else:
            grown = math.ceil(share * RESERVE * wanted)
        size, share = lots(max(size, grown)), 1.0


def expected_chips(estimates: ArrayLike, half_width: float) -> int:
    """How many chips a half-width will probably take, by two or more that are there."""
    values = _sample(estimates)
    return math.ceil(RESERVE * _wanted(values, half_width, uncontrolled(values)))


def _wanted(values: Floats, half_width: float, uncontrolled: int | None = None) -> float:
    """Chips that give this half-width, if the variance of others is that of these, or of those behind `uncontrolled`.

    With n of variance v there and others of variance w to come, the mean of m has the variance (n v + (m - n) w)/m².
    Where that is beyond all numbers it is `_ENDLESS`.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            found = _asked(values, half_width, uncontrolled)
    except OverflowError:
        return _ENDLESS
    return found if found < _ENDLESS else _ENDLESS


def _asked(values: Floats, half_width: float, uncontrolled: int | None) -> float:
    n, variance = len(values), float(values.var(ddof=1))
    weight = (student(n - 1) / half_width) ** 2
    behind = values[n if uncontrolled is None else uncontrolled :]
    if len(behind) < _TELL:
        return weight * variance
    half = weight * float(behind.var(ddof=1)) / 2
    return half + math.sqrt(max(half**2 + n * (weight * variance - 2 * half), 0.0))


def _reach(sample: Floats) -> float:
    if np.ptp(sample) < ROUNDING:
        return 0.0
    return student(sample.size - 1) * float(sample.std(ddof=1)) / math.sqrt(sample.size)


def _sample(values: ArrayLike) -> Floats:
    sample = np.asarray(values, np.float64)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"expected finite values of one axis, one per chip; got shape {sample.shape}")
    return sample
