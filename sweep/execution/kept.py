"""What a worker's process keeps from one chunk to the next."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def kept(latest: OrderedDict[K, V], key: K, most: int, make: Callable[[], V]) -> V:
    """What was made for a key, or is made now; the latest few are kept, and room is made for a new one before."""
    if key not in latest:
        while len(latest) >= most:
            latest.popitem(last=False)
        latest[key] = make()
    latest.move_to_end(key)
    return latest[key]
