"""What all pictures have in common: colours and lines, legends, and which places stand for which cells."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito, Color universal design (2008), without yellow and black; neighbours differ in lightness too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
# Viridis without its light end, which is lost on paper: levels of one parameter, the lightest last.
RAMP = ("#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779")
MARKERS = ("o", "s", "^", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")
RULE = "#e5e5e5"
QUIET = "#595959"
PUBLISHED_POINTS: dict[str, Any] = {
    "linestyle": "none",
    "marker": "D",
    "markersize": 9,
    "markerfacecolor": "none",  # the mean below stays visible
    "markeredgecolor": "black",
    "markeredgewidth": 1.3,
    "zorder": 4,
}
PUBLISHED = "published"
MOST_CURVES = 6
"""Curves with dots and the legend above; more are drawn without dots, the legend beside."""

WIDTH, HEIGHT = 6.4, 4.2  # inches: a column and a half of print
_MARGIN = 0.6  # inches, for its lines and markers
_YLABEL = 0.6  # inches, with the ticks
_LETTER = 0.072  # inches, mean width in the legend's font
_ROW = 0.2  # inches
_LINE = 92  # characters that fit above the axes

_STYLE = {
    "svg.hashsalt": "noisesweep",  # else element ids differ from call to call
    "path.simplify_threshold": 0.25,  # points; a curve of a thousand chips has as many steps
    "text.parse_math": False,  # a family's name may have dollars
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.edgecolor": "none",
}


@contextlib.contextmanager
def house_style(**settings: object) -> Iterator[None]:
    """Draw as all pictures of this package are drawn, whatever the user's matplotlibrc says."""
    from matplotlib import style

    with style.context(["default", {**_STYLE, **settings}]):
        yield


def ramp(count: int) -> Sequence[str]:
    """So many colours of `RAMP`, from its dark end to its light one; it has seven."""
    if count == 1:
        return RAMP[:1]
    return [RAMP[round(i * (len(RAMP) - 1) / (count - 1))] for i in range(count)]


def add_legend(axes: Axes, title: str | None = None) -> None:
    """Outside the axes, since no corner is free of dots in every study: above, or beside where curves are many."""
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


def size_with_legend(axes: Axes, height: float = HEIGHT) -> tuple[float, float]:
    """Inches of a figure whose legend leaves the axes their place."""
    labels = axes.get_legend_handles_labels()[1]
    if not labels:
        return WIDTH, height
    legend = _MARGIN + max(map(len, labels)) * _LETTER
    if _crowded(labels):
        return WIDTH + legend, max(height, (len(labels) + 2) * _ROW)
    rows = 1 + math.ceil(len(labels) / _columns(labels))
    return max(WIDTH, _YLABEL + legend), height + rows * _ROW


def _crowded(labels: Sequence[str]) -> bool:
    return sum(label != PUBLISHED for label in labels) > MOST_CURVES


def _columns(labels: Sequence[str]) -> int:
    """How many labels fit beside one another above the axes."""
    return max(1, min(len(labels), _LINE // (10 + max(map(len, labels)))))


class Mark(NamedTuple):
    """A cell's place.

    Attributes:
        cell: its id.
        x, y: in the units of the axes' data.
        series: the id of the curve or family that it belongs to, as in the `gid` of what is drawn of it.
    """

    cell: str
    x: float
    y: float
    series: str


_MARKS: WeakKeyDictionary[Axes, list[Mark]] = WeakKeyDictionary()


def mark(axes: Axes, cells: Sequence[str], x: Sequence[float], y: Sequence[float], series: str) -> None:
    """Note where cells are drawn."""
    places = zip(cells, x, y, strict=True)
    _MARKS.setdefault(axes, []).extend(Mark(str(cell), float(a), float(b), series) for cell, a, b in places)


def marks(axes: Axes) -> list[Mark]:
    """What was noted for these axes, in the order in which it was drawn."""
    return list(_MARKS.get(axes, ()))


def series_id(number: int) -> str:
    """The id of the n-th curve of some axes; what is drawn of it has a `gid` that starts so."""
    return f"series-{number}"
