"""Curves inverted: how far one can go, and the noise that costs as much accuracy as rounding to b bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweep.statistics import estimates
from sweep.statistics.estimates import ROUNDING, Estimate, Floats
from sweep.statistics.monotone import (
    Curve,
    falling,
    furthest,
    interpolate,
    normal_means,
    percentile_limits,
    resampled_means,
)

Spacing = Literal["linear", "square", "log"]

DRAWS = 2000
"""Bootstrap replicates."""

_STEP_STD = 1 / np.sqrt(12)  # of an error spread evenly over a step of 1


class Threshold(NamedTuple):
    """The furthest level that keeps the accuracy within a drop.

    Attributes:
        drop: from the clean accuracy, a fraction.
        limit: the accuracy to keep.
        level, level_low, level_high: with its 95 % interval; nan where it lies outside the sweep, and where too few
            chips cannot give a limit.
        outside: empty, "beyond 0.16" where even the last level keeps the limit, or "before 0.04" where the first breaks
            it already.
        swept: the last of the levels that were run up to which all estimates keep the limit; nan where none does.
    """

    drop: float
    limit: float
    level: float
    level_low: float
    level_high: float
    outside: str
    swept: float


class Equivalents(NamedTuple):
    """Noise levels that cost as much accuracy as so many bits; each of shape (bits,).

    Attributes:
        bits: falling.
        accuracy: their mean, a fraction.
        level, level_low, level_high: of equal mean accuracy, with a 95 % interval; nan outside the sweep.
        outside: empty, "above 0.16" where even the highest level costs less, "below 0.04" where the lowest costs more.
        theory: the level whose standard deviation is that of rounding where a step is small against the weights,
            2^-b/√12.
    """

    bits: Floats
    accuracy: Floats
    level: Floats
    level_low: Floats
    level_high: Floats
    outside: NDArray[np.str_]
    theory: Floats


class Claims(NamedTuple):
    """What someone says about bits and noise, beside what was measured; each of shape (claims,).

    Attributes:
        bits, claimed: the level that is said to cost as much as so many bits.
        level, level_low, level_high, outside: as in `Equivalents`.
        difference, difference_low, difference_high: mean accuracy with so many bits less that at the claimed level,
            fractions; nan where the level lies outside the sweep.
        holds: whether the claimed level lies within the interval; None where the sweep does not reach far enough.
    """

    bits: Floats
    claimed: Floats
    level: Floats
    level_low: Floats
    level_high: Floats
    outside: NDArray[np.str_]
    difference: Floats
    difference_low: Floats
    difference_high: Floats
    holds: list[bool | None]


def thresholds(
    curve: Curve,
    clean: float,
    drops: Sequence[float],
    quantile: float | None = None,
    fewest: bool = False,
    spacing: Spacing = "linear",
) -> list[Threshold]:
    """The furthest level that keeps the mean accuracy, or a quantile of it, within a drop of the clean accuracy.

    The estimates at the levels, made to fall and joined by monotone cubics, are inverted at the limit; and so are their
    lower and upper 95 % limits, which gives the interval: the levels whose own interval holds the limit (inversion of a
    test, as in Casella & Berger 2002, Statistical Inference, 2nd ed., section 9.2.1). It is on this test set. Where
    means come from estimates, whose errors at two levels are nearly independent, limits of both together would be too
    wide: the interval is then that of the bootstrap, as in `equivalent_levels`.

    Args:
        curve: accuracy over levels.
        clean: accuracy without perturbation, a fraction.
        drops: how much may be lost, fractions: 0.01 is one point.
        quantile: None for the mean over chips; 0.05 for the accuracy that 95 % of chips pass.
        fewest: the smallest level is sought instead, as for bits.
        spacing: the scale on which levels are interpolated: "linear"; "square" for the scale of a noise (accuracy goes
            with its power; see docs/statistics.md); "log" for times, all of them positive.

    Returns:
        One for each drop.

    Raises:
        ValueError: levels that the spacing does not allow, fewer than two levels, a drop that is negative, or a
            quantile of estimates, which are no accuracies of chips.
    """
    if min(drops, default=0) < 0:
        raise ValueError(f"drops: expected fractions from 0; got {min(drops):g}")
    if curve.levels.size < 2:
        raise ValueError("curve: expected two levels or more")
    if quantile is not None and curve.estimated.any():
        raise ValueError("quantile: the curve's values are estimates for the mean, not accuracies of chips")
    axis = _axis(curve.levels, spacing)
    few = np.broadcast_to(curve.estimated, curve.levels.shape)
    cells = zip(curve.accuracies, curve.exact.tolist(), few.tolist(), strict=True)
    kind = quantile, curve.bounded
    table = np.array([_estimate(row[~np.isnan(row)], exact, estimated, *kind) for row, exact, estimated in cells])
    means = normal_means(curve.accuracies, DRAWS, np.random.default_rng(0)) if curve.estimated.any() else None
    if fewest:
        axis, table, means = -axis[::-1], table[::-1], None if means is None else means[:, ::-1]
    ends = curve.levels[::-1] if fewest else curve.levels
    limits = clean - np.asarray(drops, dtype=np.float64)
    rows = []
    for drop, limit in zip(drops, limits, strict=True):
        level, low, high = (_invert(axis, column, limit) for column in table.T)
        if means is not None:
            low, high = percentile_limits(furthest(axis, falling(means), limit), curve.chips)
        keeps = np.logical_and.accumulate(table[:, 0] >= limit - ROUNDING)
        outside = f"beyond {ends[-1]:g}" if level == np.inf else f"before {ends[0]:g}" if level == -np.inf else ""
        # The cubics through estimates and through their limits can cross where levels are far apart.
        low, high = min(low, level), max(high, level)
        # A limit beyond the other edge is that edge.
        low, high = (axis[-1] if low == np.inf else low), (axis[0] if high == -np.inf else high)
        back = [_back(x, fewest, spacing) for x in (level, low, high)]
        level, low, high = (back[0], back[2], back[1]) if fewest else back
        swept = ends[np.count_nonzero(keeps) - 1] if keeps[0] else np.nan
        rows.append(Threshold(drop, limit, level, low, high, outside, swept))
    return rows


def equivalent_levels(noise: Curve, rounding: Curve, std_per_level: float = 1.0, seed: int = 0) -> Equivalents:
    """For each bit-width the largest noise level whose mean accuracy is still as high.

    The mean accuracies of the noise levels, made to fall (isotonic regression) and joined by monotone cubics over the
    square of the level (accuracy goes with the noise's power), are inverted at the mean of each bit-width. The interval
    is a bootstrap over chips, the same chips for all levels and bit-widths as they share their draws; it is on this
    test set, for this network, and the error of interpolating between two levels is not in it. Where means come from
    estimates of many chips, they are drawn from the normal law that the bootstrap tends to.

    Args:
        noise: accuracy over noise levels, the level 0 among them where it was run.
        rounding: accuracy over bit-widths.
        std_per_level: the standard deviation of the noise at level 1: 1 for gaussian, 1/√12 for uniform noise on
            [0, level), 1/√3 for uniform noise on [-level, level).
        seed: of the bootstrap.
    """
    value, low, high, outside = _described(_levels_for_bits(noise, rounding, seed), noise.levels)
    theory = np.exp2(-rounding.levels) * _STEP_STD / std_per_level
    bits, accuracy = rounding.levels[::-1], rounding.means[::-1]
    return Equivalents(bits, accuracy, value[::-1], low[::-1], high[::-1], outside[::-1], theory[::-1])


def check_claims(noise: Curve, rounding: Curve, claims: Mapping[float, float], seed: int = 0) -> Claims:
    """What someone says about bits and noise, beside what was measured.

    Args:
        noise, rounding: as in `equivalent_levels`.
        claims: bit-width → the noise level that is said to cost as much accuracy.

    Raises:
        ValueError: a claim about bits that were not run.
    """
    bits, claimed = np.array(list(claims), dtype=np.float64), np.array(list(claims.values()), dtype=np.float64)
    missing = sorted(set(bits) - set(rounding.levels))
    if missing:
        there = ", ".join(f"{level:g}" for level in rounding.levels)
        raise ValueError(f"claims: {missing[0]:g} bits were not run; there are {there}")
    rows = np.searchsorted(rounding.levels, bits)
    found = [column[rows] for column in _levels_for_bits(noise, rounding, seed)]

    def cost(ours: Floats, theirs: Floats) -> Floats:
        curves = falling(ours)
        return np.array([theirs[:, row] - interpolate(noise.levels**2, curves, level**2) for row, level in
                         zip(rows, claimed, strict=True)]).T  # fmt: skip

    _, low, high = found
    first, last = noise.levels[[0, -1]]
    unknown = ((claimed > last) & (high > last)) | ((claimed < first) & (low < first)) | np.isnan(low)
    holds = [
        None if unsure else a <= level <= b
        for unsure, a, level, b in zip(*(x.tolist() for x in (unknown, low, claimed, high)), strict=True)
    ]
    difference = _bootstrap(noise, rounding, cost, seed)
    return Claims(bits, claimed, *_described(found, noise.levels), *difference, holds)


def _axis(levels: Floats, spacing: Spacing) -> Floats:
    if spacing == "log" and levels[0] <= 0:
        raise ValueError(f"curve: level {levels[0]:g} has no logarithm")
    if spacing == "square" and levels[0] < 0:
        raise ValueError(f"curve: level {levels[0]:g} is negative; squares would not rise")
    return levels if spacing == "linear" else np.asarray(levels**2 if spacing == "square" else np.log(levels))


def _back(position: float, fewest: bool, spacing: Spacing) -> float:
    """From the axis to a level; nan where it is outside."""
    if not np.isfinite(position):
        return np.nan
    level = -position if fewest else position
    return float(np.exp(level) if spacing == "log" else np.sqrt(level) if spacing == "square" else level)


def _estimate(accuracies: Floats, exact: bool, estimated: bool, quantile: float | None, bounded: bool) -> Estimate:
    if exact:
        return Estimate(*(float(accuracies[0]),) * 3)
    if estimated:  # their limits are those of the bootstrap
        return Estimate(float(accuracies.mean()), np.nan, np.nan)
    if quantile is None:
        return estimates.mean(accuracies, bounded)
    return estimates.quantile(accuracies, quantile, bounded)


def _invert(axis: Floats, column: Floats, limit: float) -> float:
    """Where one column of estimates or limits crosses; nan where some are missing."""
    return np.nan if np.isnan(column).any() else float(furthest(axis, falling(column), limit)[0])


def _levels_for_bits(noise: Curve, rounding: Curve, seed: int) -> tuple[Floats, Floats, Floats]:
    """The level of each bit-width and its limits, infinite outside the sweep."""

    def invert(ours: Floats, theirs: Floats) -> Floats:
        curves = falling(ours)
        squares = np.array([furthest(noise.levels**2, curves, target) for target in theirs.T]).T
        return np.asarray(np.copysign(np.sqrt(np.abs(squares)), squares), dtype=np.float64)

    return _bootstrap(noise, rounding, invert, seed)


def _bootstrap(
    noise: Curve, rounding: Curve, estimator: Callable[[Floats, Floats], Floats], seed: int
) -> tuple[Floats, Floats, Floats]:
    """Estimates and 95 % limits, each of shape (k,).

    The estimator takes means, (draws, levels) and (draws, bits), to (draws, k).
    """
    seeds = np.union1d(noise.seeds, rounding.seeds).astype(np.int64)
    both = np.vstack([_aligned(noise, seeds), _aligned(rounding, seeds)])
    estimate = estimator(noise.means[None], rounding.means[None])[0]
    if seeds.size == 0:
        return estimate, estimate, estimate
    estimated = bool(noise.estimated.any() or rounding.estimated.any())
    resampled = normal_means if estimated else resampled_means
    chips = min(curve.chips for curve in (noise, rounding) if curve.chips) if estimated else seeds.size
    means = resampled(both, DRAWS, np.random.default_rng(seed))
    replicates = estimator(means[:, : noise.levels.size], means[:, noise.levels.size :])
    low, high = np.array([percentile_limits(column, chips) for column in replicates.T]).T
    return estimate, low, high


def _aligned(curve: Curve, seeds: NDArray[np.int64]) -> Floats:
    """Accuracies over these seeds, nan where there are none; shape (levels, seeds)."""
    whole = np.full((curve.levels.size, max(seeds.size, 1)), np.nan)
    whole[:, np.isin(seeds, curve.seeds)] = curve.accuracies if curve.seeds.size else np.nan
    whole[curve.exact] = curve.means[curve.exact, None]
    return whole


def _described(found: Sequence[Floats], swept: Floats) -> tuple[Floats, Floats, Floats, NDArray[np.str_]]:
    """Value, limits and side: what lies outside the sweep becomes nan, a limit on its near side its edge."""
    value, low, high = found
    side = np.where(value == np.inf, f"above {swept[-1]:g}", np.where(value == -np.inf, f"below {swept[0]:g}", ""))
    low, high = np.minimum(low, high), np.maximum(low, high)
    low = np.where(low == np.inf, swept[-1], np.where(low == -np.inf, np.nan, low))
    high = np.where(high == -np.inf, swept[0], np.where(high == np.inf, np.nan, high))
    return np.where(np.isinf(value), np.nan, value), low, high, side
