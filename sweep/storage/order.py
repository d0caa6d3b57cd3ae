"""The order of trials: by cell, then by seed; and which are there twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sweep.errors import NondeterminismError
from sweep.storage.schema import result_columns

Ints = npt.NDArray[np.int64]


def in_order(which: Ints, seeds: Ints) -> bool:
    """Whether trials are in the order of cells (by number), then of seeds; shapes (T,)."""
    later, same = which[1:] > which[:-1], which[1:] == which[:-1]
    return bool((later | (same & (seeds[1:] >= seeds[:-1]))).all())


def repeated(cells: pa.ChunkedArray, seeds: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which trials are there before, too; shape (T,)."""
    which, numbers = cells.combine_chunks().dictionary_encode().indices.to_numpy(), seeds.to_numpy()
    found = np.zeros(len(numbers), bool)
    order = np.arange(len(numbers)) if in_order(which, numbers) else np.lexsort((numbers, which))
    which, numbers = which[order], numbers[order]
    found[order[1:]] = (which[1:] == which[:-1]) & (numbers[1:] == numbers[:-1])
    return found


def once(table: pa.Table, again: npt.NDArray[np.bool_], where: str) -> pa.Table:
    """Trials, without those that are there `again`.

    Raises NondeterminismError when one of these has another result than before.
    """
    results = table.select(result_columns(table.schema)).to_pandas()
    if (again != results.duplicated()).any():
        first = results[again & ~results.duplicated()].iloc[0]
        raise NondeterminismError(
            f"{where}: {first['cell']} at seed {first['seed']} was evaluated twice, "
            "with different results; the evaluation is not deterministic"
        )
    return table.filter(pa.array(~again))


def frame_of(table: pa.Table, cells: Sequence[str]) -> pd.DataFrame:
    """Trials in the order of `cells`, then of seeds, as a reader gets them."""
    order = pc.index_in(table["cell"], value_set=pa.array(cells, pa.string())).to_numpy()
    seeds = table["seed"].to_numpy()
    if not in_order(order, seeds):  # merged files are
        table = table.take(np.lexsort((seeds, order)))
    frame: pd.DataFrame = table.to_pandas()
    whole = [f.name for f in table.schema if f.nullable and f.type == pa.int64()]
    whole += [f.name for f in table.schema if f.nullable and f.type == pa.int32()]
    frame = frame.astype(dict.fromkeys(whole, "Int64"))  # else NumPy makes 8.0 of 8 bits where some are missing
    return frame.reset_index(drop=True)
