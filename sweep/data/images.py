"""What is wrong with an array of images, found block by block: it may be larger than the memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sweep.data.places import released

_BLOCK = 16 * 1024**2  # values that are looked at together
_EXACT = 2**24  # whole numbers from here on are not exact in float32


def image_problems(name: str, images: np.ndarray) -> list[str]:
    """Why these cannot be fed to a network, in words; empty when they can.

    Images are (n, ...), whole numbers that float32 holds exactly or finite floating ones, at least one value each.
    """
    if images.dtype.kind not in "iuf":
        return [f"{name} is {images.dtype}; images are whole numbers or floating"]
    if images.ndim < 2:
        return [f"{name} has shape {images.shape}; the first axis counts images, and each needs at least one"]
    if images.size == 0:
        return [f"{name} has shape {images.shape}: it holds no images"]
    if images.dtype.kind in "iu":
        if any(max(-int(block.min()), int(block.max())) >= _EXACT for _, block in blocks_of(images)):
            return [f"{name} has whole numbers of {_EXACT:,} and more, which float32 does not hold exactly"]
        return []
    count, first = 0, 0
    for start, block in blocks_of(images):
        # A value beyond float32 is infinite for the network, though finite in the file.
        with np.errstate(over="ignore"):
            narrow = block.astype(np.float32, copy=False)
        bad = ~np.isfinite(narrow).reshape(len(block), -1).all(axis=1)
        if bad.any():
            first = first if count else start + int(bad.argmax())
            count += int(bad.sum())
    return [f"{name} has NaN or infinite values in {count} images, the first at {first}"] if count else []


def blocks_of(images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first, block) of all images; the pages of a mapped array are given back after each."""
    step = max(1, _BLOCK * len(images) // images.size)
    for start in range(0, len(images), step):
        yield start, images[start : start + step]
        released(images)
