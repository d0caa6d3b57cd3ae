"""Pictures of a run, for screens and for print: readable by the colour-blind and in grey."""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito, Color universal design (2008), without yellow and black; neighbours differ in lightness too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "v", "P", "X", "*")
_LINES = ("-", "--", "-.", ":")

_LABELS = {
    "scale": "Noise scale (weight units, or × the noise's basis)",
    "bits": "Weight bits (fixed point: fractional bits)",
}
_PUBLISHED = "published"
_SIZE = (6.4, 4.2)  # inches: a column and a half of print
_LEGEND_MARGIN = 0.6  # inches, for its lines and markers
_YLABEL = 0.6  # inches, with the ticks
_LETTER = 0.072  # inches, mean width in the legend's font
_LEGEND_ROW = 0.2  # inches
_LEGEND_LINE = 92  # characters that fit above the axes
_MOST_CURVES = 6  # with dots and the legend above; more are drawn without dots, the legend beside
_FEWEST_FOR_BAND = 20  # chips; fewer have no 5 % quantile to speak of
_CLOSEST_TICKS = 0.04  # of the axis
_DOTS_PER_INCH = 200
_GOLDEN = (5**0.5 - 1) / 2
_STYLE = {
    "svg.hashsalt": "noisesweep",  # else element ids differ from call to call
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.edgecolor": "none",
}


@dataclass(frozen=True)
class _Curve:
    """The cells of one line: one family, one model, all other swept parameters fixed."""

    label: str
    cells: pd.DataFrame


@dataclass(frozen=True)
class _Scale:
    """Where the levels of a parameter stand on its axis."""

    kind: Literal["linear", "log", "bits"]

    def forward(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Levels to positions of equal visual distance."""
        if self.kind == "linear":
            return levels
        return np.log2(levels + (self.kind == "bits"))

    def backward(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of `forward`."""
        if self.kind == "linear":
            return positions
        return np.exp2(positions) - (self.kind == "bits")


def accuracy_curve(
    axes: Axes,
    trials: pd.DataFrame,
    summary: pd.DataFrame,
    parameter: str,
    parameters: Sequence[str] = (),
) -> Axes:
    """Draw accuracy against a swept parameter.

    One curve per family that sweeps it, per model where there are several, and per combination of the other
    swept parameters: the mean; from 20 chips on a band from the 5 % to the 95 % quantile over chips; every
    chip as a faint dot, set off to the side of its level so that families do not cover one another (the offset
    is a function of the seed); and the published accuracies, where the summary has any, as open black
    diamonds. More than six curves have no dots. Bits fall from left to right, on the scale of log2(1 + bits);
    any other positive parameter that spans a factor of 50 or more rises on a logarithmic axis.

    Args:
        axes: where to draw; its labels, ticks and legend are set.
        trials: one row per trial: `model`, `family`, `cell`, `seed`, `accuracy` (a fraction).
        summary: of these trials, as `sweep.analysis.summary.summarise` returns it.
        parameter: the column of `summary` to draw against; numbers.
        parameters: the columns of all swept parameters; needed where a family sweeps others beside this one.

    Returns:
        `axes`.
    """
    curves = list(_curves(summary, parameter, parameters))
    crowded = len(curves) > _MOST_CURVES
    levels = np.unique(np.concatenate([_levels(curve.cells, parameter) for curve in curves]))
    scale = _scale(parameter, levels)
    lane = _lane(scale.forward(levels), len(curves))
    styles = zip(itertools.cycle(_COLOURS), itertools.cycle(_MARKERS), itertools.cycle(_LINES), strict=False)
    shown = {"line: mean": True}
    for number, (curve, (colour, marker, line)) in enumerate(zip(curves, styles, strict=False)):
        cells = curve.cells.assign(level=_levels(curve.cells, parameter)).sort_values("level")
        level = cells["level"].to_numpy()
        chips = _chips(trials, cells)
        if cells["trials"].max() >= _FEWEST_FOR_BAND:
            shown["band: 5 % to 95 % of chips"] = True
            low, high = 100 * cells["q05"], 100 * cells["q95"]
            shade = 0.14 * min(1, _MOST_CURVES / len(curves) ** 1.5)
            axes.fill_between(level, low, high, color=colour, alpha=shade, linewidth=0, zorder=1)
            for edge in (low, high):  # the fills of two families look alike in grey; their edges do not
                axes.plot(level, edge, color=colour, linestyle=line, linewidth=0.7, alpha=0.7, zorder=1)
        if len(chips) and not crowded:
            shown["dot: chip"] = True
            offset = (number - (len(curves) - 1) / 2 + 0.7 * (_jitter(chips["seed"]) - 0.5)) * lane
            axes.scatter(
                scale.backward(scale.forward(chips["level"].to_numpy()) + offset),
                100 * chips["accuracy"],
                s=4 if cells["trials"].max() >= _FEWEST_FOR_BAND else 12,
                color=colour,
                alpha=_faintness(len(chips), len(cells)),
                linewidths=0,
                zorder=2,
                rasterized=True,  # thousands of vector dots make an SVG that no viewer opens
            )
        axes.plot(
            level,
            100 * cells["mean"],
            color=colour,
            marker=marker,
            linestyle=line,
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.7,
            linewidth=1.6,
            label=curve.label,
            zorder=3,
        )
    _draw_published(axes, curves, parameter)
    _dress(axes, parameter, levels, scale)
    labels = axes.get_legend_handles_labels()[1]
    # Outside the axes: no corner is free of dots in every study.
    above = {"loc": "lower left", "bbox_to_anchor": (0, 1.01), "ncols": _legend_columns(labels)}
    beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}
    axes.legend(
        title="; ".join(shown) if len(shown) > 1 else None,
        title_fontsize="small",
        fontsize="small",
        alignment="left",
        borderaxespad=0,
        **(beside if crowded else above),
    )
    return axes


def save_figures(
    trials: pd.DataFrame,
    summary: pd.DataFrame,
    parameters: Sequence[str],
    write: Callable[[str, bytes], None],
) -> list[str]:
    """Write `accuracy-<parameter>.svg` and `.png` for every swept parameter that is a number.

    The same data give the same bytes with the same version of matplotlib, whatever the user's matplotlibrc
    says.

    Args:
        trials: one row per trial, as for `accuracy_curve`.
        summary: of these trials.
        parameters: the columns of all swept parameters.
        write: takes a file name and its content.

    Returns:
        The names written.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    names = []
    for parameter in parameters:
        if not _is_number(summary[parameter]):
            continue
        stem = "accuracy-" + re.sub(r"[^\w-]+", "-", parameter)
        with style.context(["default", _STYLE]):
            figure = Figure(layout="constrained")
            axes = accuracy_curve(figure.add_subplot(), trials, summary, parameter, parameters)
            figure.set_size_inches(*_size(axes))
            for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, dpi=_DOTS_PER_INCH, metadata=metadata)
                write(f"{stem}.{kind}", buffer.getvalue())
                names.append(f"{stem}.{kind}")
    return names


def _size(axes: Axes) -> tuple[float, float]:
    """Inches of a figure whose legend leaves the axes their place."""
    width, height = _SIZE
    labels = axes.get_legend_handles_labels()[1]
    legend = _LEGEND_MARGIN + max(map(len, labels)) * _LETTER
    if sum(label != _PUBLISHED for label in labels) > _MOST_CURVES:
        return width + legend, max(height, (len(labels) + 2) * _LEGEND_ROW)
    rows = 1 + math.ceil(len(labels) / _legend_columns(labels))
    return max(width, _YLABEL + legend), height + rows * _LEGEND_ROW


def _legend_columns(labels: Sequence[str]) -> int:
    """How many labels fit beside one another above the axes."""
    return max(1, min(len(labels), _LEGEND_LINE // (10 + max(map(len, labels)))))


def _is_number(column: pd.Series) -> bool:
    return (
        pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column) and bool(column.notna().any())
    )


def _curves(summary: pd.DataFrame, parameter: str, parameters: Sequence[str]) -> Iterator[_Curve]:
    cells = summary[summary[parameter].notna()]
    several_models = summary["model"].nunique() > 1
    for (family, model), of_family in cells.groupby(["family", "model"], sort=False):
        name = f"{family}, model {model}" if several_models else str(family)
        others = [other for other in parameters if other != parameter and of_family[other].notna().any()]
        if not others:
            yield _Curve(name, of_family)
            continue
        for values, group in of_family.groupby(others, sort=False, dropna=False):
            fixed = ", ".join(f"{other} {_value(value)}" for other, value in zip(others, values, strict=True))
            yield _Curve(f"{name}, {fixed}", group)


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _levels(cells: pd.DataFrame, parameter: str) -> NDArray[np.float64]:
    return cells[parameter].to_numpy(dtype=np.float64)


def _scale(parameter: str, levels: NDArray[np.float64]) -> _Scale:
    if _base(parameter) == "bits":
        return _Scale("bits")
    return _Scale("log" if levels.min() > 0 and levels.max() / levels.min() >= 50 else "linear")


def _base(parameter: str) -> str:
    """Its name without the position of its transform: `bits` of `bits_1`."""
    return re.sub(r"_\d+$", "", parameter)


def _lane(positions: NDArray[np.float64], curves: int) -> float:
    """How wide one curve's dots may spread around a level: the closest two levels stay apart."""
    span = positions[-1] - positions[0] if len(positions) > 1 else 1.0
    gap = np.diff(positions).min() if len(positions) > 1 else 1.0
    return float(min(0.7 * gap, 0.05 * span) / curves)


def _jitter(seeds: pd.Series) -> NDArray[np.float64]:
    """Evenly spread numbers in [0, 1), the same for the same seed: the golden-ratio sequence."""
    return (seeds.to_numpy(dtype=np.float64) * _GOLDEN) % 1


def _faintness(chips: int, cells: int) -> float:
    """Opacity of a dot: the more chips in a cell, the fainter each."""
    return float(np.clip(40 * cells / max(chips, 1), 0.03, 0.45))


def _chips(trials: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The trials of cells with a spread, each with its level; a lone exact value is its mean's marker."""
    keys = ["model", "family", "cell"]
    spread = cells.loc[cells["trials"] > 1, [*keys, "level"]]
    return trials[[*keys, "seed", "accuracy"]].merge(spread, on=keys)


def _draw_published(axes: Axes, curves: Sequence[_Curve], parameter: str) -> None:
    points: set[tuple[float, float]] = set()  # two families may carry the same published table
    for curve in curves:
        if "published" in curve.cells:
            known = curve.cells[curve.cells["published"].notna()]
            accuracy = known["published"].to_numpy(dtype=np.float64)
            points.update(zip(_levels(known, parameter).tolist(), accuracy.tolist(), strict=True))
    if points:
        level, accuracy = np.array(sorted(points)).T
        axes.plot(
            level,
            100 * accuracy,
            linestyle="none",
            marker="D",
            markersize=9,
            markerfacecolor="none",  # the mean below stays visible
            markeredgecolor="black",
            markeredgewidth=1.3,
            label=_PUBLISHED,
            zorder=4,
        )


def _dress(axes: Axes, parameter: str, levels: NDArray[np.float64], scale: _Scale) -> None:
    """Axis scales, ticks and labels."""
    if scale.kind == "log":
        axes.set_xscale("log")
    if scale.kind == "bits":
        axes.set_xscale("function", functions=(scale.forward, scale.backward))
        ticks = _apart(levels, scale)
        axes.set_xticks(ticks, [f"{level:g}" for level in ticks])
        if not axes.xaxis_inverted():
            axes.invert_xaxis()
    base = _base(parameter)
    label = _LABELS.get(base, parameter)
    axes.set_xlabel(label if parameter in (base, label) else f"{parameter}: {label}")
    axes.set_ylabel("Accuracy on the test set (%)")
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _apart(levels: NDArray[np.float64], scale: _Scale) -> list[float]:
    """The levels whose labels do not run into one another, the smallest first."""
    positions = scale.forward(levels)
    closest = _CLOSEST_TICKS * np.ptp(positions)
    kept: list[int] = []
    for i, position in enumerate(positions):
        if not kept or position - positions[kept[-1]] >= closest:
            kept.append(i)
    return [float(levels[i]) for i in kept]
