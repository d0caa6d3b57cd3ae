"""Every file name of a run folder, and the file system that it lies on."""

from __future__ import annotations

import contextlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from sweep.errors import InputError, StoreError

PART = ".part"  # readers pass over names that start with a dot; what ends like this is not finished


@dataclass(frozen=True)
class Folder:
    """A folder on a local disk or in an object store, given as a path or a `pyarrow.fs` URI."""

    uri: str

    @classmethod
    def at(cls, place: str | Path) -> Folder:
        """A folder; local paths are made absolute, so that workers elsewhere find the same one."""
        text = str(place)
        return cls(text if "://" in text else str(Path(text).absolute()))

    @property
    def _opened(self) -> tuple[Any, str]:
        try:
            if "://" in self.uri:
                system, path = fs.FileSystem.from_uri(self.uri)
                return system, path.rstrip("/")
            return fs.LocalFileSystem(), self.uri
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{self.uri}: is no folder that can be written to: {error}") from None

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None when there is none."""
        system, root = self._opened
        try:
            with system.open_input_file(f"{root}/{name}") as file:
                content: bytes = file.read()
                return content
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"{root}/{name}: cannot be read: {error}") from None

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file, replacing an older one: beside its target, flushed to disk, then renamed."""
        system, root = self._opened
        parent, _, leaf = f"{root}/{name}".rpartition("/")
        temporary = f"{parent}/.{uuid.uuid4().hex}{PART}"
        try:
            self._write_beside(temporary, content)
            system.move(temporary, f"{parent}/{leaf}")
            self._flush(parent)
        except OSError as error:
            self._forget(temporary)
            raise StoreError(f"{root}/{name}: cannot be written: {error}") from None

    def publish(self, name: str, content: bytes) -> bool:
        """Write a whole file that is not there yet; False, and nothing changed, when it is.

        On a local disk the file appears with all its content, flushed to disk, or not at all, and never replaces
        another, whoever writes at the same time. In an object store the last of several writers wins.
        """
        system, root = self._opened
        target = f"{root}/{name}"
        parent = target.rpartition("/")[0]
        temporary = f"{parent}/.{uuid.uuid4().hex}{PART}"
        try:
            if system.get_file_info(target).type != fs.FileType.NotFound:
                return False
            self._write_beside(temporary, content)
            if not self._local:
                system.move(temporary, target)
                return True
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            finally:
                self._forget(temporary)
            self._flush(parent)
        except OSError as error:
            self._forget(temporary)
            raise StoreError(f"{target}: cannot be written: {error}") from None
        return True

    def move(self, name: str, to: str) -> None:
        """Give a file another name within the folder."""
        system, root = self._opened
        try:
            system.create_dir(f"{root}/{to}".rpartition("/")[0], recursive=True)
            system.move(f"{root}/{name}", f"{root}/{to}")
        except OSError as error:
            raise StoreError(f"{root}/{name}: cannot be moved to {to}: {error}") from None

    @property
    def _local(self) -> bool:
        return "://" not in self.uri or self.uri.startswith("file://")

    def _write_beside(self, path: str, content: bytes) -> None:
        """A new file with this content; on a local disk flushed to it."""
        system = self._opened[0]
        system.create_dir(path.rpartition("/")[0], recursive=True)
        if not self._local:
            with system.open_output_stream(path) as file:
                file.write(content)
            return
        with Path(path).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _flush(self, folder: str) -> None:
        """Make the names in a local folder last; not every system can."""
        if self._local and os.name == "posix":
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _forget(self, temporary: str) -> None:
        with contextlib.suppress(OSError):
            self._opened[0].delete_file(temporary)

    def names(self, under: str) -> list[str]:
        """Files directly below the folder `under`, sorted, without hidden ones."""
        system, root = self._opened
        found = system.get_file_info(fs.FileSelector(f"{root}/{under}", allow_not_found=True))
        return sorted(i.base_name for i in found if i.is_file and not i.base_name.startswith("."))

    def tidy(self, under: str) -> None:
        """Remove what interrupted writes have left below `under`."""
        system, root = self._opened
        for info in system.get_file_info(fs.FileSelector(f"{root}/{under}", allow_not_found=True)):
            if info.is_file and info.base_name.startswith(".") and info.base_name.endswith(PART):
                system.delete_file(info.path)

    def check_writable(self) -> None:
        """Raise InputError when no file can be made here."""
        system, root = self._opened
        probe = f"{root}/.{uuid.uuid4().hex}{PART}"
        try:
            system.create_dir(root, recursive=True)
            with system.open_output_stream(probe) as file:
                file.write(b"")
            system.delete_file(probe)
        except OSError as error:
            raise InputError(f"{root}: cannot be written to: {error}") from None
