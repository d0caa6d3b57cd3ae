"""The columns of a trial, which of them are results, and what trials of a study can say: other shards are refused."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from sweep.data.measures import ACCURACY, is_exact
from sweep.randomness import FIRST_SAMPLED
from sweep.study.family import Cell
from sweep.study.study import Study

PROVENANCE = ("seconds", "host", "device", "engine")
FIXED_SEED = 0  # of the one trial of a cell without randomness, whatever seeds the study asks for
SAMPLED = ("estimate", "half_difference", "control")
"""Columns of chips from `FIRST_SAMPLED` on, which format 1 does not have."""
FORMAT = 2  # of the run folder; a reader refuses a newer one

_TYPES = {float: pa.float64(), int: pa.int64(), str: pa.string(), bool: pa.bool_()}


def trial_schema(columns: Mapping[str, type], further: Sequence[str] = (), counted: bool = True) -> pa.Schema:
    """The schema of one row per trial.

    Args:
        columns: the swept parameters, nullable, under their own names.
        further: names of the measures beside accuracy, nullable.
        counted: whether every trial has an accuracy; else those whose network has classes.
    """
    return pa.schema(
        [
            pa.field("model", pa.string(), nullable=False),
            pa.field("family", pa.string(), nullable=False),
            pa.field("cell", pa.string(), nullable=False),
            *(pa.field(name, _TYPES[kind]) for name, kind in columns.items()),
            pa.field("seed", pa.int64(), nullable=False),
            pa.field("n_images", pa.int32(), nullable=False),
            pa.field("n_correct", pa.int32(), nullable=not counted),
            pa.field("accuracy", pa.float64(), nullable=not counted),
            pa.field("n_nonfinite", pa.int32(), nullable=False),  # images with a score that is no finite number
            *(pa.field(name, pa.float64()) for name in (*SAMPLED, *further)),
            pa.field("seconds", pa.float64()),
            pa.field("host", pa.string()),
            pa.field("device", pa.string()),
            pa.field("engine", pa.string()),
        ]
    )


def schema_of(study: Study) -> pa.Schema:
    """The schema of a study's trials."""
    return trial_schema(study.columns, study.further, study.counted)


def further_of(names: Sequence[str]) -> list[str]:
    """Those of the columns of trials that are measures beside accuracy."""
    return list(names[names.index(SAMPLED[-1]) + 1 : names.index(PROVENANCE[0])]) if SAMPLED[-1] in names else []


def completed(table: pa.Table) -> pa.Table:
    """Trials with the columns of today's format, those that an earlier one did not have empty."""
    for name in SAMPLED:
        if name not in table.schema.names:
            place = table.schema.get_field_index("seconds")
            table = table.add_column(place, pa.field(name, pa.float64()), pa.nulls(table.num_rows, pa.float64()))
    return table


def values_of(table: pa.Table, measure: str = ACCURACY.name) -> npt.NDArray[np.float64]:
    """What each trial says of its chip's accuracy: that, or its estimate less its control; or of another measure."""
    if measure != ACCURACY.name:
        return np.asarray(table[measure].to_numpy(), np.float64)
    accuracy, estimate, control = (table[n].to_numpy() for n in ("accuracy", "estimate", "control"))
    return np.asarray(np.where(np.isnan(estimate), accuracy, estimate - np.nan_to_num(control)))


def result_columns(schema: pa.Schema) -> list[str]:
    """The columns that equal studies have in common, byte for byte, whatever the machines.

    The control is not among them, nor are measures of scores rather than decisions: in their last digits they are those
    of a processor and of a way to evaluate.
    """
    inexact = [name for name in further_of(schema.names) if not is_exact(name)]
    return [name for name in schema.names if name not in (*PROVENANCE, SAMPLED[-1], *inexact)]


def trial_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, type],
    further: Sequence[str] = (),
    counted: bool = True,
) -> pa.Table:
    """Rows as a table; parameters that a row's family does not sweep are null. `trial_schema` says what the rest is."""
    schema = trial_schema(columns, further, counted)
    return pa.Table.from_pylist([{**row, **_stored(row, columns)} for row in rows], schema=schema)


def trial_columns(
    cells: Sequence[Cell],
    which: Sequence[int] | npt.NDArray[np.int64],
    columns: Mapping[str, type],
    further: Sequence[str] = (),
    **values: Any,
) -> pa.Table:
    """As `trial_table`, of many trials of few cells.

    Args:
        cells: that there are.
        which: (T,) positions in `cells`.
        columns, further: as for `trial_schema`; all trials have an accuracy.
        values: of the other columns, (T,) or a text; those that are not there are empty.
    """
    schema = trial_schema(columns, further)
    keys = [{"model": c.model, "family": c.family, "cell": c.id, **_stored(c.values, columns)} for c in cells]
    names = ["model", "family", "cell", *columns]
    own = pa.Table.from_pylist(keys, schema=pa.schema([schema.field(name) for name in names])).take(which)
    found = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        given = values.get(name)
        if name in names:
            found.append(own[name])
        elif given is None or isinstance(given, str):
            found.append(pa.repeat(pa.scalar(given, kind), len(own)))
        else:
            found.append(pa.array(given, from_pandas=True).cast(kind))
    return pa.Table.from_arrays(found, schema=schema)


def rows_of(trials: pa.Table, cells: Sequence[Cell], study: Study) -> pa.Table:
    """Trials of these cells of a study, made for one with other swept parameters, in the columns of this one."""
    which = pc.index_in(trials["cell"], value_set=pa.array([cell.id for cell in cells], pa.string()))
    schema = schema_of(study)
    own = {"model", "family", "cell", *study.columns}
    keys = trial_columns(cells, which, study.columns)
    found = [keys[field.name] if field.name in own else trials[field.name].cast(field.type) for field in schema]
    return pa.Table.from_arrays(found, schema=schema)


def _stored(values: Mapping[str, Any], columns: Mapping[str, type]) -> dict[str, Any]:
    """Swept parameters as they are stored: two families may sweep one name with different types."""
    return {
        name: str(values[name]) if kind is str and values.get(name) is not None else values.get(name)
        for name, kind in columns.items()
    }


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the content of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def fingerprint(table: pa.Table) -> str:
    """SHA-256 of a table's names, types and values, whatever file they come from."""
    digest = _Digest()
    digest.write(table.schema.remove_metadata().to_string(show_field_metadata=False).encode())
    pyarrow.csv.write_csv(table, digest)
    return digest.sha256.hexdigest()


class _Digest(io.RawIOBase):
    """A file whose bytes are digested and not kept."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self.sha256.update(content)
        return len(content)


class Expected:
    """The columns and cells of a study, against which shards are checked.

    Attributes:
        schema: of every shard.
        first: of those of format 1.
    """

    def __init__(self, study: Study) -> None:
        columns = study.columns
        self.schema = schema_of(study)
        self.first = pa.schema([field for field in self.schema if field.name not in SAMPLED])
        self._keys = ["cell", "model", "family", *columns]
        self._cells: dict[str, tuple[Any, ...]] = {}
        for cell in study.cells:
            self._cells[cell.id] = (cell.id, cell.model, cell.family, *_stored(cell.values, columns).values())
        self._fixed = [cell.id for cell in study.cells if not cell.random]

    def problem(self, table: pa.Table) -> str | None:
        """What is wrong with trials of these columns, or None."""
        if not table.num_rows:
            return None
        return self._of_cells(table) or self._of_numbers(table)

    def _of_cells(self, table: pa.Table) -> str | None:
        for found in table.select(self._keys).group_by(self._keys).aggregate([]).select(self._keys).to_pylist():
            cell = found["cell"]
            if cell not in self._cells:
                return f"has trials of {cell!r:.200}, which is no cell of the study"
            if tuple(found.values()) != self._cells[cell]:
                return f"says of {cell} that it is {found!r:.400}"
        return None

    def _of_numbers(self, table: pa.Table) -> str | None:
        names = ("seed", "n_images", "n_correct", "accuracy", "n_nonfinite")
        seed, images, correct, accuracy, nonfinite = (table[name].to_numpy() for name in names)
        without = np.isnan(correct) & np.isnan(accuracy)  # of networks without classes, where the schema allows it
        further = further_of(table.schema.names)
        endless = np.isinf(np.array([table[name].to_numpy() for name in further])).any(axis=0) if further else False
        fixed = pc.is_in(table["cell"], pa.array(self._fixed, pa.string())).to_numpy()
        seconds, *sampled = (table[name].to_numpy(zero_copy_only=False) for name in ("seconds", *SAMPLED))
        estimate, apart, control = sampled
        few = seed >= FIRST_SAMPLED
        with np.errstate(divide="ignore", invalid="ignore"):
            wrong = {
                "a seed below 0": seed < 0,
                "a seed in a cell without randomness": fixed & (seed != FIXED_SEED),
                "no images": images < 1,
                "more images right than there are, or fewer than none": ~without
                & ~((correct >= 0) & (correct <= images)),
                "more images without a score than there are, or fewer than none": (nonfinite < 0)
                | (nonfinite > images),
                "an accuracy that is not right by images": ~without & (accuracy != correct / images),
                "a measure that is no finite number": np.broadcast_to(endless, seed.shape),
                "no finite estimate where one has to be": few
                & ~without
                & ~(np.isfinite(estimate) & np.isfinite(apart)),
                "an estimate where there is none": (~few | without) & ~(np.isnan(estimate) & np.isnan(apart)),
                "a control that is no finite number, or of nothing": ~np.isnan(control)
                & (~few | ~np.isfinite(control)),
                "a time below 0 or without end": (seconds < 0) | np.isinf(seconds),
            }
        for said, where in wrong.items():
            if where.any():
                row = table.slice(int(np.argmax(where)), 1).select(["cell", *names, *SAMPLED, "seconds"]).to_pylist()[0]
                return f"has {said}: {row}"
        return None
