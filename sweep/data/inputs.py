"""Arrays that go into a network together, as one array of records: a field for each, an image for each record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sweep.data.images import blocks_of, image_problems
from sweep.errors import InputError

_READ = "biuf"  # kinds of numbers


def together(parts: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """Several arrays (n, ...) with their names as (n,) records, each field in its own type: a copy.

    Raises:
        InputError: two have one name, one holds no numbers, or they have different lengths.
    """
    names = [name for name, _ in parts]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"two inputs are called {min(twice)!r}")
    problems = [f"{name} is {part.dtype}; inputs are numbers" for name, part in parts if part.dtype.kind not in _READ]
    problems += [f"{name} is a single number; its first axis counts images" for name, part in parts if not part.ndim]
    if problems:
        raise InputError(problems)
    lengths = {name: len(part) for name, part in parts}
    if len(set(lengths.values())) > 1:
        raise InputError(f"inputs differ in length: {', '.join(f'{n} has {k:,}' for n, k in lengths.items())}")
    fields = [(name, part.dtype.newbyteorder("="), part.shape[1:]) for name, part in parts]
    records = np.empty(len(parts[0][1]), np.dtype(fields))
    for name, part in parts:
        for first, block in blocks_of(part) if part.size else ():
            records[name][first : first + len(block)] = block
    return records


def fields_of(images: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays (n, ...) in records, by name, as views; none in an array of images."""
    return {name: images[name] for name in images.dtype.names or ()}


def problems_of(name: str, images: np.ndarray) -> list[str]:
    """As `image_problems`, of images that messages call `name`, or of each field of records, by the field's name."""
    fields = fields_of(images)
    if not fields:
        return image_problems(name, images)
    if not len(images):
        return [f"{name} hold no images"]
    found = []
    for field, part in fields.items():
        if part.dtype.kind != "b":  # as such, or as 0 and 1
            found += image_problems(field, part[:, None] if part.ndim == 1 else part)
    return found
