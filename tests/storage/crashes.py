"""Processes that die in the middle of their work on files, and disks that take no more."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

OPERATIONS = [
    (os, "open"),
    (os, "link"),
    (os, "fsync"),
    (fcntl, "flock"),
    (Path, "open"),
    (Path, "mkdir"),
    (Path, "replace"),
    (Path, "unlink"),
    (Path, "exists"),
    (Path, "is_dir"),
    (Path, "iterdir"),
    (Path, "read_bytes"),
]


class Crash(BaseException):
    """The process is dead."""


class Files:
    """Counts what is done to files, and may end it.

    Attributes:
        done: operations so far.
        last: the number of the operation at which the process dies; it does nothing after that.
        full: the number from which on nothing can be changed any more,
        error: and why; a full disk still lets files be removed.
        failed: whether anything could not be changed.
        before: called before each operation but its own, and but those under a lock.
    """

    def __init__(self) -> None:
        self.done = 0
        self.last: int | None = None
        self.full: int | None = None
        self.error = errno.ENOSPC
        self.before: Callable[[int], None] | None = None
        self.failed = False
        self._locked: set[int] = set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """With nothing flushed to the disk, which takes long and of which a process cannot see anything."""
        patches = [mock.patch.object(where, name, self._watched(where, name)) for where, name in OPERATIONS]
        closing = mock.patch.object(os, "close", self._closed(os.close))
        for patch in (*patches, closing):
            patch.start()
        try:
            yield
        finally:
            for patch in (*patches, closing):
                patch.stop()

    def _watched(self, where: object, name: str) -> Callable:
        operation = getattr(where, name)

        def run(*given: object, **options: object) -> object:
            hook, self.before = self.before, None
            if hook and not self._locked:
                hook(self.done)
            self.before = hook
            self.done += 1
            if self.last is not None and self.done >= self.last:
                raise Crash
            if self.full is not None and self.done >= self.full and self._changes(where, name, given):
                self._fail(name, given)
            if name == "fsync":
                return None
            result = operation(*given, **options)
            if name == "flock" and isinstance(given[0], int) and stat.S_ISDIR(os.fstat(given[0]).st_mode):
                self._locked.add(given[0])
            return result

        return run

    def _changes(self, where: object, name: str, given: tuple) -> bool:
        if name == "open":
            return where is Path and given[1:] == ("xb",)
        return name in ("link", "mkdir", "replace", "fsync") or (name == "unlink" and self.error != errno.ENOSPC)

    def _fail(self, name: str, given: tuple) -> None:
        self.failed = True
        if name == "fsync" and stat.S_ISREG(os.fstat(given[0]).st_mode):
            os.ftruncate(given[0], os.fstat(given[0]).st_size // 2)  # what a full disk keeps of a file
        raise OSError(self.error, os.strerror(self.error))

    def _closed(self, close: Callable[[int], None]) -> Callable[[int], None]:
        def run(descriptor: int) -> None:
            self._locked.discard(descriptor)
            close(descriptor)

        return run
