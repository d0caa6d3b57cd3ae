"""Images in a folder for each class: `cat/1.png`, `dog/7.png`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sweep.data.formats.pictures import SUFFIXES, decode
from sweep.data.formats.stored import Stored, Wanted, joined, told
from sweep.errors import InputError
from sweep.files import reason


def class_names(path: Path) -> list[str]:
    """The folders in it, sorted as Keras's `image_dataset_from_directory` sorts them: the classes, in order."""
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def read_class_folders(path: Path, wanted: Wanted) -> Stored:
    """Reads the images of all classes, class after class, each by the path of its file.

    Folders within that of a class belong to it. The digest is that of the files by their paths and contents.

    Raises:
        InputError: there are no images, one cannot be read, or they differ in size.
    """
    with told(path):
        wanted.alone()
        wanted.unnamed("images lie in a folder for each class")
    classes = class_names(path)
    files = [(name, file) for name in classes for file in _images(path / name)]
    if not files:
        raise InputError(f"{path}: its folders hold no images; their names end in {', '.join(SUFFIXES)}")
    digests: list[tuple[str, str]] = []

    def contents() -> Iterator[tuple[str, bytes]]:
        for _, file in files:
            try:
                content = file.read_bytes()
            except OSError as error:
                raise InputError(f"{file}: cannot be read: {reason(error)}") from error
            digests.append((file.relative_to(path).as_posix(), hashlib.sha256(content).hexdigest()))
            yield str(file), content

    images = decode(contents(), len(files), wanted.channels)
    names = ("images", "labels")
    return Stored(images, np.array([name for name, _ in files]), joined(digests), names, tuple(classes))


def _images(folder: Path) -> Iterator[Path]:
    for inner, _, files in sorted(os.walk(folder)):
        yield from (Path(inner) / file for file in sorted(files) if file.lower().endswith(SUFFIXES))
