"""The distribution of accuracy over chips, as the share of chips that reach an accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY
from sweep.reporting.chips import of_measure, whole_chips
from sweep.reporting.figures.style import LINES, RAMP, RULE, mark, ramp, series_id
from sweep.reporting.labels import NO_LABELS, Labels, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LEVELS = len(RAMP)
_MARGIN = 0.06  # of the range of accuracies
_LEGEND = 0.35  # likewise, at the left


def yield_curve(
    axes: Axes,
    trials: pd.DataFrame,
    summary: pd.DataFrame,
    parameter: str,
    limits: tuple[float, float] | None = None,
    labels: Labels = NO_LABELS,
    measure: Measure = ACCURACY,
) -> Axes:
    """Draw for each level of a parameter the share of chips that reach an accuracy, or another measure.

    One minus the empirical distribution function: every chip is a step, nothing is smoothed, and the yield at any
    accuracy can be read off. Skewed and bounded distributions keep their shape, which a violin's kernel would push
    past 100 %. Of a measure that is better when low, it is the share of chips that stay below.

    Args:
        axes: where to draw; its labels, ticks and legend are set.
        trials: one row per trial: `cell`, `accuracy` (a fraction); others than those of `summary` are passed over, and
            those of chips that saw a few images, see `sweep.reporting.chips`.
        summary: cells of one family and one model with all other parameters fixed, as
            `sweep.reporting.summary.summarise` returns them. Cells with one trial are left out; of more than
            `MOST_LEVELS` levels some between the first and the last one are.
        parameter: the column of levels; numbers.
        limits: the lowest and the highest accuracy (fractions) of the horizontal axis; those of these chips by default.
        measure: what is drawn; `summary` and `limits` are of it.
    """
    trials = of_measure(whole_chips(trials), measure)
    cells = summary[summary["trials"] > 1].sort_values(parameter, kind="stable")
    if len(cells) > MOST_LEVELS:
        cells = cells.iloc[np.linspace(0, len(cells) - 1, MOST_LEVELS).round().astype(int)]
    for number, (cell, level, colour) in enumerate(zip(cells["cell"], cells[parameter], ramp(len(cells)), strict=True)):
        values = trials.loc[trials["cell"] == cell, measure.name].to_numpy(dtype=np.float64)
        values = np.sort(measure.shown(values))
        below = np.arange(values.size + 1) / values.size
        share = 100 * (1 - below if measure.higher else below)
        ends = (0.0, 100.0) if measure.fraction else (values[0], values[-1])
        series = series_id(number)
        (line,) = axes.step(
            np.concatenate([ends[:1], values, ends[1:]]),
            np.concatenate([share[:1], share]),
            where="pre",
            color=colour,
            linestyle=LINES[number % len(LINES)],
            linewidth=1.5,
            label=value_text(parameter, level, labels),
        )
        line.set_gid(f"{series}-mean")
        mark(axes, [cell], [float(np.median(values))], [50.0], series)
    if limits is None:
        limits = float(cells["min"].min()), float(cells["max"].max())
    spread = max(limits[1] - limits[0], 0.001 if measure.fraction else 1e-3 * abs(limits[1]), 1e-12)
    right = limits[1] + _MARGIN * spread
    right = min(1, right) if measure.fraction else right
    axes.set_xlim(measure.shown(limits[0] - _LEGEND * spread), measure.shown(right))
    low, high = axes.get_xlim()
    lowest = max(low, 0) if measure.fraction or limits[0] >= 0 else low
    axes.set_xticks([tick for tick in axes.get_xticks() if lowest <= tick <= high])
    axes.set_ylim(-2, 102)
    axes.set_xlabel(measure.axis)
    axes.set_ylabel("Chips that reach it (%)" if measure.higher else "Chips that stay below (%)")
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(title=parameter, title_fontsize="small", fontsize="small", loc="lower left", framealpha=0.85)
    return axes
