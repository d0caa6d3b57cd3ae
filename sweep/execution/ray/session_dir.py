"""The folder in which a local Ray keeps its sockets and logs, and what is left of those whose drivers were killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

PREFIX = "noisesweep-"
LOCK = "lock"


class Scratch:
    """A new folder that only this user can enter; it holds a lock for as long as this process lives.

    Attributes:
        path: short, because Ray's sockets live below it, and a socket's path may have 107 characters at most.
    """

    def __init__(self, place: str | None = None) -> None:
        place = place or ("/tmp" if os.name == "posix" else tempfile.gettempdir())
        _tidy(Path(place))
        self.path = tempfile.mkdtemp(prefix=PREFIX, dir=place)
        self._lock = _locked(Path(self.path, "new"))
        Path(self.path, "new").rename(Path(self.path, LOCK))  # from now on others may find it

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock:
            self._lock.close()


def _tidy(place: Path) -> None:
    """Remove folders whose owners, processes of this user, have died."""
    for folder in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if (folder / LOCK).exists() and (lock := _locked(folder / LOCK)):
                shutil.rmtree(folder, ignore_errors=True)
                lock.close()


def _locked(path: Path) -> IO[bytes] | None:
    """A lock file, held; None when another process holds it, or the file system has no locks."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
