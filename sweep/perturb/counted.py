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


def either(rate: float | None, faults: int | None) -> list[str]:
    """What is wrong where not exactly one of a rate and a number of faults is given."""
    given = [value for value in (rate, faults) if value is not None]
    if len(given) == 1:
        return []
    return [f"rate, faults: {'both are' if given else 'neither is'} given; give the one or the other"]


def too_many(faults: int | None, total: int) -> str:
    """What keeps so many of a total from failing, in words; empty for nothing."""
    if faults is None or faults <= total:
        return ""
    return f"faults: {faults:,} is more than there is to fail, {total:,}"
