"""How much of the images a process may hold, in the forms in which backends read them."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence

HELD_BYTES = 1024**3  # of images that a worker holds at most, unless it is told otherwise
PIECE_BYTES = 64 * 1024**2  # of images made at a time, at most, where not all are held
_PIECES = 4  # that there must be room for: as stored and scaled, as a backend reads them, and a next one


class Budget:
    """Memory for images: who has room in it holds all of them, the others make them anew, a piece at a time."""

    def __init__(self, size: int | None = None) -> None:
        """Of so many bytes; None for no end of them."""
        self._size = size
        self._left = math.inf if size is None else max(0, size - _PIECES * self.piece)

    @property
    def piece(self) -> int:
        """Bytes of the images that are made at a time."""
        return PIECE_BYTES if self._size is None else min(PIECE_BYTES, self._size // (2 * _PIECES))

    def holds(self, owner: object, size: int) -> bool:
        """Whether there is room for so many bytes; if so, it is taken for as long as their owner lives."""
        if size > self._left:
            return False
        self._left -= size
        weakref.finalize(owner, self._give_back, size)
        return True

    def trials(self, size: int, most: int) -> int:
        """Trials, each with so many bytes of scores to keep, to evaluate at the same time: 1 to `most`."""
        return most if self._size is None else max(1, min(most, self._size // (2 * max(1, size))))

    def _give_back(self, size: int) -> None:
        self._left += size


def ranges(images: int, block: int | None, piece: int) -> list[range]:
    """All images, cut into blocks (None: one), and these into pieces."""
    size = block or images
    bounds = ((first, min(first + size, images)) for first in range(0, images, size))
    return [range(start, min(start + piece, stop)) for first, stop in bounds for start in range(first, stop, piece)]


def piece_of(room: int, steps: Sequence[int]) -> int:
    """How many images to make at a time: about `room`, a multiple of all steps, or of the first alone.

    So no step is cut, and scores are the same to the last digit as those of all images made at once.
    """
    whole = math.lcm(*steps)
    unit = whole if whole <= room else steps[0]
    return max(unit, room // unit * unit)
