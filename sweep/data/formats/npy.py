"""Arrays in .npy form, whole or as members of an .npz file: large ones are mapped into memory, not read."""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from sweep.data.formats.stored import Stored, Wanted, joined, told
from sweep.data.inputs import together
from sweep.data.places import Place
from sweep.errors import InputError
from sweep.files import reason, require_file

MAPPED_FROM = 64 * 1024**2  # bytes; what is smaller is read, so that nobody who writes to the file disturbs a run
_BROKEN = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
_LOCAL = struct.Struct("<4s22xHH")  # a member's own header: its mark, and the lengths of its name and extra field
_LARGEST_HEADER = 10_000  # of an array; NumPy's own bound


class _Read(NamedTuple):
    """An array, and its place where it is mapped."""

    array: np.ndarray
    place: Place | None = None


def read_npz(path: Path, wanted: Wanted) -> Stored:
    """Reads the arrays `x_<split>` and `y_<split>`, or those that are named, of an .npz file.

    Members that are stored uncompressed are mapped where they are large; their checksum is compared all the same.
    Pickled objects are never read. Raises InputError when the file or an array cannot be read, or an array is missing.
    """
    path = require_file(path)
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: a single array, not an .npz file with x_test and y_test")
            digest = wanted.digest(path)
            with told(path):
                names, y = wanted.arrays(archive.files)
            read = {name: _member(file, archive, name, path) for name in _each(names, y)}
    except _BROKEN as error:
        raise InputError(f"{path}: not an .npz file that NumPy can read: {reason(error)}") from error
    with told(path):
        return _stored(read, names, y, digest, wanted.by_name)


def read_folder(path: Path, wanted: Wanted) -> Stored:
    """As `read_npz`, from the files `NAME.npy` of a folder; the digest is that of those that are read."""
    there = sorted(file.stem for file in path.glob("*.npy"))
    with told(path):
        names, y = wanted.arrays(there)
    read = {name: _whole(require_file(path / f"{name}.npy")) for name in _each(names, y)}
    digest = joined((f"{name}.npy", wanted.digest(path / f"{name}.npy")) for name in read)
    with told(path):
        return _stored(read, names, y, digest, wanted.by_name)


def _each(names: Mapping[str, str], y: str | None) -> list[str]:
    return list(dict.fromkeys([*names.values(), *([y] if y else [])]))


def _stored(read: dict[str, _Read], names: Mapping[str, str], y: str | None, digest: str, by_name: bool) -> Stored:
    called, labels = (", ".join(names.values()), y or ""), read[y].array if y else None
    if "" in names:
        images = read[names[""]]
        return Stored(images.array, labels, digest, called, place=images.place)
    parts = [(field, read[name].array) for field, name in names.items()]
    return Stored(together(parts), labels, digest, called, by_name=by_name)


def _whole(path: Path) -> _Read:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            found = _mapped(file, path, 0, size) if size >= MAPPED_FROM else _Read(np.load(file, allow_pickle=False))
    except _BROKEN as error:
        raise InputError(f"{path}: not an .npy file that NumPy can read: {reason(error)}") from error
    if not isinstance(found.array, np.ndarray):
        raise InputError(f"{path}: not a single array")
    return found


def _member(file: IO[bytes], archive: np.lib.npyio.NpzFile, name: str, path: Path) -> _Read:
    try:
        member = _info(archive, name)
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 or member.file_size < MAPPED_FROM:
            return _Read(np.asarray(archive[name]))
        file.seek(member.header_offset)
        mark, name_length, extra_length = _LOCAL.unpack(file.read(_LOCAL.size))
        if mark != b"PK\x03\x04":
            raise ValueError("its place in the file holds something else")
        start = member.header_offset + _LOCAL.size + name_length + extra_length
        return _mapped(file, path, start, member.file_size, member.CRC)
    except _BROKEN as error:
        raise InputError(f"{path}: {name} cannot be read: {reason(error)}") from error


def _info(archive: np.lib.npyio.NpzFile, name: str) -> zipfile.ZipInfo:
    assert archive.zip is not None
    members = archive.zip.namelist()
    return archive.zip.getinfo(f"{name}.npy" if f"{name}.npy" in members else name)


def _mapped(file: IO[bytes], path: Path, start: int, size: int, checksum: int | None = None) -> _Read:
    """The array whose .npy form lies there in the file, mapped and read-only.

    Raises ValueError when it is no such array, holds objects, or has another checksum (CRC-32).
    """
    file.seek(start)
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"its .npy form has version {version}; 1.0 and 2.0 can be mapped")
    shape, by_columns, dtype = read(file, max_header_size=_LARGEST_HEADER)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    begin, count = file.tell(), math.prod(shape)
    if begin + count * dtype.itemsize > start + size:
        raise ValueError("it is cut short")
    place = Place.of(file, path, begin, dtype, shape, by_columns)
    if checksum is not None:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping, memoryview(mapping) as content:
            if zlib.crc32(content[start : start + size]) != checksum:
                raise ValueError("its checksum is another: the file is damaged")
    return _Read(place.mapped(file), place)
