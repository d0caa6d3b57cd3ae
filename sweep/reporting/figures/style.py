"""Colours, markers and lines of all pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

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
ACCURACY = "Accuracy on the test set (%)"

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
