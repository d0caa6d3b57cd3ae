"""A run folder on a local disk, or on one that is mounted like a local one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

MOST_BYTES = 1 << 30  # of one file
PART = re.compile(r"\.[0-9a-f]{32}\.part")  # readers pass over names that start with a dot; this one is not finished


class Disk:
    """Files below a folder. Whatever cannot be done is an OSError."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)
        self._made: list[Path] = []

    def read(self, name: str, most: int = MOST_BYTES) -> bytes | None:
        try:
            descriptor = os.open(self._inside(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is no ordinary file")
            return file.read(check_size(found.st_size, most))

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file, replacing an older one: beside its target, flushed to disk, then renamed."""
        target = self._inside(name)
        with self._beside(target, content) as temporary:
            temporary.replace(target)
        _flush(target.parent)

    def create(self, name: str, content: bytes) -> bool:
        """Write a whole file that is not there yet, beside its target, flushed to disk, then linked."""
        target = self._inside(name)
        if target.exists():
            return False
        with self._beside(target, content) as temporary:
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
        _flush(target.parent)
        return True

    def update(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Replace a file by what `change` makes of it, while no other process does so."""
        _make(self._root)
        descriptor = os.open(self._root, os.O_RDONLY)
        try:
            _lock(descriptor)
            self.write(name, change(self.read(name)))
        finally:
            os.close(descriptor)

    def move(self, name: str, to: str) -> None:
        source, target = self._inside(name), self._inside(to)
        _make(target.parent)
        with contextlib.suppress(FileNotFoundError):
            source.replace(target)
            _flush(source.parent)
        _flush(target.parent)

    def remove(self, name: str) -> None:
        self._inside(name).unlink(missing_ok=True)

    def names(self, under: str) -> list[str]:
        return sorted(path.name for path in self._files(under) if not path.name.startswith("."))

    def tidy(self, under: str) -> None:
        """Remove what interrupted writes have left directly below `under`; a write that goes on keeps its file."""
        for path in self._files(under):
            if PART.fullmatch(path.name):
                with contextlib.suppress(OSError), path.open("rb") as file:  # it is gone, or locked by its writer
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()

    def probe(self) -> None:
        self._made = [folder for folder in (self._root, *self._root.parents) if not folder.exists()]
        name = f".{uuid.uuid4().hex}.part"
        try:
            self.create(name, b"")
        finally:
            self.remove(name)

    def withdraw(self) -> None:
        with contextlib.suppress(OSError):
            for folder in self._made:
                folder.rmdir()

    def _files(self, under: str) -> list[Path]:
        folder = self._inside(f"{under}/_".lstrip("/")).parent
        if not folder.is_dir():
            return []
        return [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]

    def _inside(self, name: str) -> Path:
        """Where a file is; OSError where a link on the way would lead elsewhere. The root itself may be one."""
        path = self._root / name
        for folder in list(path.relative_to(self._root).parents)[:-1]:
            if (self._root / folder).is_symlink():
                raise OSError(errno.ELOOP, f"{folder} is a link, and links in a run folder are not followed")
        return path

    @contextlib.contextmanager
    def _beside(self, target: Path, content: bytes) -> Iterator[Path]:
        """A new file with this content, flushed to disk, in the target's folder; gone afterwards.

        It is locked for as long as it is open, by which `tidy` knows that its writer lives.
        """
        _make(target.parent)
        with contextlib.ExitStack() as files:
            there = False
            while not there:  # another driver may tidy up before it is locked
                path = target.parent / f".{uuid.uuid4().hex}.part"
                file = files.enter_context(path.open("xb"))
                files.callback(_forget, path)
                _lock(file.fileno())
                there = path.exists()
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            yield path


def check_size(size: int, most: int) -> int:
    """The size of a file that is not too large to be read; OSError says so of others."""
    if size > most:
        raise OSError(errno.EFBIG, f"it has {size:,} bytes; at most {most:,} are read")
    return size


def _forget(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _lock(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # some network disks have no locks
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _make(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        _flush(folder.parent)


def _flush(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
