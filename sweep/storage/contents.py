"""What the trials of a study can be, so that a shard that says anything else is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from sweep.storage.schema import trial_schema
from sweep.study.study import Study

FIXED_SEED = 0  # of the one trial of a cell without randomness, whatever seeds the study asks for


class Expected:
    """The columns and cells of a study, against which shards are checked.

    Attributes:
        schema: of every shard.
    """

    def __init__(self, study: Study) -> None:
        columns = study.columns
        self.schema = trial_schema(columns)
        self._keys = ["cell", "model", "family", *columns]
        self._cells: dict[str, tuple[Any, ...]] = {}
        for cell in study.cells:
            values = [cell.values.get(name) for name in columns]
            kinds = zip(values, columns.values(), strict=True)
            stored = [str(value) if kind is str and value is not None else value for value, kind in kinds]
            self._cells[cell.id] = (cell.id, cell.model, cell.family, *stored)
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
        fixed = np.isin(table["cell"].to_numpy(zero_copy_only=False), self._fixed)
        seconds = table["seconds"].to_numpy(zero_copy_only=False)
        with np.errstate(divide="ignore", invalid="ignore"):
            wrong = {
                "a seed below 0": seed < 0,
                "a seed in a cell without randomness": fixed & (seed != FIXED_SEED),
                "no images": images < 1,
                "more images right than there are, or fewer than none": (correct < 0) | (correct > images),
                "more images without a score than there are, or fewer than none": (nonfinite < 0)
                | (nonfinite > images),
                "an accuracy that is not right by images": accuracy != correct / images,
                "a time below 0 or without end": (seconds < 0) | np.isinf(seconds),
            }
        for said, where in wrong.items():
            if where.any():
                row = table.slice(int(np.argmax(where)), 1).select(["cell", *names, "seconds"]).to_pylist()[0]
                return f"has {said}: {row}"
        return None
