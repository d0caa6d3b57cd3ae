"""By what controls of a chip's draw are computed: a file of the run folder, each part made once."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sweep.errors import StoreError
from sweep.files import reason
from sweep.storage.pages import sizes
from sweep.storage.paths import Folder
from sweep.storage.schema import parquet_bytes
from sweep.storage.shards import MOST_UNPACKED

CONTROLS = "controls.parquet"
_SCHEMA = pa.schema(
    [
        pa.field("model", pa.string()),
        pa.field("pairs", pa.int64()),
        pa.field("gradients", pa.binary()),
        pa.field("cell", pa.string()),
        pa.field("begin", pa.int64()),
        pa.field("factors", pa.list_(pa.float64())),
    ]
)


class Factors(NamedTuple):
    """By which a cell's controls are taken off.

    Attributes:
        begin: how many chips of the cell are without.
        values: (2 P,) of the features of P gradients; (0,) where no chip has controls.
    """

    begin: int
    values: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Controls:
    """Gradients and factors, made once for a run and kept with it: rows do not depend on who made them.

    Attributes:
        gradients: by network, of several test sets on each (`Cell.subject`), (P, F) of margins.
        factors: by cell.
    """

    gradients: Mapping[str, npt.NDArray[np.float16]] = field(default_factory=dict)
    factors: Mapping[str, Factors] = field(default_factory=dict)

    def __or__(self, other: Controls) -> Controls:
        return Controls({**self.gradients, **other.gradients}, {**self.factors, **other.factors})

    def without(self, cells: Collection[str], subjects: Collection[str]) -> Controls:
        """All but the factors of these cells and the gradients of these subjects."""
        gradients = {subject: table for subject, table in self.gradients.items() if subject not in subjects}
        return Controls(gradients, {cell: by for cell, by in self.factors.items() if cell not in cells})

    def content(self) -> bytes:
        """As the content of its file."""
        rows = [
            {"model": model, "pairs": len(table), "gradients": table.astype("<f2").tobytes()}
            for model, table in sorted(self.gradients.items())
        ]
        rows += [{"cell": cell, "begin": f.begin, "factors": f.values} for cell, f in sorted(self.factors.items())]
        return parquet_bytes(pa.Table.from_pylist(rows, schema=_SCHEMA))


def keep_controls(folder: Folder, found: Controls) -> Controls:
    """Add what was found to that of a run folder; what is there already, of another driver, is kept."""
    whole = found

    def added(content: bytes | None) -> bytes:
        nonlocal whole
        whole = found if content is None else found | _parsed(content, folder)
        return whole.content()

    folder.update(CONTROLS, added)
    return whole


def drop_controls(folder: Folder, cells: Collection[str], subjects: Collection[str]) -> None:
    """Forget the factors of some cells and the gradients of some subjects."""

    def less(content: bytes | None) -> bytes:
        return (Controls() if content is None else _parsed(content, folder).without(cells, subjects)).content()

    if folder.read(CONTROLS) is not None:
        folder.update(CONTROLS, less)


def read_controls(folder: Folder) -> Controls:
    """What a run folder has; nothing where there is no file. Raises StoreError when that is damaged."""
    content = folder.read(CONTROLS)
    return Controls() if content is None else _parsed(content, folder)


def _parsed(content: bytes, folder: Folder) -> Controls:
    try:
        size = sizes(content).unpacked
        if size > MOST_UNPACKED:
            raise ValueError(f"it would take {size:,} bytes; at most {MOST_UNPACKED:,} are read")
        gradients, factors = {}, {}
        for row in pq.read_table(io.BytesIO(content)).cast(_SCHEMA).to_pylist():
            if row["model"] is not None:
                values = np.frombuffer(row["gradients"], "<f2").astype(np.float16)
                gradients[row["model"]] = values.reshape(row["pairs"], -1) if row["pairs"] else values.reshape(0, 0)
            else:
                factors[row["cell"]] = Factors(row["begin"], np.array(row["factors"], np.float64))
        if not all(np.isfinite(table).all() for table in gradients.values()):
            raise ValueError("a gradient is no finite number")
        if not all(np.isfinite(f.values).all() and f.begin >= 0 for f in factors.values()):
            raise ValueError("a factor is no finite number")
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"{folder.uri}/{CONTROLS}: is damaged: {reason(error)}; move it away, and `sweep run` makes it anew"
        ) from None
    return Controls(gradients, factors)
