"""Noise-equivalent bits as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY
from sweep.reporting.figures import axis
from sweep.reporting.figures.style import COLOURS, PUBLISHED, PUBLISHED_POINTS, QUIET, RULE, add_legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_THEORY = "theory: step / √12"
_COLUMNS = ("bits", "level", "level_low", "level_high")


def equivalence_curve(axes: Axes, equivalent: pd.DataFrame, measure: Measure = ACCURACY) -> Axes:
    """Draw for each bit-width the noise level that costs as much accuracy.

    Args:
        axes: where to draw, the noise level on a logarithmic axis; its labels, ticks and legend are set.
        equivalent: one row per bit-width: `bits`, `level`, its 95 % interval `level_low` and `level_high`, and
            `theory`, the level that the rounding step suggests; `claimed`, what someone says of it, where there is
            such a column. Missing values are left out; a level with one limit has an arrow on the other side.
        measure: which is equal.
    """
    table = equivalent.sort_values("bits")
    bits = table["bits"].to_numpy(dtype=np.float64)
    shown = table[table["level"].notna() & (table["level"] > 0)]
    between = table[table["bits"].between(shown["bits"].min(), shown["bits"].max())]
    axes.plot(between["bits"], between["theory"], color=QUIET, linestyle="--", linewidth=1.3, label=_THEORY)
    at, value, low, high = (shown[name].to_numpy(dtype=np.float64) for name in _COLUMNS)
    axes.errorbar(
        at,
        value,
        yerr=[np.nan_to_num(value - low), np.nan_to_num(high - value)],
        color=COLOURS[0],
        marker="o",
        markersize=6.5,
        markeredgecolor="white",
        markeredgewidth=0.7,
        linewidth=1.2,
        elinewidth=1.6,
        capsize=4,
        label="measured, 95 % interval",
    )
    for missing, factor in ((low, 0.7), (high, 1 / 0.7)):
        for x, y in zip(at[np.isnan(missing)], value[np.isnan(missing)], strict=True):
            arrow = {"arrowstyle": "->", "color": COLOURS[0], "linewidth": 1.6, "shrinkA": 0}
            axes.annotate("", (x, y * factor), (x, y), arrowprops=arrow)
    if "claimed" in table and table["claimed"].notna().any():
        axes.plot(table["bits"], table["claimed"], label=PUBLISHED, **PUBLISHED_POINTS)
    axes.set_yscale("log")
    axis.dress(axes, at if at.size else bits, axis.Scale("whole"), "{:g}".format)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_xlabel("Weight bits (fixed point: fractional bits)")
    axes.set_ylabel(f"Noise level of equal {measure.average} (weight units)")
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    add_legend(axes)
    return axes
