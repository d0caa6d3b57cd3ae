"""Accuracy against cost: the settings that nothing beats, and the one that was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sweep.reporting.figures.pictures import Picture
from sweep.reporting.figures.style import COLOURS, QUIET, RULE, add_legend, size_with_legend
from sweep.statistics.estimates import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 10  # times as far below the limit as the best point is above it, or as the budget's room, no more is shown


def front_picture(
    front: Sequence[tuple[float, Estimate]],
    answer: tuple[float, Estimate],
    uniform: tuple[str, float, Estimate] | None,
    limit: float,
    unit: str,
) -> Picture:
    """The picture of a front.

    Args:
        front: cost and accuracy of its points, by rising cost; fractions with limits.
        answer: of the setting that was chosen.
        uniform: name, cost and accuracy of the best setting of all layers alike, if there is one.
        limit: the accuracy that was asked for.
        unit: of costs.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        room = max(max(e.value for _, e in front) - limit, 0.005)
        shown = [(c, e) for c, e in front if e.value >= limit - _SHOWN * room] or list(front)
        cost, value, low, high = zip(*((c, *(100 * v for v in e)) for c, e in shown), strict=True)
        below = [v - x for v, x in zip(value, low, strict=True)]
        above = [x - v for v, x in zip(value, high, strict=True)]
        axes.axhline(100 * limit, color=QUIET, linestyle="--", linewidth=1.1, label="what the budget asks for")
        axes.step(cost, value, where="post", color=RULE, linewidth=1.2, zorder=1)
        axes.errorbar(
            cost,
            value,
            yerr=[below, above],
            color=COLOURS[0],
            linestyle="none",
            marker="o",
            markersize=5.5,
            markeredgecolor="white",
            markeredgewidth=0.7,
            elinewidth=1.4,
            label="the front",
        )
        one: dict[str, Any] = {"linestyle": "none", "markeredgecolor": "white", "zorder": 4}
        axes.plot(
            [answer[0]], [100 * answer[1].value], marker="*", markersize=15, color=COLOURS[1], label="chosen", **one
        )
        if uniform is not None:
            name, at, found = uniform
            axes.plot([at], [100 * found.value], marker="s", markersize=8, color=COLOURS[2], label=f"all {name}", **one)
        axes.set_xlabel(f"Cost ({unit})")
        axes.set_ylabel("Accuracy (%)")
        axes.grid(color=RULE, linewidth=0.7)
        add_legend(axes)
        figure.set_size_inches(*size_with_legend(axes))

    return Picture("front", "Accuracy against cost", draw)
