"""Levels with their intervals, one below the other: for all layers together, and for each alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sweep.reporting.figures.pictures import Picture
from sweep.reporting.figures.style import COLOURS, QUIET, RULE, WIDTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW = 0.32  # inches
_AROUND = 1.2


class Bar(NamedTuple):
    """One row.

    Attributes:
        name: of it.
        value: None where that lies outside the range, of which `outside` tells in words then.
        low, high: ends of its interval, None where there is none.
        outside: such as "beyond 0.2".
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    outside: str


def levels_picture(bars: Sequence[Bar], label: str) -> Picture:
    """The picture of levels; `label` is that of their axis, with its unit."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        known = [end for bar in bars for end in (bar.value, bar.low, bar.high) if end is not None]
        for row, bar in enumerate(bars):
            colour = COLOURS[1] if row == 0 else COLOURS[0]
            ends = [end for end in (bar.low, bar.value, bar.high) if end is not None]
            if bar.value is not None:
                around = [[bar.value - min(ends)], [max(ends) - bar.value]]
                axes.errorbar([bar.value], [row], xerr=around, color=colour, marker="o", markersize=4, capsize=5)
            else:
                at = max(ends) if ends else min(known, default=0.0)
                marker = ">" if ends else "<"
                axes.plot([at], [row], marker=marker, markersize=7, color=colour, markeredgecolor="white")
                place, side = ((-8, 0), "right") if ends else ((8, 0), "left")
                said: dict[str, Any] = {"ha": side, "va": "center", "color": QUIET, "fontsize": "small"}
                axes.annotate(bar.outside, (at, row), place, textcoords="offset points", **said)
        if known and min(known) > 0 and max(known) > 30 * min(known):
            axes.set_xscale("log")
        axes.set_yticks(range(len(bars)), [bar.name for bar in bars])
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.margins(x=0.12)
        axes.set_xlabel(label)
        axes.grid(axis="x", color=RULE, linewidth=0.7)
        figure.set_size_inches(WIDTH, _AROUND + _ROW * len(bars))

    return Picture("levels", "The level that the budget leaves", draw)
