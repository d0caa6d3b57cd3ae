"""Work on many files at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

FEW = 16  # files, which are quicker one after the other
THREADS = 16  # that wait for an object store

T = TypeVar("T")
R = TypeVar("R")


def each(work: Callable[[T], R], items: Collection[T], threads: int = THREADS) -> Iterator[R]:
    """As `map`, in threads when there are many, to wait for all at once; after an error nothing more is begun."""
    if len(items) <= FEW:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from pool.map(work, items)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
