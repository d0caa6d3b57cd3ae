"""HDF5 files checked from the root to the last object, without the HDF5 library; no tensor is read.

The library itself is no help here: a tree of members within itself ends the process, one flipped bit can have it go in
circles until the memory is full, and where it cannot open a file it looks for plugins that can. What Keras 3.15 refuses
(links, external, virtual and huge tensors, where it meets them) it refuses after the library has opened the file. So
the few records that Keras has h5py write are read here, all others are refused, and the library sees a file only when
it is known to be a tree of groups and tensors.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from sweep.networks.checks import configs
from sweep.networks.checks.hdf5_records import (
    NEWER_FORM,
    UNDEFINED,
    Attribute,
    Bytes,
    Damaged,
    Refused,
    read_attribute,
    read_collection,
    read_heap,
    read_kind,
    read_messages,
    read_space,
    read_symbols,
)

MARK = b"\x89HDF\r\n\x1a\n"
MAX_OBJECTS = 100_000
MAX_DEPTH = 64

_SPACE, _KIND, _LINK, _LAYOUT, _ATTRIBUTE, _SYMBOLS = 0x01, 0x03, 0x06, 0x08, 0x0C, 0x11
_NEWER = {0x02, 0x0A, 0x15}
_TENSOR = {_SPACE, _KIND, _LAYOUT}
_HARMLESS = {0x04, 0x05, 0x0D, 0x0E, 0x12}  # values of what is not written, comments, times
_ELSEWHERE = {0x07: "lies in another file", 0x0B: "is compressed; load and save it with Keras"}
_LINKS = {0: "a link of the newer form", 1: "a soft link", 64: "a link to another file"}


@dataclass
class Contents:
    """What a model file holds.

    Attributes:
        config: the configuration, as text; None when there is none.
        size: bytes that its tensors take.
        values: how many numbers these are.
    """

    config: bytes | None = None
    size: int = 0
    values: int = 0


def check_hdf5(data: Bytes, found: Contents) -> Iterator[str]:
    """Problems of an HDF5 file, one line each; fills in `found`, the configuration only where the file has one.

    Raises:
        Damaged: it cannot be read.
    """
    try:
        yield from _Walk(data, found).problems()
    except (struct.error, IndexError, ValueError) as error:
        raise Damaged("a record ends early") from error


class _Object(NamedTuple):
    """An object yet to be looked into: its address and name, and where its members are if its parent says so."""

    address: int
    name: str
    depth: int
    cached: bytes | None


@dataclass
class _Walk:
    """One walk through a file; each object is met once."""

    data: Bytes
    found: Contents
    seen: set[int] = field(default_factory=set)
    texts: dict[int, dict[int, bytes]] = field(default_factory=dict)
    widths: tuple[int, int] = (0, 0)

    def problems(self) -> Iterator[str]:
        pending = [self.root()]
        while pending:
            place = pending.pop()
            if place.address in self.seen:
                yield f"{_shown(place.name)} is a second name of another object"
                continue
            self.seen.add(place.address)
            if len(self.seen) > MAX_OBJECTS or place.depth > MAX_DEPTH:
                yield f"more than {MAX_OBJECTS} objects, or groups nested deeper than {MAX_DEPTH}"
                return
            try:
                messages = read_messages(self.data, place.address)
                yield from self.parts(messages, place)
                tables = [content for kind, content in messages if kind == _SYMBOLS]
                if tables:
                    for path, target in self.members(tables, place):
                        if isinstance(target, str):
                            yield f"{_shown(path)} is {target}"
                        else:
                            pending.append(target)
                elif not any(kind == _LINK for kind, _ in messages):  # else a group, refused already
                    self.tensor(messages)
            except Refused as error:
                yield f"{_shown(place.name)} {error}"
        if self.found.size > self.data.size:
            yield f"the tensors declare {self.found.size} bytes, in a file of {self.data.size}"

    def root(self) -> _Object:
        head = self.data.at(0, 96)
        if not head.startswith(MARK):
            raise Damaged("it does not begin like an HDF5 file")
        if head[8] != 0:
            raise Damaged(f"it {NEWER_FORM}")
        leaf, inner, _, base, _, end, driver, _, address, cached = struct.unpack_from("<HHIQQQQQQI", head, 16)
        if head[8:16] != bytes([0, 0, 0, 0, 0, 8, 8, 0]) or base or driver != UNDEFINED or not leaf or not inner:
            raise Damaged("its first record is not as Keras writes it")
        if end > self.data.size:
            raise Damaged(f"it should have {end} bytes, and has {self.data.size}")
        self.widths = (leaf, inner)
        return _Object(address, "/", 0, head[80:96] if cached == 1 else None)

    def parts(self, messages: list[tuple[int, bytes]], place: _Object) -> Iterator[str]:
        """Problems of the attributes, and of all that no object of Keras's has."""
        names = set()
        for kind, content in messages:
            if kind == _ATTRIBUTE:
                try:
                    attribute = read_attribute(content)
                    if attribute.name in names:
                        raise Refused(f"stands twice: {_shown(attribute.name)}")
                    names.add(attribute.name)
                    value = self.value(attribute)
                except Refused as error:
                    yield f"{_shown(place.name)}: an attribute {error}"
                    continue
                if attribute.name == b"model_config" and place.name == "/":
                    if value is None:
                        yield "the attribute model_config is not a text"
                    self.found.config = value
            elif kind == _LINK:
                target = content[2] if content[1] & 8 else 0
                yield f"{_shown(place.name)} holds {_LINKS.get(target, 'a link of an unknown kind')}"
            elif kind in _ELSEWHERE:
                raise Refused(_ELSEWHERE[kind])
            elif kind in _NEWER:
                if not any(other == _LINK for other, _ in messages):
                    raise Refused(NEWER_FORM)
            elif kind not in _HARMLESS | _TENSOR | {_SYMBOLS}:
                raise Refused(f"has a part of an unknown kind, {kind}")

    def members(self, tables: list[bytes], group: _Object) -> Iterator[tuple[str, _Object | str]]:
        """The members of a group, each with its path; of one that is a link, what it is."""
        table = tables[0][:16]
        if len(tables) > 1 or group.cached not in (None, table):
            raise Damaged(f"{_shown(group.name)} has two lists of members")
        tree, heap = struct.unpack("<QQ", table)
        if {tree, heap} & self.seen or tree == heap:
            raise Damaged(f"{_shown(group.name)} shares its members with another group")
        self.seen |= {tree, heap}
        names = read_heap(self.data, heap)
        for at, address, cached, scratch in read_symbols(self.data, tree, self.widths, len(names)):
            end = names.find(b"\0", at)
            if not 0 < at < end:
                raise Damaged(f"a member of {_shown(group.name)} has no name")
            path = f"{group.name.rstrip('/')}/{names[at:end].decode(errors='replace')}"
            if cached > 1:
                yield path, "a soft link" if cached == 2 else "a link of an unknown kind"
            else:
                yield path, _Object(address, path, group.depth + 1, scratch if cached == 1 else None)

    def tensor(self, messages: list[tuple[int, bytes]]) -> None:
        if sorted(kind for kind, _ in messages if kind in _TENSOR) != sorted(_TENSOR):
            raise Refused("is neither a group nor a tensor")
        parts = dict(messages)
        layout = parts[_LAYOUT]
        if layout[:2] == b"\4\3":
            raise Refused("is put together from other datasets")
        if layout[0] != 3 or layout[1] > 1:
            raise Refused("is stored in pieces, as Keras does not; load and save it with Keras")
        (kind, size), (count, _) = read_kind(parts[_KIND]), read_space(parts[_SPACE])
        if kind != "number":
            raise Refused("does not hold numbers")
        address, stored = (
            (0, *struct.unpack_from("<H", layout, 2)) if layout[1] == 0 else struct.unpack_from("<QQ", layout, 2)
        )
        if address == UNDEFINED:
            stored = 0
        elif address + stored > self.data.size:
            raise Damaged("a tensor that ends after the file")
        if stored != size * count:
            raise Refused(f"declares {size * count} bytes, of which {stored} are stored")
        self.found.size += stored
        self.found.values += count

    def value(self, attribute: Attribute) -> bytes | None:
        """A single text; None for anything else, which is looked at all the same."""
        if attribute.kind == "text":
            return attribute.content.rstrip(b"\0") if attribute.scalar else None
        if attribute.kind != "texts":
            return None
        text = b""
        for length, address, number in struct.iter_unpack("<IQI", attribute.content):
            if length:
                if address not in self.texts:
                    self.texts[address] = read_collection(self.data, address)
                text = self.texts[address].get(number, b"")
                if len(text) != length:
                    raise Damaged("a text that is not where it should be")
        return text if attribute.scalar else None


def _shown(name: str | bytes) -> str:
    return configs.shown(name.decode(errors="replace") if isinstance(name, bytes) else name)
