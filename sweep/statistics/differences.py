"""How much one cell's mean accuracy differs from another's, chip by chip where their draws are shared."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special  # not stats, which takes a second to import

from sweep.statistics.estimates import CONFIDENCE

_ROUNDING = 1e-12  # accuracies are counts over images; closer ones differ by arithmetic only


class Difference(NamedTuple):
    """A difference of two means, with its 95 % interval; fractions.

    Attributes:
        value, low, high: first less second; limits are nan where the data give none.
        pairs: the chips that were compared with themselves; 0 where the cells share no two seeds.
    """

    value: float
    low: float
    high: float
    pairs: int


def difference(first: pd.Series | float, second: pd.Series | float) -> Difference:
    """Estimate the difference of two cells' mean accuracies, first less second, with a 95 % interval.

    Trials with the same seed share their draws, so that chips are compared with themselves: Student's t on the
    differences over common seeds (common random numbers: Law 2015, Simulation Modeling and Analysis, 5th ed., section
    11.2). The trials of other seeds are then left out, of the value too. Where fewer than two seeds are common, Welch's
    t on all trials of both (Welch 1947, Biometrika 34, 28-35).

    Args:
        first, second: accuracies, fractions, indexed by seed, each seed once; or the one accuracy of a cell without
            randomness, which is the same for every chip.

    Returns:
        The difference and limits within [-1, 1]. No limits (nan) where a random cell has one trial. Differences that
        are all equal have an interval of no width.

    Raises:
        ValueError: no trials, repeated seeds, or values that are not fractions.
    """
    a, b = _by_seed(first, "first"), _by_seed(second, "second")
    samples = [cell.to_numpy() for cell in (a, b) if isinstance(cell, pd.Series)]
    value = float(np.mean(a) - np.mean(b))
    pairs = 0
    if isinstance(a, pd.Series) and isinstance(b, pd.Series):
        common = a.index.intersection(b.index)
        if len(common) > 1:
            samples = [(a.loc[common] - b.loc[common]).to_numpy()]
            value, pairs = float(samples[0].mean()), len(common)
    if not samples:
        return Difference(value, value, value, 0)
    if min(sample.size for sample in samples) < 2:
        return Difference(value, np.nan, np.nan, pairs)
    squares = np.array([sample.var(ddof=1) / sample.size for sample in samples])
    total = squares.sum()
    if total < _ROUNDING**2:
        return Difference(value, value, value, pairs)
    freedom = total**2 / np.sum(squares**2 / np.array([sample.size - 1 for sample in samples]))
    reach = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2) * np.sqrt(total))
    return Difference(value, max(value - reach, -1.0), min(value + reach, 1.0), pairs)


def _by_seed(cell: pd.Series | float, name: str) -> pd.Series | float:
    values = np.atleast_1d(np.asarray(cell, dtype=np.float64))
    if values.size == 0:
        raise ValueError(f"{name}: empty; a difference needs at least one trial of either cell")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"{name}: expected accuracies as fractions in [0, 1]")
    if not isinstance(cell, pd.Series):
        return float(values[0])
    if not cell.index.is_unique:
        raise ValueError(f"{name}: seed {cell.index[cell.index.duplicated()][0]} is there twice")
    return cell.astype(np.float64)
