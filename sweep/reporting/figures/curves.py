"""Accuracy against one swept parameter: noise, bits, time, rates."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY
from sweep.reporting.chips import of_measure, whole_chips
from sweep.reporting.figures import axis
from sweep.reporting.figures.style import (
    COLOURS,
    LINES,
    MARKERS,
    MOST_CURVES,
    PUBLISHED,
    PUBLISHED_POINTS,
    RULE,
    add_legend,
    mark,
    series_id,
)
from sweep.reporting.labels import NO_LABELS, Labels, shared, value_text
from sweep.reporting.summary import KEYS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST_FOR_BAND = 20
"""Chips; fewer have no 5 % quantile to speak of."""

_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class _Curve:
    """The cells of one line: one family, one model, all other swept parameters fixed."""

    label: str
    cells: pd.DataFrame


def accuracy_curve(
    axes: Axes,
    trials: pd.DataFrame,
    summary: pd.DataFrame,
    parameter: str,
    parameters: Sequence[str] = (),
    labels: Labels = NO_LABELS,
    measure: Measure = ACCURACY,
) -> Axes:
    """Draw accuracy, or another measure, against a swept parameter.

    One curve per family that sweeps it, per model where there are several, and per combination of the other
    swept parameters: the mean; from 20 chips on a band from the 5 % to the 95 % quantile over chips that saw all
    images; each of these as a faint dot, set off to the side of its level so that families do not cover one another
    (the offset is a function of the seed); and the published accuracies, where the summary has any, as open black
    diamonds. More than six curves have no dots. Whole numbers, such as bits, and what is spaced by its logarithm, such
    as times, stand on the scale of log2(1 + level); any other parameter that spans a factor of 50 or more is on a
    logarithmic axis, which has room for 0 where that was run.

    Args:
        axes: where to draw; its labels, ticks and legend are set.
        trials: one row per trial: `model`, `family`, `cell`, `seed`, the measure (`accuracy`, a fraction); those of
            chips that saw a few images are passed over, see `sweep.reporting.chips`.
        summary: of these trials, as `sweep.reporting.summary.summarise` returns it.
        parameter: the column of `summary` to draw against; numbers.
        parameters: the columns of all swept parameters; needed where a family sweeps others beside this one.
        measure: what is drawn; `summary` is of it.
    """
    trials, curves = of_measure(whole_chips(trials), measure), list(_curves(summary, parameter, parameters, labels))
    crowded = len(curves) > MOST_CURVES
    levels = np.unique(np.concatenate([_levels(curve.cells, parameter) for curve in curves]))
    scale = axis.scale_of(parameter, levels, labels)
    lane = _lane(scale.forward(levels), len(curves))
    styles = zip(itertools.cycle(COLOURS), itertools.cycle(MARKERS), itertools.cycle(LINES), strict=False)
    shown = {"line: mean": True}
    for number, (curve, (colour, marker, line)) in enumerate(zip(curves, styles, strict=False)):
        series = series_id(number)
        cells = curve.cells.assign(level=_levels(curve.cells, parameter)).sort_values("level")
        level = cells["level"].to_numpy()
        chips = _chips(trials, cells, measure)
        if cells["trials"].max() >= FEWEST_FOR_BAND:
            shown["band: 5 % to 95 % of chips"] = True
            low, high = measure.shown(cells["q05"]), measure.shown(cells["q95"])
            shade = 0.14 * min(1, MOST_CURVES / len(curves) ** 1.5)
            band = axes.fill_between(level, low, high, color=colour, alpha=shade, linewidth=0, zorder=1)
            band.set_gid(f"{series}-band")
            for name, edge in (("low", low), ("high", high)):  # two fills look alike in grey; their edges do not
                (border,) = axes.plot(level, edge, color=colour, linestyle=line, linewidth=0.7, alpha=0.7, zorder=1)
                border.set_gid(f"{series}-{name}")
        if len(chips) and not crowded:
            shown["dot: chip"] = True
            offset = (number - (len(curves) - 1) / 2 + 0.7 * (_jitter(chips["seed"]) - 0.5)) * lane
            dots = axes.scatter(
                scale.backward(scale.forward(chips["level"].to_numpy()) + offset),
                measure.shown(chips[measure.name]),
                s=4 if cells["trials"].max() >= FEWEST_FOR_BAND else 12,
                color=colour,
                alpha=_faintness(len(chips), len(cells)),
                linewidths=0,
                zorder=2,
                rasterized=True,  # thousands of vector dots make an SVG that no viewer opens
            )
            dots.set_gid(f"{series}-chips")
        (mean,) = axes.plot(
            level,
            measure.shown(cells["mean"]),
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
        mean.set_gid(f"{series}-mean")
        mark(axes, cells["cell"].tolist(), level.tolist(), measure.shown(cells["mean"]).tolist(), series)
    _draw_published(axes, curves, parameter)
    axis.dress(axes, levels, scale, lambda level: value_text(parameter, level, labels))
    families = summary.loc[summary[parameter].notna(), "family"].unique().tolist()
    axes.set_xlabel(str(shared(parameter, labels, families)))
    axes.set_ylabel(measure.axis)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    add_legend(axes, "; ".join(shown) if len(shown) > 1 else None)
    return axes


def _curves(summary: pd.DataFrame, parameter: str, parameters: Sequence[str], labels: Labels) -> Iterator[_Curve]:
    cells = summary[summary[parameter].notna()]
    several_models = summary["model"].nunique() > 1
    for (family, model), of_family in cells.groupby(["family", "model"], sort=False):
        name = f"{family}, model {model}" if several_models else str(family)
        others = [other for other in parameters if other != parameter and of_family[other].notna().any()]
        if not others:
            yield _Curve(name, of_family)
            continue
        for values, group in of_family.groupby(others, sort=False, dropna=False):
            pairs = zip(others, values, strict=True)
            fixed = [f"{other} {value_text(other, value, labels)}" for other, value in pairs]
            yield _Curve(", ".join([name, *fixed]), group)


def _levels(cells: pd.DataFrame, parameter: str) -> NDArray[np.float64]:
    return cells[parameter].to_numpy(dtype=np.float64)


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


def _chips(trials: pd.DataFrame, cells: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """The trials of cells with a spread, each with its level; a lone exact value is its mean's marker."""
    keys = list(KEYS)
    spread = cells.loc[cells["trials"] > 1, [*keys, "level"]]
    return trials[[*keys, "seed", measure.name]].merge(spread, on=keys)


def _draw_published(axes: Axes, curves: Sequence[_Curve], parameter: str) -> None:
    points: set[tuple[float, float]] = set()  # two families may carry the same published table
    for curve in curves:
        if "published" in curve.cells:
            known = curve.cells[curve.cells["published"].notna()]
            accuracy = known["published"].to_numpy(dtype=np.float64)
            points.update(zip(_levels(known, parameter).tolist(), accuracy.tolist(), strict=True))
    if points:
        level, accuracy = np.array(sorted(points)).T
        axes.plot(level, 100 * accuracy, label=PUBLISHED, **PUBLISHED_POINTS)
