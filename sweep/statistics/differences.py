"""How much one cell's mean accuracy differs from another's, chip by chip where their draws are shared."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sweep.statistics.estimates import ROUNDING, Floats, fractions, student


class Difference(NamedTuple):
    """A difference of two means, with its 95 % interval; fractions.

    Attributes:
        value, low, high: first less second; limits are nan where the data give none.
        pairs: the chips that were compared with themselves; 0 where the cells share no two.
    """

    value: float
    low: float
    high: float
    pairs: int


def difference(
    first: ArrayLike,
    second: ArrayLike,
    chips: tuple[ArrayLike, ArrayLike] | None = None,
    bounded: bool = True,
    widest: float = 1.0,
) -> Difference:
    """Estimate the difference of two cells' mean accuracies, first less second, with a 95 % interval.

    Trials with the same seed share their draws, so that chips are compared with themselves: Student's t on the
    differences over common chips (common random numbers: Law 2015, Simulation Modeling and Analysis, 5th ed., section
    11.2). The trials of other chips are then left out, of the value too. Where fewer than two are common, Welch's t on
    all trials of both (Welch 1947, Biometrika 34, 28-35).

    Args:
        first, second: accuracies, fractions, one per chip, shape (n,) each; or the one accuracy of a cell without
            randomness, which is the same for every chip, shape ().
        chips: numbers of the chips of first and second, none twice, in the shape of each, such as their seeds; None
            where they have none in common.
        bounded: whether all values are accuracies. Estimates of chips that saw a few images, unbiased and one per chip
            as well, may lie outside [0, 1]; so may other measures.
        widest: the largest difference that there can be; infinity for measures without bounds.

    Returns:
        The difference and limits within [-widest, widest]. No limits (nan) where a random cell has one trial.
        Differences that are all equal have an interval of no width.

    Raises:
        ValueError: no trials, repeated chips, or values that are not fractions, or not finite.
    """
    a, b = _accuracies(first, "first", bounded), _accuracies(second, "second", bounded)
    samples = [cell for cell in (a, b) if cell.ndim]
    value = float(np.mean(a) - np.mean(b))
    pairs = 0
    if len(samples) == 2 and chips is not None:
        ours, theirs = (_distinct(found, name) for found, name in zip(chips, ("first", "second"), strict=True))
        common, of_a, of_b = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
        if common.size > 1:
            samples = [a[of_a] - b[of_b]]
            value, pairs = float(samples[0].mean()), common.size
    if not samples:
        return Difference(value, value, value, 0)
    if min(sample.size for sample in samples) < 2:
        return Difference(value, np.nan, np.nan, pairs)
    squares = np.array([sample.var(ddof=1) / sample.size for sample in samples])
    total = squares.sum()
    size = 1.0 if np.isfinite(widest) else max(float(np.abs(cell).max()) for cell in (a, b))
    if total < (ROUNDING * size) ** 2 or total == 0:
        return Difference(value, value, value, pairs)
    freedom = total**2 / np.sum(squares**2 / np.array([sample.size - 1 for sample in samples]))
    reach = float(student(freedom) * np.sqrt(total))
    low, high = (min(max(limit, -widest), widest) for limit in (value - reach, value + reach))
    return Difference(value, low, high, pairs)


def _accuracies(cell: ArrayLike, name: str, bounded: bool) -> Floats:
    values = fractions(cell, name) if bounded else np.asarray(cell, np.float64)
    if values.size == 0:
        raise ValueError(f"{name}: empty; a difference needs at least one trial of either cell")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: expected finite values")
    return values


def _distinct(chips: ArrayLike, name: str) -> NDArray[np.int64]:
    numbers = np.asarray(chips, dtype=np.int64)
    found, times = np.unique(numbers, return_counts=True)
    if (times > 1).any():
        raise ValueError(f"{name}: chip {found[times > 1][0]} is there twice")
    return numbers
