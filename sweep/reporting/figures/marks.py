"""Which places of a picture stand for which cells, for readers that can point at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
