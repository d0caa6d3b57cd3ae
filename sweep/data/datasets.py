"""Labelled images: read from an .npz file, checked, and made ready for a network."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sweep.errors import InputError
from sweep.files import file_digest, reason, require_file

AS_STORED = "0..255"
RESCALES = {"0..1": (255, 0), AS_STORED: (1, 0), "-1..1": (127.5, 1)}
"""Ways in which whole-number images reach a network → what they are divided by, and what is then subtracted."""

_EXACT = 2**24  # whole numbers from here on are not exact in float32


@dataclass(frozen=True)
class Dataset:
    """Images with their labels.

    Attributes:
        images: (n, ...) as stored, whole numbers or floating.
        labels: (n,) int64, >= 0; (0,) where the images have no class labels.
        digest: SHA-256 of the file, in hex.
        classes: names of the classes, or empty.
        targets: (n, ...) float32, what the outputs are compared with where that is no class labels; else None. `images`
            itself, as stored, where that is what the network is to put out.
    """

    images: np.ndarray
    labels: np.ndarray
    digest: str
    classes: tuple[str, ...] = ()
    targets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def first(self, images: int) -> Dataset:
        """The first so many images, with their labels."""
        part = self.images[:images]
        targets = None if self.targets is None else self.targets[:images]
        targets = part if self.targets is self.images else targets
        return replace(self, images=part, labels=self.labels[:images], targets=targets)


def load_dataset(path: str | Path, split: str = "test") -> Dataset:
    """Reads the arrays `x_<split>` and `y_<split>` of an .npz file.

    Images are (n, ...) of whole numbers or a floating type; labels are (n,) or (n, 1) integers from 0, or one-hot
    rows (n, classes), which become integers. Pickled objects are never read.

    Raises:
        InputError: the file or its arrays are unusable; all that is wrong with them, one line each.
    """
    path = require_file(path)
    names = (f"x_{split}", f"y_{split}")
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: a single array, not an .npz file with {' and '.join(names)}")
            missing = [name for name in names if name not in archive.files]
            if missing:
                there = ", ".join(archive.files) or "none"
                raise InputError(f"{path}: no array {' and '.join(missing)}; the arrays there are: {there}")
            images, labels = (_read_array(archive, name, path) for name in names)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not an .npz file that NumPy can read: {reason(error)}") from error

    problems = _image_problems(names[0], images) + _label_problems(names[1], labels)
    if images.ndim and labels.ndim and len(images) != len(labels):
        problems.append(f"{names[0]} has {len(images)} images but {names[1]} has {len(labels)} labels")
    if problems:
        raise InputError(f"{path}: {problem}" for problem in problems)
    return Dataset(images, _as_classes(labels), file_digest(path))


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


def _read_array(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    try:
        return np.asarray(archive[name])
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: {name} cannot be read: {reason(error)}") from error


def _image_problems(name: str, images: np.ndarray) -> list[str]:
    if images.dtype.kind not in "iuf":
        return [f"{name} is {images.dtype}; images are whole numbers or floating"]
    if images.ndim < 2:
        return [f"{name} has shape {images.shape}; the first axis counts images, and each needs at least one"]
    if images.size == 0:
        return [f"{name} has shape {images.shape}: it holds no images"]
    if images.dtype.kind in "iu" and max(-int(images.min()), int(images.max())) >= _EXACT:
        return [f"{name} has whole numbers of {_EXACT:,} and more, which float32 does not hold exactly"]
    if images.dtype.kind == "f":
        # A value beyond float32 is infinite for the network, though finite in the file.
        with np.errstate(over="ignore"):
            narrow = images.astype(np.float32, copy=False)
        bad = ~np.isfinite(narrow).reshape(len(images), -1).all(axis=1)
        if bad.any():
            return [f"{name} has NaN or infinite values in {bad.sum()} images, the first at {bad.argmax()}"]
    return []


def _label_problems(name: str, labels: np.ndarray) -> list[str]:
    if labels.ndim not in (1, 2) or labels.shape[1:] == (0,):
        return [f"{name} has shape {labels.shape}; labels are (n,) integers or (n, classes) one-hot rows"]
    if len(labels) == 0:
        return [f"{name} has shape {labels.shape}: it holds no labels"]
    if _is_one_hot(labels):
        if labels.dtype.kind not in "buif":
            return [f"{name} is {labels.dtype}; one-hot rows hold numbers"]
        bad = (np.count_nonzero(labels == 1, axis=1) != 1) | (np.count_nonzero(labels, axis=1) != 1)
        if bad.any():
            return [f"{name} has {bad.sum()} rows that are not one-hot (a single 1, else 0), "
                    f"the first at {bad.argmax()}"]  # fmt: skip
        return []
    if labels.dtype.kind not in "bui":
        return [f"{name} is {labels.dtype}; labels are integers from 0, or one-hot rows"]
    bad = labels.reshape(-1).astype(np.int64) < 0
    if bad.any():
        return [f"{name} has {bad.sum()} negative labels, the first at {bad.argmax()}; labels count from 0"]
    return []


def _is_one_hot(labels: np.ndarray) -> bool:
    # A single column holds plain labels, as in the CIFAR files of Keras.
    return labels.ndim == 2 and labels.shape[1] > 1


def _as_classes(labels: np.ndarray) -> np.ndarray:
    if _is_one_hot(labels):
        labels = labels.argmax(axis=1)
    return labels.reshape(-1).astype(np.int64)
