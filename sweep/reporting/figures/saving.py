"""Pictures as files."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence

from sweep.reporting.figures.pictures import Picture
from sweep.reporting.figures.style import house_style

_DOTS_PER_INCH = 200
_METADATA = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}


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
