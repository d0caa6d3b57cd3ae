"""How much memory a Parquet file takes, found before any of it is unpacked.

A page of some bytes may say that it unpacks to two gigabytes, and the table of contents at the end of the file need not
say so. So that table and the header of every page are read here: Thrift's compact protocol, of which they use little
(Apache Parquet format, parquet.thrift, structs FileMetaData and PageHeader).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MOST_PAGES = 100_000
MOST_CONTENTS = 4 << 20  # bytes of the table of contents, which a few row groups fill with kilobytes
_ENCODINGS = {0: "PLAIN", 2: "PLAIN_DICTIONARY", 3: "RLE", 4: "BIT_PACKED", 8: "RLE_DICTIONARY"}
"""Those that do not unpack to more than their pages say, given the number of rows."""
_MARK = b"PAR1"
_DEEPEST = 16

# Fields, by their numbers in parquet.thrift: of FileMetaData, RowGroup, ColumnChunk, ColumnMetaData and PageHeader.
_ROWS, _GROUPS = 3, 4
_COLUMNS, _GROUP_ROWS = 1, 3
_METADATA = 3
_VALUES, _PACKED_SIZE, _FIRST_PAGE, _FIRST_DICTIONARY = 5, 7, 9, 11
_UNPACKED, _PACKED = 2, 3
_ENCODING_OF = {5: 2, 7: 2, 8: 4}  # a kind of page → where in it the encoding stands


@dataclass(frozen=True)
class Sizes:
    """What a file says of itself, and its pages too.

    Attributes:
        rows: how many, or how many values a column has, if those are more.
        unpacked: bytes of all pages.
    """

    rows: int
    unpacked: int


def sizes(content: bytes) -> Sizes:
    """The sizes of a Parquet file.

    Raises ValueError when it is none, or its pages are packed in a way that is not known here.
    """
    if len(content) < 12 or content[:4] != _MARK or content[-4:] != _MARK:
        raise ValueError("it does not begin and end as one")
    length = int.from_bytes(content[-8:-4], "little")
    if length > min(MOST_CONTENTS, len(content) - 12):
        raise ValueError("its table of contents is larger than it can be")
    found = _Thrift(content, len(content) - 8 - length).struct()
    unpacked = pages = rows = 0
    for group in _items(found.get(_GROUPS)):
        columns = [_described(column) for column in _items(group.get(_COLUMNS))]
        rows += max([_whole(group.get(_GROUP_ROWS)), *(_whole(column.get(_VALUES)) for column in columns)])
        for column in columns:
            at, end = _extent(column, len(content))
            while at < end:
                header = _Thrift(content, at)
                size, packed = _page(header.struct())
                at, unpacked, pages = header.at + packed, unpacked + size, pages + 1
                if pages > MOST_PAGES:
                    raise ValueError("it has too many pages")
    return Sizes(max(rows, _whole(found.get(_ROWS))), unpacked)


def _described(column: dict[int, Any]) -> dict[int, Any]:
    found = column.get(_METADATA)
    if not isinstance(found, dict):
        raise ValueError("a column is not described")
    return found


def _extent(found: dict[int, Any], size: int) -> tuple[int, int]:
    """Where the pages of a column begin and end."""
    starts = [_whole(found.get(field, 0)) for field in (_FIRST_PAGE, _FIRST_DICTIONARY)]
    start = min((start for start in starts if start), default=0)
    end = start + _whole(found.get(_PACKED_SIZE))
    if not 0 < start <= end <= size:
        raise ValueError("a column lies outside the file")
    return start, end


def _page(header: dict[int, Any]) -> tuple[int, int]:
    """Bytes of a page, unpacked and packed."""
    for kind, place in _ENCODING_OF.items():
        page = header.get(kind)
        if isinstance(page, dict) and page.get(place, 0) not in _ENCODINGS:
            raise ValueError(f"a page has the encoding {page.get(place)}, in which no shard is written")
    return _whole(header.get(_UNPACKED)), _whole(header.get(_PACKED))


def _items(value: Any) -> list[dict[int, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("its table of contents lacks a list")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError("it lacks a size")
    return value


class _Thrift:
    """A reader of structs in the compact protocol; of texts and floats it keeps nothing.

    Attributes:
        at: the next byte.
    """

    def __init__(self, content: bytes, at: int) -> None:
        self._content = content
        self.at = at

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Whole numbers, structs and lists, by the number of their field."""
        if depth > _DEEPEST:
            raise ValueError("its parts are too deep in one another")
        found: dict[int, Any] = {}
        field = 0
        while byte := self._byte():
            field = field + (byte >> 4) if byte >> 4 else self._signed()
            kind = byte & 0x0F
            found[field] = 2 - kind if kind in (1, 2) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case 1 | 2 | 3:  # a truth value in a list takes a byte
                return self._byte()
            case 4 | 5 | 6:
                return self._signed()
            case 7 | 8:
                length = 8 if kind == 7 else self._varint()
                self.at += length
                return None
            case 9 | 10:
                head = self._byte()
                count = head >> 4 if head >> 4 < 15 else self._varint()
                if count > MOST_CONTENTS:
                    raise ValueError("a list is longer than it can be")
                return [self._value(head & 0x0F, depth + 1) for _ in range(count)]
            case 12:
                return self.struct(depth + 1)
            case _:
                raise ValueError("it has a field of a kind that none should have")

    def _byte(self) -> int:
        if self.at >= len(self._content):
            raise ValueError("it breaks off")
        self.at += 1
        return self._content[self.at - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number does not end")

    def _signed(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
