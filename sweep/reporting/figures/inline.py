"""Pictures as SVG for the inside of a page: text stays text, colours follow the page, cells can be pointed at."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sweep.reporting.figures.pictures import Picture
from sweep.reporting.figures.style import COLOURS, QUIET, RAMP, RULE, house_style, marks

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 72  # an inch
_HIT = 9  # points, radius of what can be pointed at
_MOST_DOTS = 20_000  # a picture; of more chips every second, third, … is drawn
# Colours of our own → names that the page's style sheet gives values to, for light and for dark.
_VARIABLES = {
    "#ffffff": "paper",
    "#000000": "ink",
    RULE: "grid",
    QUIET: "quiet",
    **{colour.lower(): f"c{i}" for i, colour in enumerate(COLOURS)},
    **{colour.lower(): f"r{i}" for i, colour in enumerate(RAMP)},
}


@dataclass(frozen=True)
class Inline:
    """A picture inside a page.

    Attributes:
        svg: the element; ids start with a prefix that is unique in the page.
        series: labels of what can be switched on and off; the n-th has `data-series="n"` in the element.
        thinned: of so many chips one is drawn.
    """

    svg: str
    series: tuple[str, ...]
    thinned: int


def inline(picture: Picture, prefix: str, texts: Mapping[str, tuple[str, str]]) -> Inline:
    """Draw a picture for a page.

    Args:
        picture: one of `pictures`.
        prefix: of all ids; letters, digits and hyphens.
        texts: cell id → (id of the element to which its mark links, what its mark says); others have no mark.
    """
    from matplotlib.figure import Figure

    with house_style(**{"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure = Figure(layout="constrained", dpi=_POINTS)
        picture.draw(figure)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        numbers = _number_series(figure)
        chips = [path for axes in figure.axes for path in _take_chips(axes)]
        every = max(1, -(-sum(len(points) for _, _, points in chips) // _MOST_DOTS))
        below = "".join(_dots(numbers[key], colour, points[::every]) for key, colour, points in chips)
        above = "".join(_marks(figure, numbers, texts))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", dpi=_POINTS, metadata={"Date": None, "Creator": None})
    svg = _adapt(buffer.getvalue().decode(), prefix, picture.title)
    svg = _insert(svg, below, above)
    return Inline(svg, tuple(dict.fromkeys(label for label, _ in numbers.values() if label)), every)


def _number_series(figure: Figure) -> dict[str, tuple[str, int]]:
    """Every series of every axes → (label, number of the label in this picture; -1 where it has none).

    What is drawn of a series gets its number into its `gid`.
    """
    numbers: dict[str, int] = {}
    found: dict[str, tuple[str, int]] = {}
    for position, axes in enumerate(figure.axes):
        drawn = [artist for artist in axes.get_children() if str(artist.get_gid() or "").startswith("series-")]
        labels = {mark.series: "" for mark in marks(axes)}
        for artist in drawn:
            label = str(artist.get_label())
            if not label.startswith("_"):  # as matplotlib marks what is not in the legend
                labels[_series_of(artist)] = label
        for series, label in labels.items():
            found[f"{position}:{series}"] = label, numbers.setdefault(label, len(numbers)) if label else -1
        for artist in drawn:
            number = found[f"{position}:{_series_of(artist)}"][1]
            artist.set_gid(f"s{number}-{position}-{artist.get_gid()}")
    return found


def _series_of(artist: Artist) -> str:
    return str(artist.get_gid()).rpartition("-")[0]


def _take_chips(axes: Axes) -> Iterator[tuple[str, str, np.ndarray]]:
    """The dots of axes as (series, colour, points on the page); they are not drawn any more."""
    from matplotlib.colors import to_hex

    figure = axes.figure
    position = figure.axes.index(axes)
    height = figure.bbox.height
    for artist in axes.collections:
        name = re.fullmatch(r"s-?\d+-\d+-(series-\d+)-chips", str(artist.get_gid() or ""))
        if name:
            points = axes.transData.transform(np.asarray(artist.get_offsets()))
            artist.set_visible(False)
            flipped = np.column_stack([points[:, 0], height - points[:, 1]])
            yield f"{position}:{name[1]}", to_hex(tuple(np.asarray(artist.get_facecolor())[0])).lower(), flipped


def _dots(series: tuple[str, int], colour: str, points: np.ndarray) -> str:
    path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
    return f'<path class="chips" data-series="{series[1]}" d="{path}" style="stroke: {_colour(colour)}"/>'


def _marks(
    figure: Figure, numbers: Mapping[str, tuple[str, int]], texts: Mapping[str, tuple[str, str]]
) -> Iterator[str]:
    height = figure.bbox.height
    for position, axes in enumerate(figure.axes):
        for mark in marks(axes):
            if mark.cell not in texts:
                continue
            target, text = texts[mark.cell]
            x, y = axes.transData.transform((mark.x, mark.y))
            series = numbers[f"{position}:{mark.series}"][1]
            said = html.escape(text)
            yield (
                f'<a class="mark" href="#{target}" data-series="{series}" aria-label="{said}">'
                f'<title>{said}</title><circle cx="{x:.1f}" cy="{height - y:.1f}" r="{_HIT}"/></a>'
            )


def _adapt(svg: str, prefix: str, title: str) -> str:
    """From a file of its own to an element of a page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<[^>]*>", lambda tag: _adapt_tag(tag[0], prefix), svg)  # never in text
    box = re.search(r'viewBox="([^"]*)"', svg)
    assert box is not None
    head = f'<svg class="picture" viewBox="{box[1]}" role="group" aria-label="{html.escape(title)}">'
    return re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1).strip()


def _adapt_tag(tag: str, prefix: str) -> str:
    tag = re.sub(r'^<g id="s(-?\d+)-(\d+-[^"]*)"', r'<g data-series="\1" id="\2"', tag)
    tag = re.sub(r' id="', f' id="{prefix}-', tag)
    tag = re.sub(r'(?:xlink:)?href="#', f'href="#{prefix}-', tag)
    tag = re.sub(r"url\(#", f"url(#{prefix}-", tag)
    tag = re.sub(r"'DejaVu Sans'[^;\"]*sans-serif", "var(--sans)", tag)
    return re.sub(r"(?<=: )#[0-9a-f]{6}\b", lambda found: _colour(found[0]), tag)


def _insert(svg: str, below: str, above: str) -> str:
    """Chips below the first series, marks above all."""
    first = svg.find("<g data-series=")
    if first >= 0:
        svg = svg[:first] + below + svg[first:]
    return svg.removesuffix("</svg>") + above + "</svg>"


def _colour(colour: str) -> str:
    return f"var(--{_VARIABLES[colour]})" if colour in _VARIABLES else colour
