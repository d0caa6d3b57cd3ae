"""Tables (Parquet, Arrow, CSV): a column of images, or columns of plain numbers, with a column of labels."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from sweep.data.formats.pictures import decode
from sweep.data.formats.stored import TABLES, Stored, Wanted, joined, told
from sweep.data.inputs import together
from sweep.errors import InputError
from sweep.files import reason, require_file

IMAGE, LABEL = "image", "label"
"""Columns, unless the study names others."""


def read_table(path: Path, wanted: Wanted) -> Stored:
    """Reads a table, or one in several files of a folder, in the order of their names.

    The column of images holds encoded images (PNG, JPEG, …) as bytes, paths relative to the table's folder, structs of
    `bytes` and `path` as Hugging Face data sets have them, or lists of numbers, all of one length. Where no column
    is called `image` and none is named, all columns but that of the labels are numbers: (rows, columns) images.

    Raises:
        InputError: the table cannot be read, columns are missing or empty in some rows, or hold something else.
    """
    files = _of_split(path, wanted.split) if path.is_dir() else [path]
    with told(path):
        if wanted.split == "train" and not path.is_dir():
            wanted.alone()
    digests: list[tuple[str, str]] = []
    tables = [_table(require_file(file), wanted, digests) for file in files]
    with told(path):
        if any(table.schema.names != tables[0].schema.names for table in tables):
            raise InputError("its tables differ in their columns")
        try:
            table = pa.concat_tables([t.replace_schema_metadata() for t in tables], promote_options="permissive")
        except pa.ArrowException as error:
            raise InputError(f"its tables differ in their columns: {reason(error)}") from error
        return _read(table, path, wanted, digests)


def _of_split(path: Path, split: str) -> list[Path]:
    """The tables in a folder; of those called `train-…`, `test-…` and so on, as Hugging Face has them, the split's."""
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in TABLES)
    of: dict[str, list[Path]] = {}
    for file in files:
        of.setdefault((re.match(r"(?:train|test|validation|valid|val|dev)(?=[-_.])", file.name) or [""])[0], []).append(
            file
        )
    with told(path):
        if split == "calibration":
            return of.get("train", files)
        if split == "test" and set(of) <= {"", "test"}:
            return files
        if split == "train" and "train" not in of:
            raise InputError("has no tables called train-…; name the training images with `calibration`")
        if split not in of:
            raise InputError(f"its tables are called {', '.join(f'{name}-…' for name in of if name)}; name one of them")
        return of[split]


def _read(table: pa.Table, path: Path, wanted: Wanted, digests: list[tuple[str, str]]) -> Stored:
    columns = table.schema.names
    several = wanted.several
    x = ", ".join(several.values()) or wanted.x or (IMAGE if IMAGE in columns else None)
    y = wanted.y or LABEL
    named = [name for name in (*(several.values() or [x]), y if wanted.labelled else None) if name]
    if missing := list(dict.fromkeys(name for name in named if name not in columns)):
        remedy = "" if wanted.y or missing != [LABEL] else '; say which one is the label: y = "…"'
        there = ", ".join(columns) or "none"
        raise InputError(f"no column {' and '.join(missing)}; the columns there are: {there}{remedy}")
    if twice := {name for name in columns if columns.count(name) > 1}:
        raise InputError(f"two columns are called {min(twice)!r}")
    if not len(table):
        raise InputError("has no rows")
    folder = path if path.is_dir() else path.parent
    if several:
        parts = [(name, _images(table.column(of), of, folder, digests, None)) for name, of in several.items()]
        kinds = {name: table.schema.field(of).type for name, of in several.items()}
        images = together([(name, part.astype(bool) if _is_true(kinds[name]) else part) for name, part in parts])
    elif x is None:
        rest = [name for name in columns if name != y]
        images = _numbers(table, rest)
        x = f"columns {rest[0]} to {rest[-1]}"
    else:
        images = _images(table.column(x), str(x), folder, digests, wanted.channels)
    labels = None
    if wanted.labelled:
        labels = images if y == wanted.x else _plain(table.column(y), y)
    digest = digests[0][1] if len(digests) == 1 else joined(digests)
    return Stored(images, labels, digest, (str(x), y), by_name=wanted.by_name)


def _table(path: Path, wanted: Wanted, digests: list[tuple[str, str]]) -> pa.Table:
    kind = path.suffix.lower()
    digests.append((path.name, wanted.digest(path)))
    try:
        if kind == ".parquet":
            file = pq.ParquetFile(path, memory_map=True)
            images = list(wanted.several.values()) or [str(wanted.x or IMAGE)]
            there, needed = file.schema_arrow.names, [*images, *([wanted.y or LABEL] if wanted.labelled else [])]
            return file.read(list(dict.fromkeys(needed)) if set(needed) <= set(there) else None)
        if kind == ".csv":
            return csv.read_csv(path)
        source = pa.memory_map(str(path))
        try:
            return pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:  # Hugging Face writes streams
            source.seek(0)
            return pa.ipc.open_stream(source).read_all()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a table that Arrow can read: {reason(error)}") from error


def _numbers(table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """(rows, columns), of the one type that holds them all."""
    if not names:
        raise InputError(f"has no columns but the labels; name the images' column with `x`, or call it {IMAGE!r}")
    other = [n for n in names if not _is_number(table.schema.field(n).type)]
    if other:
        held = table.schema.field(other[0]).type
        raise InputError(
            f"column {other[0]} holds {held}, no numbers; name the images' column with `x`, or leave that one out"
        )
    for name in names:
        _complete(table.column(name), name)
    columns = [table.column(name) for name in names]
    kind = np.result_type(*(np.dtype(column.type.to_pandas_dtype()) for column in columns))
    images = np.empty((len(table), len(names)), np.uint8 if kind.kind == "b" else kind)
    for i, column in enumerate(columns):
        images[:, i] = column.to_numpy()
    return images


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _complete(column: pa.ChunkedArray, name: str) -> None:
    if column.null_count:
        row = pc.index(pc.is_null(column), pa.scalar(True)).as_py()
        raise InputError(f"column {name} is empty in {column.null_count} rows, the first {row}")


def _plain(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Numbers, texts, or lists of numbers."""
    _complete(column, name)
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks])
        kind = column.type
    if _is_number(kind):
        return np.asarray(column.to_numpy())
    if _is_text(kind):
        return np.array(column.to_pylist(), dtype=np.str_)
    if _is_list(kind):
        return _lists(column, name)
    raise InputError(f"column {name} holds {kind}; numbers, texts and lists of numbers can be read")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_true(kind: pa.DataType) -> bool:
    """Whether it is true or false, or lists of such."""
    return _is_true(kind.value_type) if _is_list(kind) else bool(pa.types.is_boolean(kind))


def _lists(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """(rows, …) of lists of one length, and lists in them."""
    shape, flat = [len(column)], pa.chunked_array(column.chunks, column.type).combine_chunks()
    while _is_list(flat.type):
        lengths = pc.unique(pc.list_value_length(flat)).to_pylist()
        if len(lengths) != 1 or lengths[0] is None:
            raise InputError(
                f"column {name} has lists of {' and '.join(map(str, lengths[:2]))} values; one length is read"
            )
        shape.append(lengths[0])
        flat = pc.list_flatten(flat)
    if not _is_number(flat.type) or flat.null_count:
        raise InputError(f"column {name} holds lists of {flat.type}, or empty places; lists of numbers are read")
    numbers = np.asarray(flat.to_numpy(zero_copy_only=False))
    return (numbers.astype(np.uint8) if numbers.dtype == bool else numbers).reshape(shape)


def _images(
    column: pa.ChunkedArray, name: str, folder: Path, digests: list[tuple[str, str]], channels: int | None
) -> np.ndarray:
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
        kind = column.type
    _complete(column, name)
    if _is_number(kind):
        numbers = np.asarray(column.to_numpy())
        return (numbers.astype(np.uint8) if numbers.dtype == bool else numbers)[:, None]
    if _is_list(kind):
        return _lists(column, name)
    fields = {kind.field(i).name for i in range(kind.num_fields)} if pa.types.is_struct(kind) else set()
    if not (_is_text(kind) or _is_bytes(kind) or "bytes" in fields or "path" in fields):
        raise InputError(f"column {name} holds {kind}; images are bytes, paths, structs of both, or lists of numbers")

    def contents() -> Iterator[tuple[str, bytes]]:
        row = 0
        for batch in column.chunks:
            for value in batch:
                yield _content(value.as_py(), f"column {name}, row {row}", folder, digests)
                row += 1

    return decode(contents(), len(column), channels)


def _content(value: Any, where: str, folder: Path, digests: list[tuple[str, str]]) -> tuple[str, bytes]:
    """The name and the bytes of an encoded image."""
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else value.get("path")
    if isinstance(value, bytes):
        return where, value
    if not value:
        raise InputError(f"{where}: there are neither bytes nor a path")
    file = folder / value
    try:
        content = file.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: {file} cannot be read: {reason(error)}") from error
    digests.append((value, hashlib.sha256(content).hexdigest()))
    return f"{where} ({file})", content
