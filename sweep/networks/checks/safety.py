"""Model files from strangers: what they may be, found out before Keras sees them.

A file passes when it is one local file of the right kind, whose tables of contents lead nowhere else and declare no
more than they store, and whose configuration names only what `sweep.networks.checks.allowed` lists. Then Keras may
load it with `compile=False, safe_mode=True`, inside `variables_within`. `safe_mode` alone is not enough: it refuses
code that is stored in the file, but not layers that read other files.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from sweep.errors import InputError
from sweep.files import open_file, reason, require_file
from sweep.networks.backend import import_keras
from sweep.networks.checks import configs
from sweep.networks.checks.archives import check_zip
from sweep.networks.checks.hdf5 import MARK, Contents, check_hdf5
from sweep.networks.checks.hdf5_records import Bytes, Damaged

MAX_FILE = 8 << 30
"""Largest model file, in bytes."""
MAX_PROBLEMS = 20
"""Most lines that one file's problems take."""
_WITH_CODE = 'these go with what builds their network: model = { build = "my_model.py:build", weights = "…" }'

_ARCHIVE, _HDF5 = (b"PK\x03\x04", "a .keras archive"), (MARK, "an HDF5 file")
_KINDS = {".keras": _ARCHIVE, ".h5": _HDF5, ".hdf5": _HDF5}
SUFFIXES = tuple(_KINDS)


def check_model_file(path: str | Path, shown: str = "", own: Collection[str] = (), weights: bool = False) -> int:
    """Refuses a model file that could do anything but be a network; Keras is neither needed nor imported.

    Only the file itself is opened; its tensors are not read.

    Args:
        path: a .keras, .h5 or .hdf5 file.
        shown: what messages call it; default its path.
        own: names of the user's own layers and functions, which Keras is given.
        weights: whether its weights alone will be read, whatever else it holds.

    Returns:
        The bytes that its tensors take, for `variables_within`.

    Raises:
        InputError: it is damaged, or not safe to load: all reasons found, one line each, each naming the file.
    """
    path = require_file(path)
    found, problems = Contents(), []
    try:
        with open_file(path) as file:
            unsafe = _problems(file, os.fstat(file.fileno()).st_size, path.suffix, found, None if weights else own)
            for problem in itertools.islice(unsafe, MAX_PROBLEMS + 1):
                problems.append(f"not safe to load: {problem}")
        if found.config is None and not problems and not weights:
            raise Damaged(f"No model config found in the file; it may hold weights only; {_WITH_CODE}")
    except (Damaged, ValueError) as error:
        problems.append(f"not a model that Keras can load: {reason(error)}")
    except MemoryError:
        problems.append("not a model that Keras can load: there is not enough memory to look into it")
    if len(problems) > MAX_PROBLEMS:
        problems[MAX_PROBLEMS - 1 :] = ["not safe to load: … and more of the kind"]
    if problems:
        raise InputError(f"{shown or path}: {problem}" for problem in problems)
    return found.size


@contextlib.contextmanager
def variables_within(stored: int) -> Iterator[None]:
    """Keeps the layers that Keras builds meanwhile from taking much more memory than a file stores for them.

    A configuration of a few lines can ask for layers of any size, and Keras makes them before it looks for their
    values. Four times the stored bytes are granted, and 64 MiB: weights may be stored in fewer bits, and a compiled
    model within the model brings an optimizer's copies.

    Args:
        stored: bytes, as `check_model_file` returns them.

    Raises:
        InputError: more is asked for; within the block Keras may report it as an error of its own.
    """
    kind = import_keras().Variable
    limit, taken = 4 * stored + (64 << 20), 0
    refusal = f"its layers ask for more than {limit} bytes of weights; the file stores {stored}"
    validate = kind._validate_shape

    def counted(self: object, shape: object) -> object:
        nonlocal taken
        sizes = validate(self, shape)
        taken += 4 * math.prod(map(int, sizes))  # bytes of most types; of the others within the limit's factor
        if taken > limit:
            raise InputError(refusal)
        return sizes

    kind._validate_shape = counted
    try:
        yield
    finally:
        kind._validate_shape = validate
    if taken > limit:
        raise InputError(refusal)


def _problems(file: BinaryIO, size: int, suffix: str, found: Contents, own: Collection[str] | None) -> Iterator[str]:
    if size > MAX_FILE:
        raise Damaged(f"it has {size} bytes; at most {MAX_FILE} are read")
    kind = _KINDS.get(suffix.lower())
    if kind is None:
        raise Damaged(f"its name must end in {' or '.join(SUFFIXES)}")
    if file.read(len(kind[0])) != kind[0]:
        raise Damaged(f"it does not begin like {kind[1]}, which its name says it is")
    yield from check_zip(file, size, found) if kind is _ARCHIVE else check_hdf5(Bytes(file, 0, size), found)
    if found.config is not None and own is not None:
        yield from configs.problems_of(configs.parse(found.config), found.values, own)
