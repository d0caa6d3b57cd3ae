"""How far one can go: the largest noise, fewest bits or longest time that keep the accuracy, and the area below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from sweep.statistics import estimates
from sweep.statistics.estimates import Estimate
from sweep.statistics.monotone import Array, Curve, falling, furthest

Spacing = Literal["linear", "square", "log"]


def thresholds(
    curve: Curve,
    clean: float,
    drops: Sequence[float],
    quantile: float | None = None,
    fewest: bool = False,
    spacing: Spacing = "linear",
) -> pd.DataFrame:
    """The furthest level that keeps the mean accuracy, or a quantile of it, within a drop of the clean accuracy.

    The estimates at the levels, made to fall and joined by monotone cubics, are inverted at the limit; and so are their
    lower and upper 95 % limits, which gives the interval: the levels whose own interval holds the limit (inversion of a
    test, as in Casella & Berger 2002, Statistical Inference, 2nd ed., section 9.2.1). It is on this test set.

    Args:
        curve: accuracy over levels.
        clean: accuracy without perturbation, a fraction.
        drops: how much may be lost, fractions: 0.01 is one point.
        quantile: None for the mean over chips; 0.05 for the accuracy that 95 % of chips pass.
        fewest: the smallest level is sought instead, as for bits.
        spacing: the scale on which levels are interpolated: "linear"; "square" for the scale of a noise (accuracy goes
            with its power; see docs/statistics.md); "log" for times, all of them positive.

    Returns:
        One row per drop: `drop`, `limit` (the accuracy to keep), `level`, `low`, `high`, `outside`, `swept`. `outside`
        is empty, "beyond 0.16" where even the last level keeps the limit, or "before 0.04" where the first breaks it
        already; `level` is nan then, and so are limits that lie outside or that too few chips cannot give. `swept` is
        the last of the levels that were run up to which all estimates keep the limit (nan where none does).

    Raises:
        ValueError: levels that the spacing does not allow, fewer than two levels, or a drop that is negative.
    """
    if min(drops, default=0) < 0:
        raise ValueError(f"drops: expected fractions from 0; got {min(drops):g}")
    if curve.levels.size < 2:
        raise ValueError("curve: expected two levels or more")
    axis = _axis(curve.levels, spacing)
    estimates = [_estimate(row[~np.isnan(row)], exact, quantile) for row, exact in _rows(curve)]
    table = np.array(estimates)
    if fewest:
        axis, table = -axis[::-1], table[::-1]
    ends = curve.levels[::-1] if fewest else curve.levels
    limits = clean - np.asarray(drops, dtype=np.float64)
    rows = []
    for drop, limit in zip(drops, limits, strict=True):
        level, low, high = (_invert(axis, column, limit) for column in table.T)
        keeps = np.logical_and.accumulate(table[:, 0] >= limit - 1e-12)
        outside = f"beyond {ends[-1]:g}" if level == np.inf else f"before {ends[0]:g}" if level == -np.inf else ""
        # The cubics through estimates and through their limits can cross where levels are far apart.
        low, high = min(low, level), max(high, level)
        # A limit beyond the other edge is that edge.
        low, high = (axis[-1] if low == np.inf else low), (axis[0] if high == -np.inf else high)
        back = [_back(x, fewest, spacing) for x in (level, low, high)]
        level, low, high = (back[0], back[2], back[1]) if fewest else back
        swept = ends[np.count_nonzero(keeps) - 1] if keeps[0] else np.nan
        rows.append((drop, limit, level, low, high, outside, swept))
    return pd.DataFrame(rows, columns=["drop", "limit", "level", "low", "high", "outside", "swept"])


def area(curve: Curve, logarithmic: bool = False) -> Estimate:
    """The area under the accuracy-level curve over the width of the sweep: the mean accuracy over its levels.

    By the trapezoidal rule for each chip on its own, so that what one chip has in common over the levels is not
    counted as if it were drawn anew at each; then as `statistics.mean`.

    Args:
        curve: accuracy over levels; only chips that were run at every random level count.
        logarithmic: over log level; all levels must be positive.

    Returns:
        A fraction and its 95 % interval: nan limits for one chip, no width without random cells.

    Raises:
        ValueError: no chip was run at every level, a level that has no logarithm, or fewer than two levels.
    """
    if curve.levels.size < 2:
        raise ValueError("curve: expected two levels or more")
    whole = curve.accuracies[:, ~np.isnan(curve.accuracies).any(axis=0)]
    if whole.shape[1] == 0:
        raise ValueError("curve: no chip was run at every level")
    axis = _axis(curve.levels, "log" if logarithmic else "linear")
    areas = np.clip(np.trapezoid(whole, axis, axis=0) / (axis[-1] - axis[0]), 0, 1)
    if curve.exact.all():
        return Estimate(float(areas[0]), float(areas[0]), float(areas[0]))
    return estimates.mean(areas)


def _rows(curve: Curve) -> list[tuple[Array, bool]]:
    return list(zip(curve.accuracies, curve.exact.tolist(), strict=True))


def _axis(levels: Array, spacing: Spacing) -> Array:
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


def _estimate(accuracies: Array, exact: bool, quantile: float | None) -> Estimate:
    if exact:
        return Estimate(*(float(accuracies[0]),) * 3)
    return estimates.mean(accuracies) if quantile is None else estimates.quantile(accuracies, quantile)


def _invert(axis: Array, column: Array, limit: float) -> float:
    """Where one column of estimates or limits crosses; nan where some are missing."""
    return np.nan if np.isnan(column).any() else float(furthest(axis, falling(column), limit)[0])
