"""Accuracy over kinds that have no order of size: layers above all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY
from sweep.reporting.figures.curves import FEWEST_FOR_BAND
from sweep.reporting.figures.style import MARKERS, RAMP, RULE, add_legend, mark, ramp, series_id
from sweep.reporting.labels import NO_LABELS, Labels, shared, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_REACH = 0.36  # of a row, above and below its middle


def layer_sensitivity(
    axes: Axes,
    summary: pd.DataFrame,
    category: str = "layer",
    parameter: str | None = None,
    labels: Labels = NO_LABELS,
    measure: Measure = ACCURACY,
) -> Axes:
    """Draw accuracy, or another measure, for each layer (or other kind), a row each; within it for each level.

    A marker is a mean; from 20 chips on a bar goes from the 5 % to the 95 % quantile over chips.

    Args:
        axes: where to draw; its labels, ticks and legend are set.
        summary: the cells of one family and one model, as `sweep.reporting.summary.summarise` returns them; one for
            each value of `category` and level.
        category: the column of rows, in the order of first appearance from the top.
        parameter: the column of levels; None where nothing else is swept.
        measure: of which `summary` is.
    """
    kinds = summary[category].unique().tolist()
    row = summary[category].map({kind: i for i, kind in enumerate(kinds)}).to_numpy(dtype=np.float64)
    levels = [None] if parameter is None else sorted(summary[parameter].unique().tolist())
    colours = ramp(min(len(levels), len(RAMP)))
    step = 2 * _REACH / max(len(levels), 1)
    for number, level in enumerate(levels):
        chosen = slice(None) if parameter is None else (summary[parameter] == level).to_numpy(dtype=bool)
        cells, y = summary[chosen], row[chosen] + (number - (len(levels) - 1) / 2) * step
        colour, series = colours[number * len(colours) // len(levels)], series_id(number)
        if cells["trials"].max() >= FEWEST_FOR_BAND:
            ends = measure.shown(cells["q05"]), measure.shown(cells["q95"])
            bars = axes.hlines(y, *ends, color=colour, linewidth=1.6, alpha=0.55)
            bars.set_gid(f"{series}-bars")
        (mean,) = axes.plot(
            measure.shown(cells["mean"]),
            y,
            linestyle="none",
            marker=MARKERS[number % len(MARKERS)],
            markersize=6.5,
            color=colour,
            markeredgecolor="white",
            markeredgewidth=0.7,
            label=None if parameter is None else f"{parameter} {value_text(parameter, level, labels)}",
            zorder=3,
        )
        mean.set_gid(f"{series}-mean")
        mark(axes, cells["cell"].tolist(), measure.shown(cells["mean"]).tolist(), y.tolist(), series)
    families = summary["family"].unique().tolist()
    axes.set_yticks(range(len(kinds)), [str(kind) for kind in kinds])
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.set_ylabel(str(shared(category, labels, families)))
    axes.set_xlabel(measure.axis)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    for border in np.arange(len(kinds) - 1) + 0.5:
        axes.axhline(border, color=RULE, linewidth=0.6, zorder=0)
    axes.tick_params(axis="y", length=0)
    axes.set_axisbelow(True)
    meaning = [] if parameter is None else [str(shared(parameter, labels, families))]
    if summary["trials"].max() >= FEWEST_FOR_BAND:
        meaning.append("bar: 5 % to 95 % of chips")
    add_legend(axes, "; ".join(meaning) or None)
    return axes
