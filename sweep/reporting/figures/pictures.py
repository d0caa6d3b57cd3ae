"""Which pictures a run gets, chosen by what each family sweeps and by what families say together; their files."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY
from sweep.reporting.figures.curves import FEWEST_FOR_BAND, accuracy_curve
from sweep.reporting.figures.equivalence import equivalence_curve
from sweep.reporting.figures.heatmaps import heat_map
from sweep.reporting.figures.layers import layer_sensitivity
from sweep.reporting.figures.style import HEIGHT, MOST_CURVES, WIDTH, house_style, set_heading, size_with_legend
from sweep.reporting.figures.yields import yield_curve
from sweep.reporting.labels import NO_LABELS, Label, Labels, shared, value_text
from sweep.reporting.tables.frames import Answer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_PANELS = 12
_MOST_OF_ANSWER = 4  # they stand below one another
_HEADING = 0.25  # inches
_LETTERS_OF_PANEL = 42
_LAYER = "layer"
_DOTS_PER_INCH = 200
_METADATA = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}


@dataclass(frozen=True)
class Picture:
    """One picture of a run.

    Attributes:
        name: of its files; unique in the run.
        title: what it shows, for a heading.
        draw: draws it into an empty figure with constrained layout, and sets the figure's size.
    """

    name: str
    title: str
    draw: Callable[[Figure], None]


@dataclass(frozen=True)
class _Group:
    """Families that sweep the same columns in the same meaning.

    Attributes:
        cells: their rows of the summary.
        numbers, words: the columns that they sweep.
    """

    cells: pd.DataFrame
    numbers: tuple[str, ...]
    words: tuple[str, ...]


_Panel = tuple[str, pd.DataFrame]
"""The heading of one of several axes, and its cells."""


def pictures(
    trials: pd.DataFrame,
    summary: pd.DataFrame,
    parameters: Sequence[str],
    labels: Labels = NO_LABELS,
    measure: Measure = ACCURACY,
    brief: bool = False,
) -> list[Picture]:
    """The pictures of a run.

    Families with one swept number are curves in one picture, those with a word beside it (a layer, a range) too.
    Two numbers make a heat map; more, a heat map for each combination of the rest. Layers have rows of their own.
    Families with 20 chips or more and one swept number also show their distributions.

    Args:
        trials: one row per trial, as `accuracy_curve` takes them.
        summary: of these trials.
        parameters: the columns of all swept parameters.
        labels: families whose labels differ have pictures of their own.
        measure: what they are of, as the summary.
        brief: without distributions.
    """
    found: list[Picture] = []
    for group in _groups(summary, parameters, labels):
        if len(group.numbers) > 1:
            found.append(_heat_maps(group, labels, measure))
            continue
        if _LAYER in group.words or (group.words and not group.numbers):
            found.append(_rows(group, labels, measure))
        if group.numbers:
            found += list(_curves(trials, group, labels, measure))[: 1 if brief else None]
    seen: Counter[str] = Counter()
    for i, picture in enumerate(found):
        seen[picture.name] += 1
        if seen[picture.name] > 1:
            found[i] = replace(picture, name=f"{picture.name}-{seen[picture.name]}")
    return found


def answer_pictures(answers: Iterable[Answer], measure: Measure = ACCURACY) -> list[Picture]:
    """The pictures of a run's answers: noise-equivalent bits, unless networks and laws of noise are many."""
    chosen = []
    for answer in answers:
        if answer.name != "equivalent-bits":
            continue
        known = answer.table[answer.table["level"] > 0]
        keys = [key for key in ("family", "model", "dataset", "rounding") if key == "family" or key in known]
        found = list(_panels_of(known.rename(columns={"noise": "family"}), keys, {}))
        if 0 < len(found) <= _MOST_OF_ANSWER:
            draw = partial(equivalence_curve, measure=measure)
            chosen.append(Picture(answer.name, answer.title, _in_grid(found, draw, legends=True)))
    return chosen


def save_figures(chosen: Sequence[Picture], write: Callable[[str, bytes], None]) -> list[str]:
    """Write pictures as SVG, in the few digits that `compact` leaves, and as PNG.

    The same data give the same bytes with the same version of matplotlib, whatever the user's matplotlibrc
    says.

    Args:
        chosen: the pictures, as `pictures` and `answer_pictures` give them.
        write: takes a file name and its content.

    Returns:
        The names written.
    """
    from matplotlib.figure import Figure

    names = []
    for picture in chosen:
        with house_style():
            figure = Figure(layout="constrained")
            picture.draw(figure)
            for kind, metadata in _METADATA.items():
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, dpi=_DOTS_PER_INCH, metadata=metadata)
                content = buffer.getvalue()
                names.append(f"{picture.name}.{kind}")
                write(names[-1], compact(content.decode()).encode() if kind == "svg" else content)
    return names


def compact(svg: str) -> str:
    """An SVG of matplotlib's in fewer bytes: places to a hundredth of a point, no indentation."""
    places = re.sub(r'(?<= )[dxy]="[^"]*"|translate\([^)]*\)', lambda m: re.sub(r"\d+\.\d+", _rounded, m[0]), svg)
    return re.sub(r"[ \n]*\n *", "\n", places)


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _groups(summary: pd.DataFrame, parameters: Sequence[str], labels: Labels) -> Iterator[_Group]:
    families: dict[tuple[tuple[str, ...], tuple[Label | None, ...]], list[str]] = {}
    for family, cells in summary.groupby("family", sort=False):
        swept = tuple(name for name in parameters if cells[name].notna().any())
        meaning = tuple(labels.get((str(family), name)) for name in swept)
        families.setdefault((swept, meaning), []).append(str(family))
    for (swept, _), names in families.items():
        numbers = tuple(name for name in swept if _is_number(summary[name]))
        words = tuple(name for name in swept if name not in numbers)
        yield _Group(summary[summary["family"].isin(names)], numbers, words)


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _curves(trials: pd.DataFrame, group: _Group, labels: Labels, measure: Measure) -> Iterator[Picture]:
    (parameter,), words = group.numbers, group.words
    by = "".join(f"-by-{word}" for word in words)
    title = f"{measure.label} against {parameter}" + (f", by {' and '.join(words)}" if words else "")
    lines = group.cells.groupby(["family", "model", *words], sort=False, dropna=False).ngroups
    split = lines > MOST_CURVES and group.cells["family"].nunique() > 1
    panels = list(_panels_of(group.cells, ["family"] if split else [], labels))

    def draw(axes: Axes, cells: pd.DataFrame) -> Axes:
        return accuracy_curve(axes, trials, cells, parameter, [parameter, *words], labels, measure)

    yield Picture(f"{measure.name}-{_slug(parameter)}{_slug(by)}", title, _in_grid(panels, draw, legends=True))
    chips = group.cells[group.cells["trials"] >= FEWEST_FOR_BAND]
    panels = list(_panels_of(chips, ["family", "model", *words], labels))
    if 0 < len(panels) <= _MOST_PANELS:
        limits = float(chips["min"].min()), float(chips["max"].max())

        def draw_yield(axes: Axes, cells: pd.DataFrame) -> Axes:
            return yield_curve(axes, trials, cells, parameter, limits, labels, measure)

        of = "" if measure.name == ACCURACY.name else f"{measure.name}-"
        heading = f"Distribution over chips, by {parameter}"
        label = str(shared(parameter, labels, chips["family"].unique().tolist()))
        yield Picture(f"yield-{of}{_slug(parameter)}{_slug(by)}", heading, _in_grid(panels, draw_yield, label))


def _rows(group: _Group, labels: Labels, measure: Measure) -> Picture:
    first = _LAYER if _LAYER in group.words else group.words[0]
    rest = [word for word in group.words if word != first]
    parameter = group.numbers[0] if group.numbers else None
    panels = list(_panels_of(group.cells, ["family", "model", *rest], labels))

    def draw(axes: Axes, cells: pd.DataFrame) -> Axes:
        return layer_sensitivity(axes, cells, first, parameter, labels, measure)

    rows = "layers" if first == _LAYER else first
    named = rows if first == _LAYER and measure.name == ACCURACY.name else f"{measure.name}-{rows}"
    name = "-".join(filter(None, [named, *rest, parameter]))
    title = f"{measure.label} by {first}" + (f" and {parameter}" if parameter else "")
    height = 0.9 + max(cells[first].nunique() for _, cells in panels) * (0.5 if parameter is None else 0.75)
    return Picture(_slug(name), title, _in_grid(panels, draw, legends=True, height=max(height, 2.4)))


def _heat_maps(group: _Group, labels: Labels, measure: Measure) -> Picture:
    *rest, down, across = *group.words, *group.numbers
    panels = list(_panels_of(group.cells, ["family", "model", *rest], labels))
    limits = float(group.cells["mean"].min()), float(group.cells["mean"].max())

    def draw(axes: Axes, cells: pd.DataFrame) -> Axes:
        return heat_map(axes, cells, across, down, limits, labels, measure)

    title = f"{measure.label} over {down} and {across}" + (f", by {' and '.join(rest)}" if rest else "")
    bar = f"{measure.average[0].upper()}{measure.average[1:]}{' (%)' if measure.fraction else ''}"
    name = _slug("-".join([measure.name, *rest, down, across]))
    return Picture(name, title, _in_grid(panels, draw, colour_bar=bar))


def _panels_of(cells: pd.DataFrame, keys: Sequence[str], labels: Labels) -> Iterator[_Panel]:
    """The cells by those keys that differ, each with what sets it apart as its heading."""
    differing = [key for key in keys if cells[key].nunique(dropna=False) > 1]
    if not differing:
        if len(cells):
            yield "", cells
        return
    for values, group in cells.groupby(differing, sort=False, dropna=False):
        pairs = zip(differing, values, strict=True)
        yield ", ".join(str(v) if k == "family" else f"{k} {value_text(k, v, labels)}" for k, v in pairs), group


def _in_grid(
    panels: Sequence[_Panel],
    draw: Callable[[Axes, pd.DataFrame], Axes],
    note: str = "",
    *,
    legends: bool = False,
    height: float = HEIGHT,
    colour_bar: str = "",
) -> Callable[[Figure], None]:
    """Axes with their headings: below one another where they have legends, else also beside.

    `height` are inches of one; `colour_bar` says what shades are, where there are any.
    """

    def draw_all(figure: Figure) -> None:
        columns = 1 if legends else min(len(panels), 3)
        rows = math.ceil(len(panels) / columns)
        grid = [figure.add_subplot(rows, columns, i + 1) for i in range(len(panels))]
        for axes, (heading, cells) in zip(grid, panels, strict=True):
            draw(axes, cells)
            if heading:
                set_heading(axes, textwrap.fill(heading, _LETTERS_OF_PANEL))
        sizes = [size_with_legend(axes, height) for axes in grid]
        if legends or len(panels) == 1:
            over = 0.0 if len(panels) == 1 else _HEADING
            figure.set_size_inches(max(w for w, _ in sizes), sum(h + over for _, h in sizes))
        else:
            figure.set_size_inches(max(WIDTH, 3.4 * columns), 3.1 * rows + 0.4)
        if colour_bar:
            figure.colorbar(grid[0].collections[0], ax=grid, label=colour_bar, fraction=0.05, pad=0.02)
        if note:
            figure.suptitle(note, x=0.01, ha="left", fontsize="small")

    return draw_all


def _slug(name: str) -> str:
    return re.sub(r"[^\w-]+", "-", name)
