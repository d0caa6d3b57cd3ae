"""Weights that were measured on devices of the user's own: one file a chip."""

from __future__ import annotations

import copy
import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from sweep.errors import InputError, TaskError
from sweep.files import reason
from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Transform, parameter, register

CHAPTER = "Devices"  # of the catalogue

SUFFIX = ".npz"
TRAVELLING = 64 * 1024**2
"""Bytes of all chips of a transform, up to which they travel with it; larger ones are read where they are needed."""
_KEPT = 2  # chips whose arrays are kept
_BROKEN = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class ChipFile:
    """The file of one chip.

    Attributes:
        path: absolute.
        digest: SHA-256 of its content, in hex.
        content: all of it; None where it is read at its path.
    """

    path: str
    digest: str
    content: bytes | None = None

    def arrays(self) -> Mapping[str, Array]:
        """Its arrays by name, float32; TaskError where it is out of reach or not as it was."""
        return _arrays(self)


@lru_cache(maxsize=_KEPT)
def _arrays(file: ChipFile) -> Mapping[str, Array]:
    content = file.content
    if content is None:
        try:
            content = Path(file.path).read_bytes()
        except OSError:
            content = b""
        if hashlib.sha256(content).hexdigest() != file.digest:
            raise TaskError(f"{file.path}: is out of reach, or was written to after the run began; run again")
    return read_arrays(content, file.path)


def read_arrays(content: bytes, path: str) -> dict[str, Array]:
    """The arrays of an .npz file as float32; InputError where it is none, or they are no finite numbers."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: a single array, not an .npz file with one for each variable")
            found = {name: archive[name] for name in archive.files}
    except _BROKEN as error:
        raise InputError(f"{path}: not an .npz file that NumPy can read: {reason(error)}") from error
    for name, array in found.items():
        if array.dtype.kind not in "fiu":
            raise InputError(f"{path}: {name} holds {array.dtype}, not numbers")
        with np.errstate(over="ignore"):
            found[name] = np.asarray(array, np.float32)
        if not np.isfinite(found[name]).all():
            raise InputError(f"{path}: {name} holds values that are no finite float32 numbers")
    return found


def name_of(variable: Variable, names: Iterable[str]) -> str | None:
    """What a variable is called among these names: its path, or its layer and own name; None where it is not."""
    return next((name for name in (variable.path, f"{variable.layer}/{variable.name}") if name in names), None)


@register("measured")
@dataclass(frozen=True, kw_only=True)
class Measured(Transform):
    """The weights that stand in a file: the chip of seed k has those of the k-th file, in sorted order of the names.

    `files` is a path or a glob such as `chips/*.npz`, relative to the current folder or to the study's. Each file has
    an array for every selected variable, of its shape, called by its path, such as `conv1/kernel`, in the unit of the
    weights. Seeds beyond the files are refused, and so are `precision` and searches, which draw chips as they need
    them. No draws.

    Source: your own devices.

    Peers: none known.
    """

    in_files: ClassVar[bool] = True
    files: str = parameter("the .npz files, one a chip: a path or a glob")
    _chips: ClassVar[tuple[ChipFile, ...]] = ()
    _chip: ClassVar[ChipFile | None] = None

    def joint_problems(self) -> list[str]:
        if self.files.endswith(SUFFIX):
            return []
        return [f"files: {self.files!r} does not end in {SUFFIX}; give files such as chips/*{SUFFIX}"]

    @property
    def random(self) -> bool:
        return True

    @property
    def is_identity(self) -> bool:
        return False

    @property
    def chips(self) -> tuple[ChipFile, ...]:
        """Those that it was given."""
        return self._chips

    def given(self, chips: Iterable[ChipFile]) -> Measured:
        """The same with what its files hold."""
        return self._with(_chips=tuple(chips))

    def of_chip(self, seed: int) -> Measured:
        if not 0 <= seed < len(self._chips):
            raise InputError(f"measured: there is no chip for seed {seed}; {self.files} has {len(self._chips)}")
        return self._with(_chip=self._chips[seed])

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        if self._chip is None:
            raise InputError(f"measured: is of no chip; `of_chip` gives the one of a seed of {self.files}")
        arrays = self._chip.arrays()
        name = name_of(variable, arrays)
        if name is None or arrays[name].shape != weight.shape:
            raise InputError(f"{self._chip.path}: has no {variable.path} of shape {weight.shape}")
        return arrays[name].copy()

    def _with(self, **values: object) -> Measured:
        made = copy.copy(self)
        for name, value in values.items():
            object.__setattr__(made, name, value)
        return made
