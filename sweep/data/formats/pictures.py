"""Images in files of images (PNG, JPEG, …): decoded to whole numbers from 0 to 255."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable

import numpy as np

from sweep.errors import InputError
from sweep.files import reason

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
"""Names of image files end so; those that Keras looks for."""

_GREY, _COLOURED = ("1", "L"), ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def decode(files: Iterable[tuple[str, bytes]], count: int, channels: int | None) -> np.ndarray:
    """Images of one size.

    Args:
        files: (name, content) of each; of an animation, the first frame counts.
        count: how many there are.
        channels: what the networks take: 1 (only files without colour), 3 (RGB; grey becomes colour, transparency is
            dropped) or 4 (RGBA); anything else gives grey images where the first file is grey, and RGB otherwise.

    Returns:
        (count, height, width) uint8 of grey images, (count, height, width, 3 or 4) of others.

    Raises:
        InputError: a file is no such image, its numbers have more than 8 bits, or it has another size than the first.
    """
    from PIL import Image

    images, first = np.empty(0, np.uint8), ""
    mode = _MODES.get(channels or 0, "")
    for i, (name, content) in enumerate(files):
        try:
            with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as image:
                warnings.simplefilter("ignore")
                if image.mode not in _COLOURED:
                    raise InputError(f"{name}: is stored as {image.mode}; images of 8 bits, grey or RGB, are read")
                mode = mode or ("L" if image.mode in _GREY else "RGB")
                if mode == "L" and image.mode not in _GREY:
                    others = "the network takes images of one channel" if channels == 1 else f"{first} has none"
                    raise InputError(f"{name}: has colour, and {others}; make all alike")
                decoded = np.asarray(image.convert(mode))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"{name}: cannot be read as an image: {reason(error)}") from error
        if not i:
            images, first = np.empty((count, *decoded.shape), np.uint8), name
        if decoded.shape != images.shape[1:]:
            sizes = [f"{shape[1]} × {shape[0]}" for shape in (decoded.shape, images.shape[1:])]
            raise InputError(f"{name}: has {sizes[0]} pixels, and {first} has {sizes[1]}; all images need one size")
        images[i] = decoded
    return images
