"""The archives that are .keras files, checked by their tables of contents; their weights are read where they lie."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from sweep.files import reason
from sweep.networks.checks import configs
from sweep.networks.checks.hdf5 import Contents, check_hdf5
from sweep.networks.checks.hdf5_records import Bytes, Damaged

MAX_INFLATED = 256 << 20
"""Largest compressed weights; Keras stores them as they are."""
MAX_RATIO = 100
"""Most bytes declared for one byte stored, above `FREE`."""
FREE = 64 << 20
MAX_READ = 4 << 20
"""Most bytes read at once, the table of contents included: it takes some 60 bytes an entry."""

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


class _Cautious:
    """A file of which little is read at once, as the table of contents of an archive may claim any size."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        size = size if size >= 0 else self.size - self.file.tell()
        if size > MAX_READ:
            raise OSError(f"a part of {size} bytes, where at most {MAX_READ} are expected")
        return self.file.read(size)


def check_zip(file: BinaryIO, size: int, found: Contents) -> Iterator[str]:
    """Problems of a .keras file, one line each, and of the HDF5 file within; fills in `found`.

    Args:
        file: open for reading.
        size: its bytes.
        found: what is found in it.

    Raises:
        Damaged: it cannot be read.
    """
    try:
        with zipfile.ZipFile(_Cautious(file, size)) as archive:
            entries = archive.infolist()
            problems = list(_entry_problems(entries, size))
            yield from problems
            if problems:
                return
            members = {entry.filename: entry for entry in entries}
            found.config = _inflated(archive, members[CONFIG], configs.MAX_BYTES)
            if METADATA in members:
                configs.parse(_inflated(archive, members[METADATA], 1 << 20))
            weights = _weights(archive, members[WEIGHTS], file, size)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, ValueError, EOFError, struct.error) as error:
        raise Damaged(reason(error)) from error
    yield from check_hdf5(weights, found)


def _entry_problems(entries: list[zipfile.ZipInfo], size: int) -> Iterator[str]:
    names = [entry.filename for entry in entries]
    allowed = {CONFIG, METADATA, WEIGHTS}
    for entry in entries:
        name = configs.shown(entry.orig_filename)
        if entry.orig_filename not in allowed:
            yield f"the archive holds {name}; a model is {CONFIG}, {METADATA} and {WEIGHTS}"
        elif entry.flag_bits & 0x41:
            yield f"{name} is encrypted"
        elif entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            yield f"{name} is compressed in a way that Keras does not use"
        elif entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
            yield f"{name} is stored as it is, yet with two sizes"
        elif entry.compress_size > size or entry.file_size > max(FREE, MAX_RATIO * entry.compress_size):
            yield f"{name} declares {entry.file_size} bytes, of which {entry.compress_size} are stored"
    for name in sorted(allowed & set(names)):
        if names.count(name) > 1:
            yield f"the archive holds {name} {names.count(name)} times"
    for name in (CONFIG, WEIGHTS):
        if name not in names:
            yield f"the archive holds no {name}"


def _inflated(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    """The content of a member, of which at most `limit` bytes are ever produced."""
    if entry.file_size > limit:
        raise ValueError(f"{entry.filename} is larger than {limit >> 20} MiB")
    content = bytearray()
    with archive.open(entry) as member:
        while part := member.read(1 << 16):
            content += part
    if len(content) != entry.file_size:
        raise ValueError(f"{entry.filename} ends early")
    return bytes(content)


def _weights(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, file: BinaryIO, size: int) -> Bytes:
    """The weights as a file of their own: where they lie when they are stored as they are, else inflated."""
    if entry.compress_type != zipfile.ZIP_STORED:
        content = _inflated(archive, entry, MAX_INFLATED)
        return Bytes(io.BytesIO(content), 0, len(content))
    archive.open(entry).close()  # compares the two headers of the member
    file.seek(entry.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    start = entry.header_offset + 30 + name + extra
    if start + entry.file_size > size:
        raise ValueError(f"{entry.filename} ends after the file")
    return Bytes(file, start, entry.file_size)
