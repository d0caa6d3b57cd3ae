"""The legend of some curves, outside the axes: no corner is free of dots in every study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PUBLISHED = "published"
MOST_CURVES = 6
"""Curves with dots and the legend above; more are drawn without dots, the legend beside."""

_SIZE = (6.4, 4.2)  # inches: a column and a half of print
_MARGIN = 0.6  # inches, for its lines and markers
_YLABEL = 0.6  # inches, with the ticks
_LETTER = 0.072  # inches, mean width in the legend's font
_ROW = 0.2  # inches
_LINE = 92  # characters that fit above the axes


def add_legend(axes: Axes, title: str | None = None) -> None:
    """Above the axes, or beside them where there are many curves."""
    labels = axes.get_legend_handles_labels()[1]
    if not labels:
        return
    above = {"loc": "lower left", "bbox_to_anchor": (0, 1.01), "ncols": _columns(labels)}
    beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}
    axes.legend(
        title=title,
        title_fontsize="small",
        fontsize="small",
        alignment="left",
        borderaxespad=0,
        **(beside if _crowded(labels) else above),
    )


def set_heading(axes: Axes, heading: str) -> None:
    """A heading over the axes, and over their legend where it stands above them."""
    from matplotlib.font_manager import FontProperties

    legend = axes.get_legend()
    labels = axes.get_legend_handles_labels()[1]
    if legend is None or _crowded(labels) or legend.get_bbox_to_anchor().y0 <= axes.bbox.y0:
        axes.set_title(heading, fontsize="medium", loc="left")
    else:
        legend.set_title(f"{heading}\n{legend.get_title().get_text()}".rstrip(), prop=FontProperties(size="medium"))


def size_with_legend(axes: Axes, height: float = _SIZE[1]) -> tuple[float, float]:
    """Inches of a figure whose legend leaves the axes their place."""
    width = _SIZE[0]
    labels = axes.get_legend_handles_labels()[1]
    if not labels:
        return width, height
    legend = _MARGIN + max(map(len, labels)) * _LETTER
    if _crowded(labels):
        return width + legend, max(height, (len(labels) + 2) * _ROW)
    rows = 1 + math.ceil(len(labels) / _columns(labels))
    return max(width, _YLABEL + legend), height + rows * _ROW


def _crowded(labels: Sequence[str]) -> bool:
    return sum(label != PUBLISHED for label in labels) > MOST_CURVES


def _columns(labels: Sequence[str]) -> int:
    """How many labels fit beside one another above the axes."""
    return max(1, min(len(labels), _LINE // (10 + max(map(len, labels)))))
