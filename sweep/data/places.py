"""Where in a file an array lies: other processes map it from there, and share its pages."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

_PAGES, _PAGE = 64, 4096  # of a file, that are compared before it is mapped again


@dataclass(frozen=True)
class Place:
    """An array in a file, uncompressed.

    Attributes:
        path: absolute.
        begin: of its first value, in bytes.
        dtype: as NumPy's .npy format says it: a text, or a list of the fields of records.
        shape: of the array.
        by_columns: whether the first axis is the fastest.
        size, written: of the file, when it was read: bytes, and nanoseconds since 1970.
        sample: SHA-256, in hex, of pages all over the file.
    """

    path: str
    begin: int
    dtype: Any
    shape: tuple[int, ...]
    by_columns: bool
    size: int
    written: int
    sample: str

    @classmethod
    def of(
        cls, file: IO[bytes], path: Path, begin: int, dtype: np.dtype, shape: Sequence[int], by_columns: bool = False
    ) -> Place:
        """That of an array in an open file."""
        found = os.fstat(file.fileno())
        sample = _sample(file, found.st_size)
        where = str(path.absolute()), begin, np.lib.format.dtype_to_descr(dtype), tuple(shape), by_columns
        return cls(*where, found.st_size, found.st_mtime_ns, sample)

    def map(self) -> np.ndarray | None:
        """The array, mapped and read-only; None where no such file is within reach, or it is not as it was."""
        try:
            with Path(self.path).open("rb") as file:
                found = os.fstat(file.fileno())
                if (found.st_size, found.st_mtime_ns) != (self.size, self.written):
                    return None
                return self.mapped(file) if _sample(file, self.size) == self.sample else None
        except OSError:
            return None

    def mapped(self, file: IO[bytes]) -> np.ndarray:
        """The array, of the open file."""
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        kind = np.lib.format.descr_to_dtype(self.dtype)
        flat: np.ndarray = np.frombuffer(mapping, kind, int(np.prod(self.shape, dtype=np.int64)), self.begin)
        return flat.reshape(self.shape, order="F" if self.by_columns else "C")


def released(array: np.ndarray) -> None:
    """Give the pages of a mapped array back, which this process has read; they come again where they are read again."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def _sample(file: IO[bytes], size: int) -> str:
    found = hashlib.sha256()
    for number in range(_PAGES):
        file.seek(number * max(0, size - _PAGE) // (_PAGES - 1))
        found.update(file.read(_PAGE))
    return found.hexdigest()
