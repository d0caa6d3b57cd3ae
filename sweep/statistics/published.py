"""Published values against measured ones: their percentiles among our chips, and whether a whole table fits.

A published value is one draw: one chip of someone else's. The question is whether it could be one of ours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special  # not stats, which takes a second to import

from sweep.statistics import estimates
from sweep.statistics.estimates import ROUNDING, Estimate, Floats

TABLES = 20_000
"""Tables drawn to find how often chance alone fits as badly."""

_RIDGE = 1e-3  # of a correlation matrix: levels whose chips rank alike leave it without an inverse


class Fit(NamedTuple):
    """Whether a published table could be one of ours.

    Attributes:
        independent: p-value where each published value is a chip of its own.
        common: p-value where one chip, scaled, gave the whole table.
        levels: published values with a distribution to compare with.
        chips: of ours, at each level.
    """

    independent: float
    common: float
    levels: int
    chips: int


def percentile(accuracies: ArrayLike, published: float) -> Estimate:
    """The share of all chips below a published accuracy, ties counted half (mid-p), with Wilson's 95 % interval.

    Args:
        accuracies: fractions in [0, 1], one per chip; shape (n,).
        published: a fraction.

    Raises:
        ValueError: no chips, more than one axis, or values that are not fractions.
    """
    sample = estimates.sample_of(accuracies)
    below = np.count_nonzero(sample < published - ROUNDING)
    ties = np.count_nonzero(np.abs(sample - published) <= ROUNDING)
    return estimates.wilson(below + ties / 2, sample.size)


def fit(accuracies: ArrayLike, published: ArrayLike, seed: int = 0) -> Fit:
    """Test whether a published table, one draw at each level, could come from the law of our chips.

    Each value is ranked among our chips at its level; with rank r of n + 1, its normal score is
    z = Φ⁻¹((r - 1/2)/(n + 1)). No law is assumed.

    `independent`: the statistic is Σ z², which sees values that are too low, too high, or both (Stouffer's Σ z would
    let them cancel, Fisher's sum of logarithms is one-sided); its law is drawn from independent ranks.

    `common`: chips that do well at one level do well at the next, so a table from one chip has correlated scores. The
    statistic is zᵀR⁻¹z with R the correlation of our chips' scores; its rank among our own chips' is the p-value, exact
    for any law since the published chip and ours are exchangeable (a permutation test; Vovk, Gammerman & Shafer 2005,
    Algorithmic Learning in a Random World, section 2.2).

    Where a code draws afresh at each setting without a seed, `independent` is the one to read.

    Args:
        accuracies: of our chips, fractions; shape (chips, levels).
        published: shape (levels,).
        seed: of the draws for `independent`.

    Returns:
        p-values: small where the table does not fit. Their false-alarm rates are in docs/statistics.md.

    Raises:
        ValueError: shapes that do not agree, no level, or fewer than two chips.
    """
    ours, theirs = np.asarray(accuracies, dtype=np.float64), np.asarray(published, dtype=np.float64)
    if ours.ndim != 2 or theirs.shape != ours.shape[1:] or theirs.size == 0:
        raise ValueError(
            f"expected accuracies (chips, levels) and published (levels,); got {ours.shape}, {theirs.shape}"
        )
    n, levels = ours.shape
    if n < 2:
        raise ValueError(f"accuracies: expected two chips or more; got {n}")
    scores = _scores(np.vstack([ours, theirs]))
    squares = scores**2
    rng = np.random.default_rng(seed)
    drawn = sum(squares[rng.integers(n + 1, size=TABLES), level] for level in range(levels))
    independent = (1 + np.count_nonzero(drawn >= squares[-1].sum() - 1e-9)) / (TABLES + 1)
    spread = scores.T @ scores / (n + 1)
    distances = np.einsum("il,li->i", scores, np.linalg.solve(spread + _RIDGE * np.eye(levels), scores.T))
    common = np.count_nonzero(distances >= distances[-1] - 1e-9) / (n + 1)
    return Fit(float(independent), float(common), levels, n)


def _scores(table: Floats) -> Floats:
    """Normal scores of each column, ties at their mean rank; shape as given."""
    ordered = np.sort(table, axis=0)
    below = np.array([np.searchsorted(o, t, "left") for o, t in zip(ordered.T, table.T, strict=True)]).T
    up_to = np.array([np.searchsorted(o, t, "right") for o, t in zip(ordered.T, table.T, strict=True)]).T
    return np.asarray(special.ndtri((below + up_to) / 2 / len(table)), dtype=np.float64)
