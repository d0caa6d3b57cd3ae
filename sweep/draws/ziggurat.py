"""The ziggurat of the normal law: the half-density under 256 strips of one area.

Marsaglia & Tsang, "The ziggurat method for generating random variables", Journal of Statistical Software 5(8), 2000.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

STRIPS = 256
EDGE = 3.6541528853610088
"""Where the tail begins, for so many strips, as published."""
_STEPS = 2**23  # of a draw's place in its strip


class Strips(NamedTuple):
    """Of each strip k, the lowest, with the tail, being 0, the topmost 1, and then downwards.

    Attributes:
        width: (256,) of a step in it, float32: a draw at step s is s · width.
        sure: (256,) steps below which a draw lies under the density, int32.
        height: (256,) exp(−x²/2) at its right edge x, float32; 1 for k = 0.
    """

    width: npt.NDArray[np.float32]
    sure: npt.NDArray[np.int32]
    height: npt.NDArray[np.float32]


def strips() -> Strips:
    """The strips, from the outermost edge inwards: x[k−1] = √(−2 ln(v/x[k] + exp(−x[k]²/2))), v the area of each."""
    density = math.exp(-(EDGE**2) / 2)
    area = EDGE * density + math.sqrt(math.pi / 2) * math.erfc(EDGE / math.sqrt(2))
    edges = [0.0] * (STRIPS - 1) + [EDGE]
    for k in range(STRIPS - 1, 1, -1):
        edges[k - 1] = math.sqrt(-2 * math.log(area / edges[k] + math.exp(-(edges[k] ** 2) / 2)))
    below = area / density  # as wide as a strip of that area is that has the tail's height
    sure = [EDGE / below, 0.0, *(inner / outer for inner, outer in itertools.pairwise(edges[1:]))]
    heights = [math.exp(-(x**2) / 2) for x in edges]
    return Strips(
        np.array([below, *edges[1:]], np.float64).astype(np.float32) / np.float32(_STEPS),
        np.rint(np.array(sure) * _STEPS).astype(np.int32),
        np.array(heights, np.float64).astype(np.float32),
    )
