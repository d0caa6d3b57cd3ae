"""The records of an HDF5 file, read from its bytes; only those of the form that Keras has h5py write.

After the HDF5 File Format Specification, version 3: superblock 0, object headers 1, groups as symbol tables,
contiguous tensors. This is a small part of the format and the oldest, in use by h5py ever since. Every function here
raises `Damaged` (or struct.error, where bytes are missing) for what is no such record, and `Refused` for another form.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

UNDEFINED = 2**64 - 1
NEWER_FORM = "is written in a form of HDF5 that Keras does not use; load and save it with Keras"
MAX_RECORD = 16 << 20
"""Largest record that is not a tensor, in bytes."""
MAX_RECORDS = 64 << 20
"""Most bytes that all such records may take."""


class Damaged(Exception):
    """A file that cannot be read; the message says where it breaks."""


class Refused(Exception):
    """A part of a file that is not as Keras writes it; the message says what it is."""


class Bytes:
    """A file as an array of bytes, of which a limited number is read.

    Args:
        file: open for reading.
        start: where the array begins.
        size: how many bytes it has.
    """

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self.file, self.start, self.size, self.left = file, start, size, MAX_RECORDS

    def at(self, offset: int, size: int) -> bytes:
        """The bytes at an offset; damaged where they lie outside the file, or are too many."""
        if not (0 <= offset <= self.size - size and size <= MAX_RECORD):
            raise Damaged(f"a record of {size} bytes at {offset}, in a file of {self.size}")
        self.left -= size
        if self.left < 0:
            raise Damaged(f"its records take more than {MAX_RECORDS >> 20} MiB")
        self.file.seek(self.start + offset)
        content = self.file.read(size)
        if len(content) != size:
            raise Damaged(f"it ends early, at {offset + len(content)}")
        return content

    def unpack(self, form: str, offset: int) -> tuple[Any, ...]:
        """Numbers and bytes at an offset, in the notation of `struct`."""
        return struct.unpack(form, self.at(offset, struct.calcsize(form)))


def _standard_types() -> Iterator[bytes]:
    for order in (0, 1):
        for size in (1, 2, 4, 8):
            for signed in (0, 8):
                yield struct.pack("<BBBBIHH", 0x10, order | signed, 0, 0, size, 0, 8 * size)
        for size, exponent, mantissa, bias in ((2, 5, 10, 15), (4, 8, 23, 127), (8, 11, 52, 1023)):
            place = struct.pack("<HHBBBBI", 0, 8 * size, mantissa, exponent, 0, mantissa, bias)
            yield struct.pack("<BBBBI", 0x11, order | 0x20, 8 * size - 1, 0, size) + place


_STANDARD = tuple(_standard_types())
"""Integers of 1 to 8 bytes and floats of 2 to 8, in both byte orders."""


def read_space(message: bytes) -> tuple[int, bool]:
    """A dataspace message: how many elements there are, and whether it is one without a shape."""
    version, rank, flags, kind = message[:4]
    if version not in (1, 2) or rank > 32:
        raise Damaged("a shape of an unknown form")
    if version == 2 and kind == 2:
        return 0, False
    start, form = 8 if version == 1 else 4, f"<{rank}Q"
    sizes = struct.unpack_from(form, message, start)
    if flags & 1 and struct.unpack_from(form, message, start + 8 * rank) != sizes:
        raise Refused("can grow, as no tensor of Keras's can")
    return math.prod(sizes), rank == 0


def read_kind(message: bytes) -> tuple[str, int]:
    """A datatype message: the class of an element ("number", "text", "texts"), and the bytes that it takes."""
    (size,) = struct.unpack_from("<I", message, 4)
    kind, bits = message[0] & 0x0F, message[1]
    standard = (bytes([kind | 0x10]) + message[1:]).startswith(_STANDARD)
    if standard or (kind == 5 and size == 2):  # the latter is bfloat16, as two bytes without a meaning
        return "number", size
    if kind == 3:
        return "text", size
    if kind == 9 and bits & 0x0F == 1 and size == 16:
        return "texts", size
    raise Refused("holds neither text nor numbers")


class Attribute(NamedTuple):
    """A small value beside an object, still as the file has it; `scalar` where it is one without a shape."""

    name: bytes
    kind: str
    scalar: bool
    content: bytes


def read_attribute(message: bytes) -> Attribute:
    """An attribute message."""
    version, flags, *lengths = struct.unpack_from("<BBHHH", message)
    if version not in (1, 2, 3):
        raise Damaged("an attribute of an unknown form")
    if version > 1 and flags:
        raise Refused("has a type that is defined elsewhere")
    at, pieces = 9 if version == 3 else 8, []
    for length in lengths:
        pieces.append(message[at : at + length])
        at += length + (-length % 8 if version == 1 else 0)
    (kind, size), (count, scalar) = read_kind(pieces[1]), read_space(pieces[2])
    if at + size * count > len(message):
        raise Damaged("an attribute that ends early")
    return Attribute(pieces[0].rstrip(b"\0"), kind, scalar, message[at : at + size * count])


def read_messages(data: Bytes, address: int) -> list[tuple[int, bytes]]:
    """The messages of an object header, with their types."""
    version, _, count, _, size = data.unpack("<BBHII", address)
    if version != 1:
        raise Refused(NEWER_FORM)
    blocks, seen, messages, total = [(address + 16, size)], set(), [], 0
    while blocks:
        where, extent = blocks.pop(0)
        if where in seen:
            raise Damaged(f"the object at {address} goes in circles")
        seen.add(where)
        block, at = data.at(where, extent), 0
        while at < len(block):
            kind, length, flags = struct.unpack_from("<HHB3x", block, at)
            content = block[at + 8 : at + 8 + length]
            if len(content) != length or length % 8:
                raise Damaged(f"the object at {address} ends early")
            at, total = at + 8 + length, total + 1
            if flags & 2:
                raise Refused("is partly defined elsewhere")
            if kind == 0x10:
                blocks.append(struct.unpack_from("<QQ", content))
            elif kind:
                messages.append((kind, content))
    if total != count:
        raise Damaged(f"the object at {address} has {total} parts, and says {count}")
    return messages


def read_heap(data: Bytes, address: int) -> bytes:
    """The names of a group's members: the data of a local heap."""
    mark, version, size, free, where = data.unpack("<4sB3xQQQ", address)
    if mark != b"HEAP" or version != 0:
        raise Damaged(f"no names of a group at {address}")
    names, seen = data.at(where, size), set()
    while free not in (1, UNDEFINED):
        if free in seen or free + 16 > size:
            raise Damaged(f"the free space of the names at {address} goes astray")
        seen.add(free)
        free, length = struct.unpack_from("<QQ", names, free)
        if length > size:
            raise Damaged(f"the free space of the names at {address} goes astray")
    return names


def read_symbols(data: Bytes, address: int, widths: tuple[int, int], heap: int) -> list[tuple[int, int, int, bytes]]:
    """A group's members: for each, where its name is, its address, what is cached of it, and the cache.

    Args:
        data: the file.
        address: of the tree of members.
        widths: half of the most entries of a leaf and of an inner node.
        heap: the size of the names.
    """
    symbols: list[tuple[int, int, int, bytes]] = []
    seen: set[int] = set()
    rows: dict[int, list[tuple[int, int, int]]] = {}
    pending: list[tuple[int, int | None]] = [(address, None)]
    while pending:
        at, expected = pending.pop()
        if at in seen:
            raise Damaged(f"the tree of members at {at} goes in circles")
        seen.add(at)
        if expected == -1:
            symbols += _leaf(data, at, widths[0])
            continue
        mark, kind, level, count, left, right = data.unpack("<4sBBHQQ", at)
        if mark != b"TREE" or kind or count > 2 * widths[1] or level > 8 or expected not in (None, level):
            raise Damaged(f"no tree of members at {at}")
        rows.setdefault(level, []).append((at, left, right))
        entries = data.unpack(f"<{2 * count + 1}Q", at + 24)
        if count and max(entries[::2]) >= heap:
            raise Damaged(f"a name outside the names, at {at}")
        pending += [(child, level - 1) for child in reversed(entries[1::2])]
    for row in rows.values():
        ends = [UNDEFINED, *(at for at, _, _ in row), UNDEFINED]
        if any((left, right) != (ends[i], ends[i + 2]) for i, (_, left, right) in enumerate(row)):
            raise Damaged(f"the tree of members at {address} has other neighbours than its own")
    return symbols


def _leaf(data: Bytes, address: int, width: int) -> Iterator[tuple[int, int, int, bytes]]:
    mark, version, count = data.unpack("<4sBxH", address)
    if mark != b"SNOD" or version != 1 or count > 2 * width:
        raise Damaged(f"no members at {address}")
    yield from struct.iter_unpack("<QQI4x16s", data.at(address + 8, 40 * count))


def read_collection(data: Bytes, address: int) -> dict[int, bytes]:
    """The texts of a global heap, by their number."""
    mark, version, size = data.unpack("<4sB3xQ", address)
    if mark != b"GCOL" or version != 1:
        raise Damaged(f"no texts at {address}")
    content, at, found = data.at(address, size), 16, {}
    while at + 16 <= size:
        number, _, length = struct.unpack_from("<HH4xQ", content, at)
        if number == 0 and at + length == size:  # the rest is free
            break
        if number == 0 or number in found or at + 16 + length > size:
            raise Damaged(f"the texts at {address} go astray")
        found[number] = content[at + 16 : at + 16 + length]
        at += 16 + length + -length % 8
    return found
