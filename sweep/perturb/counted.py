"""A fixed number of things out of many, all sets of them alike likely."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def distinct(count: int, total: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """`count` different whole numbers from 0 to total − 1, one draw each, so that more of them begin with the fewer.

    The first steps of a shuffle (Durstenfeld, Algorithm 235, Communications of the ACM 7, 1964), of which only what has
    moved is kept. A number is taken by a uniform one in [0, 1), which favours none by more than total · 2⁻⁵³.
    """
    if count > total:
        raise ValueError(f"{count} are more than {total}")
    order = np.arange(count)
    places = order + (generator.random(count) * (total - order)).astype(np.int64)
    moved: dict[int, int] = {}
    taken = []
    for k, place in enumerate(places.tolist()):
        taken.append(moved.get(place, place))
        moved[place] = moved.get(k, k)
    return np.array(taken, np.int64)
