"""The sizes of a Parquet file, against pyarrow's own reader; and what is not read because of them."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.errors import StoreError
from sweep.storage import shards
from sweep.storage.pages import sizes
from sweep.storage.schema import parquet_bytes
from tests.hostile import packed
from tests.storage.rows import table

HEADER = 64  # bytes, at most, of a page's header with the minimum and maximum of short values


def many(rows: int) -> pa.Table:
    return table([("a", seed) for seed in range(rows)], bits=None, basis="x" * 50)


def claimed(content: bytes) -> int:
    """Bytes of all pages with their headers, as the table of contents says."""
    metadata = pq.ParquetFile(pa.BufferReader(content)).metadata
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    return sum(g.column(i).total_uncompressed_size for g in groups for i in range(g.num_columns))


@settings(max_examples=25)
@given(
    rows=st.integers(1, 300),
    group=st.integers(1, 300),
    page=st.integers(50, 4000),
    version=st.sampled_from(["1.0", "2.0"]),
    compression=st.sampled_from(["zstd", "none", "snappy"]),
    dictionary=st.booleans(),
)
def test_sizes_of_sound_files(rows: int, group: int, page: int, version: str, compression: str, dictionary: bool):
    options = {"row_group_size": group, "data_page_size": page, "data_page_version": version, "write_batch_size": 8}
    content = packed(many(rows), compression=compression, use_dictionary=dictionary, **options)
    found, said = sizes(content), claimed(content)
    assert found.rows == rows
    columns = 18 * -(-rows // group)
    assert found.unpacked < said
    assert said - found.unpacked <= HEADER * (2 * columns + said // 50)


def test_a_page_that_says_less_in_the_table_of_contents_than_in_its_header():
    content = parquet_bytes(many(100))
    first = content.index(b"\x15\x04\x15")  # a dictionary page; its size follows, in two bytes
    with_size = packed(many(100), use_dictionary=False)
    at = with_size.index(b"\x15\x00\x15")
    assert at == 4
    size = with_size[at + 3 : at + 5]
    assert size[0] & 0x80
    assert not size[1] & 0x80
    old = (size[0] & 0x7F | size[1] << 7) // 2
    lying = with_size[: at + 3] + b"\xfe\x7f" + with_size[at + 5 :]
    assert sizes(lying).unpacked - sizes(with_size).unpacked == 8191 - old > 0
    assert claimed(lying) == claimed(with_size)
    assert first == 4


def test_a_file_that_says_it_has_more_values_than_rows():
    content = packed(many(100), use_dictionary=False)
    length = int.from_bytes(content[-8:-4], "little") + 8
    body, contents = content[:-length], content[-length:]
    assert contents.count(b"\x16\xc8\x01") >= 16, "a hundred, as each column and the file have it"
    more = body + contents.replace(b"\x16\xc8\x01", b"\x16\xfe\x7f", 1)
    assert sizes(more).rows == 8191


def test_what_would_take_too_much_is_not_read(monkeypatch: pytest.MonkeyPatch):
    content = parquet_bytes(many(100))
    shards.parse(content, "x")
    fixed = 12 * 8 + 3 * 4 + 3 * 8  # bytes a row: numbers, and where each of seven texts begins
    monkeypatch.setattr(shards, "MOST_UNPACKED", sizes(content).unpacked + 100 * fixed)
    monkeypatch.setattr(shards.pq, "ParquetFile", Watched)
    with pytest.raises(StoreError, match=r"x: is not a readable Parquet file: its texts would take \d\d,\d{3} bytes"):
        shards.parse(content, "x")
    monkeypatch.setattr(shards, "MOST_UNPACKED", 1_000)
    monkeypatch.setattr(Watched, "read", None)
    with pytest.raises(StoreError, match=r"it would take \d{1,2},\d{3} bytes; at most 1,000 are read"):
        shards.parse(content, "x")


class Watched(pq.ParquetFile):
    """So that reading can be made impossible."""


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_encodings_in_which_little_stands_for_much_are_refused(encoding: str):
    content = packed(many(50), use_dictionary=False, column_encoding={"basis": encoding})
    with pytest.raises(StoreError, match=r"a page has the encoding [67], in which no shard is written"):
        shards.parse(content, "x")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 8, b"PAR1" + b"\0" * 30 + b"PAR1"])
def test_no_parquet_file(content: bytes):
    with pytest.raises(StoreError, match="is not a readable Parquet file"):
        shards.parse(content, "x")
