"""The folder of a run: one interface to a local disk and to object stores."""

from __future__ import annotations

import contextlib
import re
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from sweep.errors import InputError, StoreError
from sweep.storage.disk import MOST_BYTES, Disk

OBJECT_STORES = ("s3", "gs", "az")


class AccessError(StoreError):
    """A file of a folder cannot be read or written; `reason` says why, the same whatever the file."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = re.sub(r", after \d+ tries in \d+ s", "", reason)


class Place(Protocol):
    """Where files lie. Whatever cannot be done is an OSError."""

    def read(self, name: str, most: int = MOST_BYTES) -> bytes | None:
        """The content of a file of so many bytes at most, or None when there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file, replacing an older one."""

    def create(self, name: str, content: bytes) -> bool:
        """Write a whole file that is not there yet; False, and nothing changed, when it is."""

    def update(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Replace a file by what `change` makes of it, losing nothing that others write at the same time."""

    def move(self, name: str, to: str) -> None:
        """Give a file another name; one that is gone already is no mistake."""

    def remove(self, name: str) -> None:
        """Remove a file; one that is gone already is no mistake."""

    def names(self, under: str) -> list[str]:
        """Files directly below `under`, sorted, without hidden ones."""

    def tidy(self, under: str) -> None:
        """Remove what interrupted writes have left directly below `under`."""

    def probe(self) -> None:
        """Raise OSError unless files can be made here."""

    def withdraw(self) -> None:
        """Remove the folders that `probe` has made, as far as nothing is in them."""


@dataclass(frozen=True)
class Folder:
    """A folder on a local disk or in an object store, given as a path or a URI.

    What cannot be done is a StoreError of one line: which file, and why.
    """

    uri: str

    @classmethod
    def at(cls, place: str | Path) -> Folder:
        """A folder; local paths are made absolute, so that workers elsewhere find the same one."""
        text = str(place)
        if text.startswith("file://"):
            text = urllib.request.url2pathname(urllib.parse.urlsplit(text).path)
        return cls(text if "://" in text else str(Path(text).expanduser().absolute()))

    @property
    def is_remote(self) -> bool:
        """Whether it is in an object store."""
        return "://" in self.uri

    @cached_property
    def _place(self) -> Place:
        scheme, found, rest = self.uri.partition("://")
        if not found:
            return Disk(self.uri)
        if scheme not in OBJECT_STORES:
            valid = ", ".join(f"{name}://" for name in ("file", *OBJECT_STORES))
            raise InputError(f"{scheme}://…: is no kind of folder that is known; valid: a path, {valid}")
        if "?" in rest or "@" in rest.partition("/")[0]:
            raise InputError(
                f"{scheme}://…: an address takes no credentials and no options; set them in the environment, "
                "such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL"
            )
        try:
            from sweep.storage.objects import Bucket
        except ModuleNotFoundError:
            raise InputError(f"{self.uri}: object stores need a library: pip install 'noisesweep[cloud]'") from None
        try:
            return Bucket(self.uri.rstrip("/"))
        except OSError as error:
            raise InputError(f"{self.uri}: is no folder that can be used: {_reason(error)}") from None

    def read(self, name: str, most: int = MOST_BYTES) -> bytes | None:
        """The content of a file of so many bytes at most, or None when there is none."""
        with self._said(name, "read"):
            return self._place.read(name, most)

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file, replacing an older one; readers see the one or the other."""
        with self._said(name, "written"):
            self._place.write(name, content)

    def publish(self, name: str, content: bytes) -> bool:
        """Write a whole file that is not there yet; False, and nothing changed, when it is.

        The file appears with all its content or not at all, and never replaces another, whoever writes at the same
        time.
        """
        with self._said(name, "written"):
            return self._place.create(name, content)

    def update(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Replace a file by what `change` makes of its content (None when there is none).

        Nothing is lost that others write at the same time. `change` may be called several times, and may find its own
        work done already, when a store's reply was lost.
        """
        with self._said(name, "written"):
            self._place.update(name, change)

    def move(self, name: str, to: str) -> None:
        """Give a file another name within the folder; one that is gone already is no mistake."""
        with self._said(to, "written"), self._said(name, f"moved to {to}"):
            self._place.move(name, to)

    def remove(self, name: str) -> None:
        """Remove a file; one that is gone already is no mistake."""
        with self._said(name, "removed"):
            self._place.remove(name)

    def names(self, under: str) -> list[str]:
        """Files directly below the folder `under`, sorted, without hidden ones."""
        with self._said(under, "listed"):
            return self._place.names(under)

    def tidy(self, under: str) -> None:
        """Remove what interrupted writes have left directly below `under`; writes that go on are left alone."""
        with self._said(under, "tidied"):
            self._place.tidy(under)

    def check_writable(self) -> None:
        """Raise InputError when no file can be made here."""
        try:
            self._place.probe()
        except OSError as error:
            raise InputError(f"{self.uri}: cannot be written to: {_reason(error)}") from None

    def withdraw(self) -> None:
        """Remove the folders that `check_writable` has made, as far as nothing is in them."""
        self._place.withdraw()

    @contextlib.contextmanager
    def _said(self, name: str, done: str) -> Iterator[None]:
        if name.startswith("/") or "\0" in name or ".." in name.split("/"):
            raise StoreError(f"{self.uri}: {name!r} is no file in it")
        try:
            yield
        except OSError as error:
            reason = _reason(error)
            raise AccessError(f"{self.uri}/{name}: cannot be {done}: {reason}", reason) from None


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
