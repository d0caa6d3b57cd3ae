"""Accuracy over two swept parameters: the bits of weights and of activations, noise and bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY
from sweep.reporting.figures.style import mark, series_id
from sweep.reporting.labels import NO_LABELS, Labels, shared, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = "cividis"
"""Made for the colour-blind (Nuñez, Anderton & Renslow 2018, PLOS ONE 13, e0199239); lightness rises with accuracy."""

ON_DARK, ON_LIGHT = "#fafafa", "#0a0a0a"
_MOST_NUMBERS = 100  # cells; in more the numbers would be too small to read


def heat_map(
    axes: Axes,
    summary: pd.DataFrame,
    across: str,
    down: str,
    limits: tuple[float, float] | None = None,
    labels: Labels = NO_LABELS,
    measure: Measure = ACCURACY,
) -> Axes:
    """Draw the mean accuracy, or another measure, of each pair of values as a shade; with mean ± std as numbers.

    Args:
        axes: where to draw; its labels and ticks are set.
        summary: the cells of one family and one model, as `sweep.reporting.summary.summarise` returns them; one for
            each pair.
        across, down: the columns of the horizontal axis, rising to the right, and of the vertical one, rising upwards.
        limits: accuracies (fractions) of the darkest and the lightest shade; those of these cells by default.
        measure: of which `summary` and `limits` are; where less is better, the lightest shade is of the lowest value.

    Returns:
        `axes`, whose first collection has the shades, for a colour bar.
    """
    columns, rows = _values(summary[across]), _values(summary[down])
    at = {value: i for i, value in enumerate(columns)}, {value: i for i, value in enumerate(rows)}
    x = summary[across].map(at[0]).to_numpy(dtype=np.int64)
    y = summary[down].map(at[1]).to_numpy(dtype=np.int64)
    mean = measure.shown(summary["mean"].to_numpy(dtype=np.float64))
    std = measure.shown(summary["std"].to_numpy(dtype=np.float64))
    low, high = (measure.shown(limits[0]), measure.shown(limits[1])) if limits else (mean.min(), mean.max())
    shades = np.full((len(rows), len(columns)), np.nan)
    shades[y, x] = mean
    colours = COLOURS if measure.higher else f"{COLOURS}_r"
    axes.pcolormesh(shades, cmap=colours, vmin=low, vmax=high, edgecolors="white", linewidth=1)
    if len(mean) <= _MOST_NUMBERS:
        for i, j, value, spread in zip(x, y, mean, std, strict=True):
            light = (value > (low + high) / 2) == measure.higher
            digits = ".1f" if measure.fraction else ".3g"
            text = f"{value:{digits}}" + (f"\n± {spread:{digits}}" if spread > 0 else "")
            axes.text(
                i + 0.5, j + 0.5, text, ha="center", va="center", fontsize="small", color=ON_LIGHT if light else ON_DARK
            )
    mark(axes, summary["cell"].tolist(), (x + 0.5).tolist(), (y + 0.5).tolist(), series_id(0))
    families = summary["family"].unique().tolist()
    axes.set_xticks(np.arange(len(columns)) + 0.5, [value_text(across, value, labels) for value in columns])
    axes.set_yticks(np.arange(len(rows)) + 0.5, [value_text(down, value, labels) for value in rows])
    axes.set_xlabel(str(shared(across, labels, families)))
    axes.set_ylabel(str(shared(down, labels, families)))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return axes


def _values(column: pd.Series) -> list[Any]:
    """Numbers rising; words in the order of first appearance."""
    values = column.unique().tolist()
    return sorted(values) if pd.api.types.is_numeric_dtype(column) else values
