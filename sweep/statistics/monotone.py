"""Accuracy as a monotone curve over the levels of one swept parameter: read off, inverted, resampled by chip."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sweep.statistics.estimates import ROUNDING, Floats, student

_HALVINGS = 60  # of an interval between two levels: to the last bit


@dataclass(frozen=True)
class Curve:
    """The trials of one family and one model, all other swept parameters fixed.

    Attributes:
        levels: rising; shape (levels,).
        seeds: of the random cells, rising; shape (chips,). Empty where no cell is random.
        accuracies: fractions; nan where a cell lacks a seed; the one accuracy of a cell without randomness stands for
            every seed. Shape (levels, chips), or (levels, 1) without seeds.
        exact: whether the level's cell is without randomness; shape (levels,).
        estimated: whether the level's values are estimates, unbiased and maybe outside [0, 1], rather than counts;
            shape (levels,), or () for all.
        bounded: whether the others are fractions; else they are of some other measure, negative where less is better.
    """

    levels: Floats
    seeds: NDArray[np.int64]
    accuracies: Floats
    exact: NDArray[np.bool_]
    estimated: NDArray[np.bool_] = field(default_factory=lambda: np.array(False))
    bounded: bool = True

    @property
    def chips(self) -> int:
        """The chips of the random level that has fewest; 0 where no level is random."""
        random = self.accuracies[~self.exact]
        return int(np.count_nonzero(~np.isnan(random), axis=1).min()) if len(random) else 0

    @property
    def means(self) -> Floats:
        """Mean accuracy at each level; shape (levels,)."""
        return np.asarray(np.nanmean(self.accuracies, axis=1), dtype=np.float64)


def curve_of(
    levels: ArrayLike,
    seeds: ArrayLike,
    accuracies: ArrayLike,
    exact: ArrayLike,
    estimated: ArrayLike = False,
    bounded: bool = True,
) -> Curve:
    """The curve of some trials, in any order.

    Args:
        levels, seeds, accuracies: of each trial; accuracies are fractions. Shape (trials,).
        exact: whether the trial's cell is without randomness; shape (trials,).
        estimated: whether what is given as its accuracy is an estimate; shape (trials,), or () for all.
        bounded: as in `Curve`.

    Raises:
        ValueError: no trials; two of one seed at one level, or a level that is partly exact: several cells, so that
            other swept parameters, or models, are not fixed.
    """
    values, fixed = np.asarray(accuracies, dtype=np.float64), np.asarray(exact, dtype=np.bool_)
    few = np.broadcast_to(np.asarray(estimated, dtype=np.bool_), values.shape)
    seed = np.asarray(seeds, dtype=np.int64)
    swept, row = np.unique(np.asarray(levels, dtype=np.float64), return_inverse=True)
    of_level, by_estimates = np.bincount(row, weights=fixed) > 0, np.bincount(row, weights=few) > 0
    every, of_all = np.unique(seed, return_inverse=True)
    distinct = np.unique(row * every.size + of_all)
    mixed = (of_level[row] != fixed) | (by_estimates[row] != few)
    if not values.size or distinct.size < values.size or mixed.any():
        raise ValueError("trials: expected one cell at each level, of one family and model, at least one")
    chips, column = np.unique(seed[~fixed], return_inverse=True)
    table = np.full((swept.size, max(chips.size, 1)), np.nan)
    table[row[~fixed], column] = values[~fixed]
    table[of_level] = (np.bincount(row, weights=values) / np.bincount(row))[of_level, None]
    return Curve(swept, chips, table, of_level, by_estimates, bounded)


def falling(values: ArrayLike) -> Floats:
    """The falling sequences nearest to these in least squares: isotonic regression.

    Barlow, Bartholomew, Bremner & Brunk 1972, Statistical Inference under Order Restrictions, chapter 1.

    Args:
        values: shape (..., levels); a sequence with a nan becomes nan.
    """
    from scipy.optimize import isotonic_regression  # takes a while to import

    y = np.asarray(values, dtype=np.float64)
    found = np.full((y.size // max(y.shape[-1], 1), y.shape[-1]), np.nan)
    for row, sequence in zip(found, y.reshape(found.shape), strict=True):
        if not np.isnan(sequence).any():
            row[:] = isotonic_regression(sequence, increasing=False).x
    return found.reshape(y.shape)


def furthest(levels: Floats, curves: ArrayLike, target: ArrayLike) -> Floats:
    """The largest level at which falling curves still reach a target.

    Between levels the curves are interpolated by cubics that stay monotone (Fritsch & Butland 1984, SIAM Journal on
    Scientific and Statistical Computing 5, 300-304: PCHIP).

    Args:
        levels: strictly rising; shape (levels,).
        curves: falling; shape (levels,) or (curves, levels).
        target: one for all curves, or one each; shape () or (curves,).

    Returns:
        Shape (curves,): -inf where even the lowest level misses the target, inf where the highest one passes it, so
        that the answer lies outside what was swept.
    """
    from scipy.interpolate import PchipInterpolator  # takes half a second to import

    y = np.atleast_2d(np.asarray(curves, dtype=np.float64))
    goal = np.broadcast_to(np.asarray(target, dtype=np.float64), y.shape[:1])
    reached = np.count_nonzero(y >= goal[:, None] - ROUNDING, axis=1)
    last = np.maximum(reached, 1) - 1
    met = y[np.arange(len(y)), last] <= goal + ROUNDING  # at a level, not between two
    found = np.where(reached == 0, -np.inf, np.where(met, levels[last], np.inf))
    (inside,) = np.nonzero((reached > 0) & (reached < len(levels)) & ~met)
    if inside.size == 0:
        return found
    segment = last[inside]
    c3, c2, c1, c0 = PchipInterpolator(levels, y.T).c[:, segment, inside]
    low, high = np.zeros(inside.size), np.diff(levels)[segment]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        keeps = ((c3 * middle + c2) * middle + c1) * middle + c0 >= goal[inside]
        low, high = np.where(keeps, middle, low), np.where(keeps, high, middle)
    found[inside] = levels[segment] + low
    return found


def interpolate(levels: Floats, curves: Floats, level: float) -> Floats:
    """Curves between levels, as `furthest` sees them; nan outside. Shapes (levels,), (curves, levels) → (curves,)."""
    from scipy.interpolate import PchipInterpolator

    return np.asarray(PchipInterpolator(levels, curves.T, extrapolate=False)(level), dtype=np.float64)


def resampled_means(accuracies: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Means over chips drawn with replacement: the bootstrap, the same chips at every level.

    Args:
        accuracies: nan where a level lacks a chip, as in `Curve`; shape (levels, chips).
        draws: how many times.

    Returns:
        Shape (draws, levels); where none of a level's chips was drawn, the mean of all of them.
    """
    chips = accuracies.shape[1]
    counts = rng.multinomial(chips, np.full(chips, 1 / chips), size=draws).astype(np.float64)
    there = ~np.isnan(accuracies)
    drawn = counts @ there.T
    means = counts @ np.where(there, accuracies, 0).T / np.maximum(drawn, 1)
    return np.asarray(np.where(drawn > 0, means, np.nanmean(accuracies, axis=1)), dtype=np.float64)


def normal_means(accuracies: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Means as other chips might give them, drawn from a normal law: what `resampled_means` tends to with many chips.

    The covariance is that of the resampled means (divisor n): of levels k and l the sum of (y_k - m_k)(y_l - m_l) over
    the chips that both have, divided by n_k · n_l. Levels may differ in their number of chips. With hundreds of chips
    means are normal, whatever the law of one (Casella & Berger 2002, section 5.5.3), and of tens of thousands a
    resampled table would be drawn thousands of times.

    Args:
        accuracies: or estimates, nan where a level lacks a chip, as in `Curve`; shape (levels, chips).
        draws: how many.

    Returns:
        Shape (draws, levels).
    """
    there = ~np.isnan(accuracies)
    means = np.nanmean(accuracies, axis=1)
    apart = np.where(there, accuracies - means[:, None], 0) / there.sum(axis=1)[:, None]
    variances, axes = np.linalg.eigh(apart @ apart.T)
    root = axes * np.sqrt(np.maximum(variances, 0)) @ axes.T  # the symmetric one: whatever the signs of the axes
    drawn = means + rng.standard_normal((draws, len(means))) @ root
    still = np.nanmax(accuracies, axis=1) - np.nanmin(accuracies, axis=1) < ROUNDING
    return np.asarray(np.where(still, means, drawn), dtype=np.float64)  # to the last bit: ties are looked for


def percentile_limits(replicates: Floats, chips: int) -> tuple[float, float]:
    """The 95 % interval from bootstrap replicates, infinite ones included.

    Percentiles, moved outwards as far as Student's t with chips - 1 degrees of freedom and the divisor n of the
    resampled variance ask for: the expanded percentile interval (Hesterberg 2015, What teachers should know about the
    bootstrap, The American Statistician 69, 371-386). One chip has none (nan).
    """
    if chips < 2:
        return np.nan, np.nan
    reach = np.sqrt(chips / (chips - 1)) * student(chips - 1)
    ordered = np.sort(replicates)
    rank = int(special.ndtr(-reach) * ordered.size)
    return float(ordered[rank]), float(ordered[-1 - rank])
