"""A shard: the Parquet file of trials that a task commits, and what it says of itself."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sweep.errors import NondeterminismError, StoreError
from sweep.files import reason
from sweep.storage.pages import sizes
from sweep.storage.paths import Folder
from sweep.storage.schema import Expected, completed, fingerprint, parquet_bytes, result_columns

TRIALS = "trials"  # the folder of all shards
REMEDY = "`sweep verify RUN --repair` sets it aside, then `sweep run` computes it again"
ATTEMPTS = 10
MOST_UNPACKED = 2 << 30  # bytes of one file's trials in memory; a merged file takes some hundred MiB
_STUDY_KEY = b"noisesweep.study"
_ROWS_KEY = b"noisesweep.rows"


@dataclass(frozen=True)
class Shard:
    """One committed Parquet file of trials."""

    name: str
    rows: int
    sha256: str


def commit(folder: Folder, table: pa.Table, study_digest: str, name: str, under: str = TRIALS) -> Shard:
    """Publish one shard of trials, whole or not at all; `under` is the folder that it is to lie in.

    The study's digest goes into the file, so that a shard from another study is told apart, and a digest of its rows,
    so that one is known to be sound before any manifest lists it. A shard of that name that is there already, from a
    task that ran twice, stays when its result columns are equal.

    Raises:
        StoreError: it cannot be written.
        NondeterminismError: one of that name has other results.
    """
    digests = {_STUDY_KEY: study_digest.encode(), _ROWS_KEY: fingerprint(table).encode()}
    content = parquet_bytes(table.replace_schema_metadata(digests))
    path = f"{folder.uri}/{under}/{name}"
    for _ in range(ATTEMPTS):
        if folder.publish(f"{under}/{name}", content):
            return Shard(name, table.num_rows, hashlib.sha256(content).hexdigest())
        there = folder.read(f"{under}/{name}")
        if there is None:  # another driver has merged it between the two
            continue
        old, new = _results(sound(there, path)), _results(table)
        if not old.equals(new):
            raise NondeterminismError(
                f"{path}: holds other results than the same trials gave now; the evaluation is not deterministic "
                f"({_difference(old, new)})"
            )
        return Shard(name, table.num_rows, hashlib.sha256(there).hexdigest())
    raise StoreError(f"{path}: cannot be read, and is there; move it away, then run again")


def _results(table: pa.Table) -> pa.Table:
    """What equal shards have in common."""
    plain = table.replace_schema_metadata(None)
    return plain.select(result_columns(plain.schema)).sort_by([("cell", "ascending"), ("seed", "ascending")])


def _difference(old: pa.Table, new: pa.Table) -> str:
    """Where two results of the same trials differ first."""
    for before, after in zip(old.to_pylist(), new.to_pylist(), strict=False):
        for name, value in before.items():
            if after.get(name) != value:
                return f"{before['cell']} at seed {before['seed']}: {name} was {value}, is {after.get(name)}"
    return f"{old.num_rows} trials then, {new.num_rows} now"


def study_of(table: pa.Table) -> str:
    """The digest of the study for which these trials were committed; empty where they do not say."""
    said: dict[bytes, bytes] = table.schema.metadata or {}
    return said.get(_STUDY_KEY, b"").decode(errors="replace")


def check_study(table: pa.Table, study_digest: str | None, path: str) -> None:
    """Raise StoreError when these trials were committed for another study."""
    if study_digest and study_of(table) != study_digest:
        raise StoreError(f"{path}: belongs to another study; {REMEDY}")


def parse(content: bytes, path: str, expected: Expected | None = None) -> pa.Table:
    """The trials of a shard, which are those of a study where that is given, with today's columns.

    Raises StoreError when it cannot be read, would take more than `MOST_UNPACKED` bytes, or holds what it cannot.
    """
    return completed(_as_stored(content, path, expected))


def _as_stored(content: bytes, path: str, expected: Expected | None) -> pa.Table:
    try:
        table = _read(content, expected)
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names that are no UTF-8
        raise StoreError(f"{path}: is not a readable Parquet file: {reason(error)}; {REMEDY}") from None
    problem = expected.problem(completed(table)) if expected else None
    if problem:
        raise StoreError(f"{path}: {problem}; {REMEDY}")
    return table


def _read(content: bytes, expected: Expected | None) -> pa.Table:
    """Read a file whose sizes have been looked at; texts as codes first, of which a few bytes can stand for many."""
    said = sizes(content)
    schema = pq.ParquetFile(pa.BufferReader(content)).schema_arrow
    if expected and schema.remove_metadata() not in (expected.schema, expected.first):
        raise ValueError("its columns are not those of the study")
    size = said.unpacked + said.rows * sum(map(_width, schema.types))
    if size > MOST_UNPACKED:
        raise ValueError(f"it would take {size:,} bytes; at most {MOST_UNPACKED:,} are read")
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    coded = pq.ParquetFile(pa.BufferReader(content), read_dictionary=texts, page_checksum_verification=True)
    table = coded.read(use_threads=False)  # small, and several are read at a time
    columns = []
    for name, column in zip(schema.names, table.columns, strict=True):
        if name in texts:
            size += sum(_length(part) for part in column.chunks)
            if size > MOST_UNPACKED:
                raise ValueError(f"its texts would take {size:,} bytes; at most {MOST_UNPACKED:,} are read")
            columns.append(pa.chunked_array([part.dictionary_decode() for part in column.chunks], pa.string()))
        else:
            columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def _width(kind: pa.DataType) -> int:
    """Bytes of one value, texts apart."""
    try:
        return -(-int(kind.bit_width) // 8)
    except ValueError:
        return 8  # where it begins


def _length(part: pa.DictionaryArray) -> int:
    """Bytes of all texts."""
    lengths = pc.binary_length(part.dictionary)
    return int(pc.sum(lengths.take(part.indices).cast(pa.int64())).as_py() or 0)


def sound(content: bytes, path: str, expected: Expected | None = None) -> pa.Table:
    """The trials of a shard for which no manifest has a checksum; raises StoreError when they are damaged."""
    table = _as_stored(content, path, expected)
    rows = (table.schema.metadata or {}).get(_ROWS_KEY)
    if rows and rows != fingerprint(table).encode():
        raise StoreError(f"{path}: is damaged: its rows are not those that were committed; {REMEDY}")
    return completed(table)


def unlisted(
    content: bytes, path: str, study_digest: str, others: Collection[str], expected: Expected | None
) -> tuple[pa.Table | None, str]:
    """The trials of a shard that no manifest lists, with its checksum.

    No trials where the study was one of `others`, whose digest is given then. Raises StoreError when it is damaged, or
    of any other study.
    """
    if others and (study := study_of(parse(content, path))) in others:
        return None, study
    table = sound(content, path, expected)
    check_study(table, study_digest, path)
    return table, hashlib.sha256(content).hexdigest()
