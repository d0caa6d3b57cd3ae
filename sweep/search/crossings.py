"""How far several heights, which fall along an axis and are known together, stay above 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import interpolate, optimize

NEAR = 4  # parts of the reach within which a place is known where it lies so near to one that was looked at
WIDE = 8  # reaches between the places around one, beyond which the next look is not near an end of them
_MARGIN = 1 / 8  # of the way between them

Heights = Callable[[float], Sequence[float]]
"""At a place, each of the heights."""


def crossings(
    heights: Heights, best: float, worst: float, reach: float, scale: float, near: float | None = None
) -> list[float | None]:
    """The furthest place where each height is 0 or more; None for one that is below 0 from the beginning.

    Each look tells of all heights. Between looks they are interpolated (Fritsch & Carlson 1980, SIAM Journal on
    Numerical Analysis 17, 238-246: monotone cubics), on a scale that is linear near 0 and logarithmic far from it; the
    next look is where the interpolated height is 0, until that lies near one.

    Args:
        heights: with the same draws at each place, so smooth functions of it.
        best, worst: ends of the axis; beyond `worst` nothing is known, and it is the answer of what is above 0 there.
        reach: of how much of the axis is to be spoken: answers are right to a small part of it.
        scale: a height that is neither small nor large.
        near: a guess, with an error of about the reach.
    """
    known: dict[float, list[float]] = {}

    def look(place: float) -> list[float]:
        if place not in known:
            known[place] = np.arcsinh(np.asarray(heights(place)) / scale).tolist()
        return known[place]

    low, high = best, worst
    if near is not None:
        low, high, step = max(near - 2 * reach, best), min(near + 2 * reach, worst), 4 * reach
        while low > best and min(look(low)) < 0:
            low, step = max(low - step, best), 2 * step
        step = 4 * reach
        while high < worst and max(look(high)) >= 0:
            high, step = min(high + step, worst), 2 * step
    look(low)
    return [_crossing(known, look, which, worst, reach) for which in range(len(look(high)))]


def _crossing(
    known: dict[float, list[float]], look: Callable[[float], object], which: int, worst: float, reach: float
) -> float | None:
    while True:
        places = sorted(known)
        values = [known[place][which] for place in places]
        after = next((k for k, value in enumerate(values) if value < 0), None)
        if after is None:
            return worst
        if after == 0:
            return None
        low, high = places[after - 1], places[after]
        curve = interpolate.PchipInterpolator(places, values)
        found = float(optimize.brentq(_height, low, high, args=(curve,)))
        if min(found - low, high - found) <= reach / NEAR:
            return found
        aside = _MARGIN * (high - low) if high - low > WIDE * reach else 0.0
        look(min(max(found, low + aside), high - aside))


def _height(place: float, curve: interpolate.PchipInterpolator) -> float:
    return float(curve(place))
