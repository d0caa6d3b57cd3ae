"""Every file name of a run folder, and the file system that it lies on."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from sweep.errors import InputError, StoreError


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
        """Write a whole file, replacing an older one: beside its target first, then renamed."""
        system, root = self._opened
        parent, _, leaf = f"{root}/{name}".rpartition("/")
        temporary = f"{parent}/.{uuid.uuid4().hex}.part"  # readers pass over names that start with a dot
        try:
            system.create_dir(parent, recursive=True)
            with system.open_output_stream(temporary) as file:
                file.write(content)
            system.move(temporary, f"{parent}/{leaf}")
        except OSError as error:
            raise StoreError(f"{root}/{name}: cannot be written: {error}") from None

    def names(self, under: str) -> list[str]:
        """Files directly below the folder `under`, sorted, without hidden ones."""
        system, root = self._opened
        found = system.get_file_info(fs.FileSelector(f"{root}/{under}", allow_not_found=True))
        return sorted(i.base_name for i in found if i.is_file and not i.base_name.startswith("."))

    def tidy(self, under: str) -> None:
        """Remove what interrupted writes have left below `under`."""
        system, root = self._opened
        for info in system.get_file_info(fs.FileSelector(f"{root}/{under}", allow_not_found=True)):
            if info.is_file and info.base_name.startswith(".") and info.base_name.endswith(".part"):
                system.delete_file(info.path)

    def check_writable(self) -> None:
        """Raise InputError when no file can be made here."""
        system, root = self._opened
        probe = f"{root}/.{uuid.uuid4().hex}.part"
        try:
            system.create_dir(root, recursive=True)
            with system.open_output_stream(probe) as file:
                file.write(b"")
            system.delete_file(probe)
        except OSError as error:
            raise InputError(f"{root}: cannot be written to: {error}") from None
