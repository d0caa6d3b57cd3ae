"""The columns of a trial, and which of them are results."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

PROVENANCE = ("seconds", "host", "device", "engine")
FORMAT = 1  # of the run folder; a reader refuses a newer one

_TYPES = {float: pa.float64(), int: pa.int64(), str: pa.string(), bool: pa.bool_()}


def trial_schema(columns: Mapping[str, type]) -> pa.Schema:
    """The schema of one row per trial; `columns` are the swept parameters, nullable, under their own names."""
    return pa.schema(
        [
            pa.field("model", pa.string(), nullable=False),
            pa.field("family", pa.string(), nullable=False),
            pa.field("cell", pa.string(), nullable=False),
            *(pa.field(name, _TYPES[kind]) for name, kind in columns.items()),
            pa.field("seed", pa.int64(), nullable=False),
            pa.field("n_images", pa.int32(), nullable=False),
            pa.field("n_correct", pa.int32(), nullable=False),
            pa.field("accuracy", pa.float64(), nullable=False),
            pa.field("n_nonfinite", pa.int32(), nullable=False),  # images with a score that is no finite number
            pa.field("seconds", pa.float64()),
            pa.field("host", pa.string()),
            pa.field("device", pa.string()),
            pa.field("engine", pa.string()),
        ]
    )


def result_columns(schema: pa.Schema) -> list[str]:
    """The columns that equal studies have in common, byte for byte."""
    return [name for name in schema.names if name not in PROVENANCE]


def trial_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, type]) -> pa.Table:
    """Rows as a table; parameters that a row's family does not sweep are null."""
    for name, kind in columns.items():
        if kind is str:  # two families may sweep one name with different types
            rows = [{**row, name: str(row[name])} if row.get(name) is not None else row for row in rows]
    return pa.Table.from_pylist(list(rows), schema=trial_schema(columns))


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the content of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def fingerprint(table: pa.Table) -> str:
    """SHA-256 of a table's names, types and values, whatever file they come from."""
    buffer = io.BytesIO()
    buffer.write(table.schema.remove_metadata().to_string(show_field_metadata=False).encode())
    pyarrow.csv.write_csv(table, buffer)
    return hashlib.sha256(buffer.getbuffer()).hexdigest()
