"""Noise-equivalent bits: the noise that costs as much accuracy as rounding to b bits, and the reverse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweep.statistics.monotone import (
    Array,
    Curve,
    falling,
    furthest,
    interpolate,
    percentile_limits,
    resampled_means,
)

DRAWS = 2000
"""Bootstrap replicates."""

_STEP_STD = 1 / np.sqrt(12)  # of an error spread evenly over a step of 1


def step_noise(bits: Array) -> Array:
    """The standard deviation of rounding to b fractional bits, 2^-b/√12, where a step is small against the weights."""
    return np.asarray(np.exp2(-bits) * _STEP_STD, dtype=np.float64)


def article_noise(bits: Array) -> Array:
    """What the article takes for it, a third of a step: 2^-b/3."""
    return np.asarray(np.exp2(-bits) / 3, dtype=np.float64)


def equivalent_levels(noise: Curve, rounding: Curve, std_per_level: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """For each bit-width the largest noise level whose mean accuracy is still as high.

    The mean accuracies of the noise levels, made to fall (isotonic regression) and joined by monotone cubics over the
    square of the level (accuracy goes with the noise's power), are inverted at the mean of each bit-width. The interval
    is a bootstrap over chips, the same chips for all levels and bit-widths as they share their draws; it is on this
    test set, for this network, and the error of interpolating between two levels is not in it.

    Args:
        noise: accuracy over noise levels, the level 0 among them where it was run.
        rounding: accuracy over bit-widths.
        std_per_level: the standard deviation of the noise at level 1: 1 for gaussian, 1/√12 for uniform noise on
            [0, level), 1/√3 for uniform noise on [-level, level).
        seed: of the bootstrap.

    Returns:
        One row per bit-width, falling: `bits`, `accuracy` (its mean, a fraction), `level`, `level_low`, `level_high`,
        `outside` (empty, or "above 0.16" where even the highest level costs less, "below 0.04" where the lowest costs
        more), and in the same unit `theory`, the level whose standard deviation is 2^-b/√12, and `article`, 2^-b/3.
        What lies outside the swept levels is nan.
    """
    found = _match(noise, rounding, falls_with_first=True, seed=seed)
    bits = rounding.levels
    table = pd.DataFrame({"bits": bits, "accuracy": rounding.means})
    table[["level", "level_low", "level_high", "outside"]] = _described(found, noise.levels)
    table["theory"] = step_noise(bits) / std_per_level
    table["article"] = article_noise(bits)
    return table.iloc[::-1].reset_index(drop=True)


def equivalent_bits(noise: Curve, rounding: Curve, std_per_level: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """For each noise level the fewest bits, a fraction of one included, whose mean accuracy is still as high.

    As `equivalent_levels`, with the parts exchanged: the curve over bits is inverted.

    Returns:
        One row per noise level, rising: `level`, `accuracy`, `bits`, `bits_low`, `bits_high`, `outside` ("below 1"
        where even the fewest bits cost less than this noise, "above 32" where the most cost more), `theory` (the b with
        2^-b/√12 equal to the noise's standard deviation) and `article` (the b with 2^-b/3 equal to the level); inf at
        level 0.
    """
    found = _match(noise, rounding, falls_with_first=False, seed=seed)
    levels = noise.levels
    table = pd.DataFrame({"level": levels, "accuracy": noise.means})
    table[["bits", "bits_low", "bits_high", "outside"]] = _described(found, rounding.levels)
    with np.errstate(divide="ignore"):
        table["theory"] = -np.log2(levels * std_per_level / _STEP_STD)
        table["article"] = -np.log2(levels * 3)
    return table


def check_claims(noise: Curve, rounding: Curve, claims: Mapping[float, float], seed: int = 0) -> pd.DataFrame:
    """What someone says about bits and noise, beside what was measured.

    Args:
        noise, rounding: as in `equivalent_levels`.
        claims: bit-width → the noise level that is said to cost as much accuracy.

    Returns:
        One row per claim: `bits`, `claimed` (level), `level`, `level_low`, `level_high`, `outside` as in
        `equivalent_levels`; `difference`, `difference_low`, `difference_high`: mean accuracy with so many bits less
        that at the claimed level, fractions (nan where the level lies outside the sweep); `holds`: whether the claimed
        level lies within the interval; missing where the sweep does not reach far enough to say.

    Raises:
        ValueError: a claim about bits that were not run.
    """
    bits, claimed = np.array(list(claims), dtype=np.float64), np.array(list(claims.values()), dtype=np.float64)
    missing = sorted(set(bits) - set(rounding.levels))
    if missing:
        raise ValueError(f"claims: {missing[0]:g} bits were not run; there are {_listed(rounding.levels)}")
    rows = np.searchsorted(rounding.levels, bits)
    found = [column[rows] for column in _match(noise, rounding, falls_with_first=True, seed=seed)]
    table = pd.DataFrame({"bits": bits, "claimed": claimed})
    table[["level", "level_low", "level_high", "outside"]] = _described(found, noise.levels)

    def cost(ours: Array, theirs: Array) -> Array:
        curves = falling(ours)
        return np.array([theirs[:, row] - interpolate(noise.levels**2, curves, level**2) for row, level in
                         zip(rows, claimed, strict=True)]).T  # fmt: skip

    estimate, low, high = _bootstrap(noise, rounding, cost, seed)
    table["difference"], table["difference_low"], table["difference_high"] = estimate, low, high
    _, low, high = found
    first, last = noise.levels[[0, -1]]
    unknown = ((claimed > last) & (high > last)) | ((claimed < first) & (low < first)) | np.isnan(low)
    table["holds"] = pd.Series((low <= claimed) & (claimed <= high), dtype="boolean").mask(unknown)
    return table


def _match(noise: Curve, rounding: Curve, falls_with_first: bool, seed: int) -> tuple[Array, Array, Array]:
    """Estimates and limits, infinite outside the sweep; of levels for all bits, or of bits for all levels."""

    def levels_for_bits(ours: Array, theirs: Array) -> Array:
        curves = falling(ours)
        squares = np.array([furthest(noise.levels**2, curves, target) for target in theirs.T]).T
        return np.asarray(np.copysign(np.sqrt(np.abs(squares)), squares), dtype=np.float64)

    def bits_for_levels(ours: Array, theirs: Array) -> Array:
        curves = falling(theirs[:, ::-1])
        return -np.array([furthest(-rounding.levels[::-1], curves, target) for target in ours.T]).T

    return _bootstrap(noise, rounding, levels_for_bits if falls_with_first else bits_for_levels, seed)


def _bootstrap(
    noise: Curve, rounding: Curve, estimator: Callable[[Array, Array], Array], seed: int
) -> tuple[Array, Array, Array]:
    """Estimates and 95 % limits, each of shape (k,).

    The estimator takes means, (draws, levels) and (draws, bits), to (draws, k).
    """
    seeds = np.union1d(noise.seeds, rounding.seeds).astype(np.int64)
    both = np.vstack([_aligned(noise, seeds), _aligned(rounding, seeds)])
    estimate = estimator(noise.means[None], rounding.means[None])[0]
    if seeds.size == 0:
        return estimate, estimate, estimate
    means = resampled_means(both, DRAWS, np.random.default_rng(seed))
    replicates = estimator(means[:, : noise.levels.size], means[:, noise.levels.size :])
    low, high = np.array([percentile_limits(column, seeds.size) for column in replicates.T]).T
    return estimate, low, high


def _aligned(curve: Curve, seeds: NDArray[np.int64]) -> Array:
    """Accuracies over these seeds, nan where there are none; shape (levels, seeds)."""
    whole = np.full((curve.levels.size, max(seeds.size, 1)), np.nan)
    whole[:, np.isin(seeds, curve.seeds)] = curve.accuracies if curve.seeds.size else np.nan
    whole[curve.exact] = curve.means[curve.exact, None]
    return whole


def _described(found: Sequence[Array], swept: Array) -> pd.DataFrame:
    """Value, limits and side as columns: what lies outside the sweep becomes nan, a limit on its near side its edge."""
    value, low, high = found
    side = np.where(value == np.inf, f"above {swept[-1]:g}", np.where(value == -np.inf, f"below {swept[0]:g}", ""))
    low, high = np.minimum(low, high), np.maximum(low, high)
    low = np.where(low == np.inf, swept[-1], np.where(low == -np.inf, np.nan, low))
    high = np.where(high == -np.inf, swept[0], np.where(high == np.inf, np.nan, high))
    return pd.DataFrame({"v": np.where(np.isinf(value), np.nan, value), "l": low, "h": high, "s": side})


def _listed(levels: Array) -> str:
    return ", ".join(f"{level:g}" for level in levels)
