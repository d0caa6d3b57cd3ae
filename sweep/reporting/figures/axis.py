"""The axis of a swept parameter: where its levels stand, and which of them have a label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from sweep.reporting.labels import Labels, shared

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CLOSEST_TICKS = 0.04  # of the axis
_CLOSEST_LONG = 0.08  # of times, whose labels have units, and of wide scales
_WIDE = 50  # a factor from which on an axis is logarithmic


@dataclass(frozen=True)
class Scale:
    """Where the levels of a parameter stand on its axis.

    Attributes:
        kind: linear; log; or log2(1 + level / unit), which has room for 0.
        unit: up to which levels stand about evenly, and from which on by their logarithm.
    """

    kind: Literal["linear", "log", "whole", "time", "wide"]
    unit: float = 1.0

    def forward(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Levels to positions of equal visual distance."""
        if self.kind == "linear":
            return levels
        return np.log2(levels / self.unit + (self.kind != "log"))

    def backward(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of `forward`."""
        if self.kind == "linear":
            return positions
        return (np.exp2(positions) - (self.kind != "log")) * self.unit


def scale_of(parameter: str, levels: NDArray[np.float64], labels: Labels) -> Scale:
    """The scale for these levels of a parameter: logarithms for whole numbers, times, and factors of 50 or more."""
    label = shared(parameter, labels)
    if label.whole or label.spacing == "log":
        return Scale("whole" if label.whole else "time")
    positive = levels[levels > 0]
    if levels.min() < 0 or not positive.size or positive.max() / positive.min() < _WIDE:
        return Scale("linear")
    return Scale("log") if positive.size == levels.size else Scale("wide", float(positive.min()))


def dress(axes: Axes, levels: NDArray[np.float64], scale: Scale, text: Callable[[float], str]) -> None:
    """Give the horizontal axis its scale and ticks; `text` writes a level."""
    if scale.kind == "log":
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    if scale.kind in ("whole", "time", "wide"):
        axes.set_xscale("function", functions=(scale.forward, scale.backward))
        ticks = _apart(levels, scale)
        axes.set_xticks(ticks, [text(level) for level in ticks])


def _apart(levels: NDArray[np.float64], scale: Scale) -> list[float]:
    """The levels whose labels do not run into one another, the smallest first."""
    positions = scale.forward(levels)
    closest = (_CLOSEST_TICKS if scale.kind == "whole" else _CLOSEST_LONG) * np.ptp(positions)
    kept: list[int] = []
    for i, position in enumerate(positions):
        if not kept or position - positions[kept[-1]] >= closest:
            kept.append(i)
    return [float(levels[i]) for i in kept]
