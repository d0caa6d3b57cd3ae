"""Labelled images: read, checked, and made ready for a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sweep.data.formats.class_folders import class_names, read_class_folders
from sweep.data.formats.functions import read_function
from sweep.data.formats.npy import read_folder, read_npz
from sweep.data.formats.stored import TABLES, Stored, Wanted
from sweep.data.inputs import problems_of
from sweep.data.labels import Labels, understood
from sweep.data.places import Place
from sweep.errors import InputError, collected
from sweep.files import function_in

AS_STORED = "0..255"
RESCALES = {"0..1": (255, 0), AS_STORED: (1, 0), "-1..1": (127.5, 1)}
"""Ways in which whole-number images reach a network → what they are divided by, and what is then subtracted."""


_TELLING = 64  # images by which one set is told from another


@dataclass(frozen=True)
class Dataset:
    """Images with what belongs to them.

    Attributes:
        images: (n, ...) as stored, whole numbers or floating; read-only where they are mapped from a file. Of a network
            with several inputs (n,) records with a field for each (`sweep.data.inputs`).
        labels: (n,) int64, >= 0, the classes; (0,) where there are none but `targets`.
        digest: SHA-256, in hex: of the file where the study names nothing in it, else of all files and what it names.
        classes: names of the classes from 0 on, where labels were mapped to them; else empty.
        targets: (n, ...) float32, or None: what `sweep.data.labels` finds instead of classes, or beside them. Where
            it is the images (`y` names the same array), it is `images` itself, as stored.
        place: of the images, where they are mapped from a file.
        by_name: whether the fields of records are called as the network's inputs, and not just in their order.
    """

    images: np.ndarray
    labels: np.ndarray
    digest: str
    classes: tuple[str, ...] = ()
    targets: np.ndarray | None = None
    place: Place | None = None
    by_name: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def first(self, images: int) -> Dataset:
        """The first so many images, with what belongs to them."""
        part = self.images[:images]
        targets = None if self.targets is None else self.targets[:images]
        targets = part if self.targets is self.images else targets
        return replace(self, images=part, labels=self.labels[:images], targets=targets, place=None)


def load_dataset(path: str | Path, wanted: str | Wanted = "test", labels: Sequence[str | int] | None = None) -> Dataset:
    """Reads images and labels, in any of the formats: the one door to data.

    An `.npz` file; a folder of `.npy` files, of tables, or of a folder of images for each class; a table (`.parquet`,
    `.arrow`, `.feather`, `.csv`); or `my_data.py:function`, which runs that file. See `sweep.data.formats` for what
    each holds, and `sweep.data.labels` for what becomes of labels. Images are (n, ...), whole numbers or floating.

    Args:
        path: where they are.
        wanted: what of it, or a split.
        labels: class k is the k-th of these.

    Raises:
        InputError: something is unusable; all that is wrong with it, one line each.
    """
    wanted = Wanted(wanted) if isinstance(wanted, str) else wanted
    path = Path(path)
    stored = _reader(path)(path, wanted)
    problems = problems_of(stored.names[0], stored.x)
    found = Labels(np.empty(0, np.int64))
    if stored.y is stored.x:
        if labels is not None:
            problems.append(f"labels: are given, and {stored.names[1]} is the images")
        found = found._replace(targets=stored.x)
    elif stored.y is not None:
        with collected(problems):
            found = understood(stored.names[1], stored.y, labels, stored.classes)
        if stored.x.ndim and stored.y.ndim and len(stored.x) != len(stored.y):
            problems.append(
                f"{stored.names[0]} has {len(stored.x)} images but {stored.names[1]} has {len(stored.y)} labels"
            )
    if problems:
        raise InputError(f"{path}: {problem}" for problem in problems)
    digest = stored.digest
    if wanted.x is not None or wanted.y is not None or labels is not None:
        x = sorted(wanted.several.items()) if wanted.by_name else wanted.x
        named = json.dumps([digest, x, wanted.y, labels and list(labels)])
        digest = hashlib.sha256(named.encode()).hexdigest()
    return Dataset(stored.x, found.classes, digest, found.names, found.targets, stored.place, stored.by_name)


def _reader(path: Path) -> Callable[[Path, Wanted], Stored]:
    """What reads the format of this path."""
    if function_in(path):
        return read_function
    if path.is_dir():
        if any(path.glob("*.npy")):
            return read_folder
        tables = sorted(file.name for file in path.iterdir() if file.suffix.lower() in TABLES)
        if classes := class_names(path):
            if tables:
                raise InputError(
                    f"{path}: holds tables ({tables[0]}) and folders ({classes[0]}); name what is the dataset"
                )
            return read_class_folders
        if not tables:
            raise InputError(f"{path}: a folder without .npy files, tables, or a folder of images for each class")
        return _read_table
    return _read_table if path.suffix.lower() in TABLES else read_npz


def _read_table(path: Path, wanted: Wanted) -> Stored:
    from sweep.data.formats.tables import read_table  # and with it Arrow

    return read_table(path, wanted)


def are_the_same(some: Dataset, others: Dataset) -> bool:
    """Whether the images of two sets are the same, as far as the first of them tell."""
    one, other = some.images[:_TELLING], others.images[:_TELLING]
    alike = (one.dtype, some.images.shape) == (other.dtype, others.images.shape)
    return bool(alike and np.array_equal(one, other))


def prepare_images(images: np.ndarray, input_shape: tuple[int | None, ...], rescale: str = "0..1") -> np.ndarray:
    """Images as the network takes them.

    Args:
        images: (n, ...) whole numbers, or floating in whatever units the network was trained on.
        input_shape: what the network expects of one image; None fits any size.
        rescale: of `RESCALES`, for whole numbers; floating images are never touched.

    Returns:
        (n, ...) float32, C-contiguous. Whole numbers are rescaled in float32; a channel axis of size 1 is added
        where the network has one and the images have not.
    """
    shape = image_shape(images.shape, input_shape)
    scaled = images.astype(np.float32)
    if images.dtype.kind in "iu":
        divisor, less = RESCALES[rescale]
        scaled /= np.float32(divisor)
        scaled -= np.float32(less)
    return np.ascontiguousarray(scaled.reshape((len(images), *shape)))


def image_shape(shape: tuple[int, ...], input_shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """The shape of one prepared image, for images stored as an array of this `shape` (n, ...)."""
    single = tuple(shape[1:])
    if len(single) != len(input_shape) - 1:
        return single
    if input_shape[-1] in (1, None) and _fits(single, input_shape[:-1]):
        return (*single, 1)
    if input_shape[0] == 1 and _fits(single, input_shape[1:]):
        return (1, *single)
    return single


def fits(shape: tuple[int, ...], input_shape: tuple[int | None, ...]) -> bool:
    """Whether images stored as an array of this `shape` (n, ...) can go into the network once prepared."""
    return _fits(image_shape(shape, input_shape), input_shape)


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(want in (None, have) for have, want in zip(shape, expected, strict=True))
