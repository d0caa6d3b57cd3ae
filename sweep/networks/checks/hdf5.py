"""HDF5 files checked from the root to the last object, without the HDF5 library; no tensor is read.

The library itself is no help here: on a file with one flipped bit it can go in circles until the memory is full, and
where it cannot open a file it looks for plugins that can. So the few records that Keras has h5py write are read here,
all others are refused, and the library sees a file only when it is known to be a tree of groups and tensors.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from sweep.networks.checks import configs
from sweep.networks.checks.hdf5_records import (
    UNDEFINED,
    Attribute,
    Bytes,
    Damaged,
    Kind,
    Refused,
    Space,
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

_SPACE, _KIND, _EXTERNAL, _LAYOUT, _ATTRIBUTE, _SYMBOLS, _LINK = 0x01, 0x03, 0x07, 0x08, 0x0C, 0x11, 0x06
_FILTER, _NEWER = 0x0B, {0x02, 0x0A, 0x15}
_HARMLESS = {0x04, 0x05, 0x0D, 0x0E, 0x12}  # values of what is not written, comments, times
_NEWER_FORM = "is written in a form of HDF5 that Keras does not use; load and save it with Keras"


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


@dataclass
class _Group:
    """A group yet to be looked into: its address and name, and where its members are if its parent says so."""

    address: int
    name: str
    depth: int
    cached: bytes | None = None


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
            group = pending.pop()
            if group.address in self.seen:
                yield f"{_shown(group.name)} is a second name of another object"
                continue
            self.seen.add(group.address)
            if len(self.seen) > MAX_OBJECTS or group.depth > MAX_DEPTH:
                yield f"more than {MAX_OBJECTS} objects, or groups nested deeper than {MAX_DEPTH}"
                return
            try:
                messages = read_messages(self.data, group.address)
                yield from self.object(messages, group)
                if any(kind == _SYMBOLS for kind, _ in messages):
                    inner, problems = self.members(messages, group)
                    pending += inner
                    yield from problems
                else:
                    self.tensor(messages)
            except Refused as error:
                yield f"{_shown(group.name)} {error}"
        if self.found.size > self.data.size:
            yield f"the tensors declare {self.found.size} bytes, in a file of {self.data.size}"

    def root(self) -> _Group:
        head = self.data.at(0, 96)
        versions = head[8:16]
        if not head.startswith(MARK):
            raise Damaged("it does not begin like an HDF5 file")
        if versions[0] != 0:
            raise Damaged(f"it {_NEWER_FORM}")
        leaf, inner, _, base, _, end, driver = struct.unpack_from("<HHIQQQQ", head, 16)
        if versions != bytes([0, 0, 0, 0, 0, 8, 8, 0]) or base or driver != UNDEFINED or not leaf or not inner:
            raise Damaged("its first record is not as Keras writes it")
        if end > self.data.size:
            raise Damaged(f"it should have {end} bytes, and has {self.data.size}")
        self.widths = (leaf, inner)
        _, address, cached = struct.unpack_from("<QQI", head, 56)
        return _Group(address, "/", 0, head[80:96] if cached == 1 else None)

    def object(self, messages: list[tuple[int, bytes]], place: _Group) -> Iterator[str]:
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
                yield f"{_shown(place.name)} holds {_linked(content)}"
            elif kind == _EXTERNAL:
                raise Refused("lies in another file")
            elif kind == _FILTER:
                raise Refused("is compressed; load and save it with Keras")
            elif kind in _NEWER:
                if not any(other == _LINK for other, _ in messages):
                    raise Refused(_NEWER_FORM)
            elif kind not in _HARMLESS | {_SPACE, _KIND, _LAYOUT, _SYMBOLS}:
                raise Refused(f"has a part of an unknown kind, {kind}")

    def members(self, messages: list[tuple[int, bytes]], group: _Group) -> tuple[list[_Group], list[str]]:
        (table, *others) = [content[:16] for kind, content in messages if kind == _SYMBOLS]
        if others or (group.cached is not None and group.cached != table):
            raise Damaged(f"{_shown(group.name)} has two lists of members")
        tree, heap = struct.unpack("<QQ", table)
        for address in (tree, heap):
            if address in self.seen:
                raise Damaged(f"{_shown(group.name)} shares its members with another group")
            self.seen.add(address)
        names = read_heap(self.data, heap)
        inner, problems = [], []
        for at, address, cached, scratch in read_symbols(self.data, tree, self.widths, len(names)):
            end = names.find(b"\0", at)
            if not 0 < at < end:
                raise Damaged(f"a member of {_shown(group.name)} has no name")
            path = f"{group.name.rstrip('/')}/{names[at:end].decode(errors='replace')}"
            if cached == 2:
                problems.append(f"{_shown(path)} is a soft link")
            elif cached > 2:
                problems.append(f"{_shown(path)} is a link of an unknown kind")
            else:
                inner.append(_Group(address, path, group.depth + 1, scratch if cached == 1 else None))
        return inner, problems

    def tensor(self, messages: list[tuple[int, bytes]]) -> None:
        parts = dict(messages)
        if _LINK in parts:
            return  # a group, refused already
        if sorted(kind for kind, _ in messages if kind in (_SPACE, _KIND, _LAYOUT)) != [_SPACE, _KIND, _LAYOUT]:
            raise Refused("is neither a group nor a tensor")
        layout = parts[_LAYOUT]
        version, form = layout[0], layout[1]
        if version == 4 and form == 3:
            raise Refused("is put together from other datasets")
        if version != 3 or form > 1:
            raise Refused("is stored in pieces, as Keras does not; load and save it with Keras")
        kind, space = read_kind(parts[_KIND]), read_space(parts[_SPACE])
        if kind.name != "number":
            raise Refused("does not hold numbers")
        self.count(kind, space, layout, form)

    def count(self, kind: Kind, space: Space, layout: bytes, form: int) -> None:
        declared = kind.size * space.count
        if form == 0:
            stored = struct.unpack_from("<H", layout, 2)[0]
        else:
            address, stored = struct.unpack_from("<QQ", layout, 2)
            if address == UNDEFINED:
                stored = 0
            elif address + stored > self.data.size:
                raise Damaged("a tensor that ends after the file")
        if stored != declared:
            raise Refused(f"declares {declared} bytes, of which {stored} are stored")
        self.found.size += declared
        self.found.values += space.count

    def value(self, attribute: Attribute) -> bytes | None:
        """A single text; None for anything else, which is looked at all the same."""
        if attribute.kind.name == "text":
            return attribute.content.rstrip(b"\0") if attribute.space.scalar else None
        if attribute.kind.name != "texts":
            return None
        text = b""
        for length, address, number in struct.iter_unpack("<IQI", attribute.content):
            if length == 0:
                continue
            if address not in self.texts:
                self.texts[address] = read_collection(self.data, address)
            text = self.texts[address].get(number, b"")
            if len(text) != length:
                raise Damaged("a text that is not where it should be")
        return text if attribute.space.scalar else None


def _linked(message: bytes) -> str:
    """What a link message of the newer form stands for."""
    kind = message[2] if message[1] & 8 else 0
    return {0: "a link of the newer form", 1: "a soft link", 64: "a link to another file"}.get(
        kind, "a link of an unknown kind"
    )


def _shown(name: str | bytes) -> str:
    return configs.shown(name.decode(errors="replace") if isinstance(name, bytes) else name)
