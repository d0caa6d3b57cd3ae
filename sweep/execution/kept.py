"""What a worker's process keeps from one chunk to the next."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from sweep.engine.evaluator import Evaluator

K = TypeVar("K")
V = TypeVar("V")

Key = tuple[object, ...]
_FEW, _MANY = 4, 16  # evaluators


def kept(latest: OrderedDict[K, V], key: K, most: int, make: Callable[[], V]) -> V:
    """What was made for a key, or is made now; the latest few are kept, and room is made for a new one before."""
    if key not in latest:
        while len(latest) >= most:
            latest.popitem(last=False)
        latest[key] = make()
    latest.move_to_end(key)
    return latest[key]


class Evaluators:
    """The evaluators used latest: as many as have room for their images, of few networks.

    Keys begin with the network and the test set. A few on the test set in use stay, room or not: images may be made a
    piece at a time for them.
    """

    def __init__(self) -> None:
        self._latest: OrderedDict[Key, tuple[Evaluator, int]] = OrderedDict()

    def __iter__(self) -> Iterator[Key]:
        return iter(self._latest)

    def clear(self) -> None:
        """Keep none."""
        self._latest.clear()

    def of(self, key: Key, size: int, memory: int, make: Callable[[], Evaluator]) -> Evaluator:
        """What was made for a key, or is made now.

        Args:
            key: with all that it depends on.
            size: bytes that it may take for images, at most.
            memory: bytes that all may take.
            make: makes it, once there is room.
        """
        self._make_room(key, size, memory)
        if key not in self._latest:
            self._latest[key] = make(), size
        self._latest.move_to_end(key)
        return self._latest[key][0]

    def _make_room(self, key: Key, size: int, memory: int) -> None:
        count, networks, left = 1, {key[0]}, memory - size
        for other in [one for one in reversed(self._latest) if one != key]:
            network, dataset, own = *other[:2], self._latest[other][1]
            few = count < _FEW and dataset == key[1]
            if few or (count < _MANY and own <= left and len(networks | {network}) <= _FEW):
                count, left = count + 1, left - own
                networks.add(network)
            else:
                del self._latest[other]
