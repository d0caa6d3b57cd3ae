"""One chip of a run, looked at closely: the network as it has become, and what it decides about each image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sweep.data.measure import Measure, Outputs
from sweep.engine.sites import Entry
from sweep.errors import InputError, StoreError, hint
from sweep.networks.inspection import has_operations
from sweep.networks.variables import numbers_of
from sweep.perturb.base import Array
from sweep.perturb.perturbation import block_of
from sweep.preparation.chips import entries, recalibration_of, varied
from sweep.preparation.inputs import Prepared, prepare
from sweep.preparation.sites import sites_of
from sweep.reporting.tables.layout import text_table
from sweep.storage.kept import Trust, trusted_study
from sweep.storage.schema import FIXED_SEED
from sweep.storage.store import Store
from sweep.study.family import Cell
from sweep.study.study import digest
from sweep.texts import percent

SUFFIXES = (".keras", ".h5")
_SHOWN = 3  # classes for which another is taken


@dataclass(frozen=True)
class Chip:
    """One device: all that one seed draws for a cell.

    Attributes:
        cell: its id.
        seed: of its draws.
    """

    cell: str
    seed: int
    _prepared: Prepared = field(repr=False)
    _stored: Mapping[str, Any] = field(repr=False, default_factory=dict)  # its trial, where the run has it

    @property
    def weights(self) -> list[Array]:
        """The perturbed weights, in the order of `model.weights`; those of the first read, where each read draws.

        With the statistics that batch normalisation gets anew, where the cell is recalibrated.
        """
        network = self._prepared.networks[self._cell.model]
        clean = [numbers_of(weight) for weight in network.model.get_weights()]
        return [np.asarray(entry) for entry in next(self._entries(clean))[: len(clean)]]

    def save(self, path: str | Path) -> Path:
        """Write the perturbed network as a Keras file (.keras or .h5); returns where.

        Raises InputError for another suffix, and where a file of weights cannot hold what is perturbed: the data flow,
        or weights that each read draws anew.
        """
        path = Path(path).expanduser()
        if path.suffix not in SUFFIXES:
            raise InputError(f"{path}: must end in {' or '.join(SUFFIXES)}")
        if self._prepared.flow.get(self.cell):
            raise InputError(f"{self.cell}: acts on the data flow, which no file of weights holds")
        if block_of(self._cell.transforms):
            raise InputError(f"{self.cell}: draws anew for each read, so that its weights are no single set")
        model, weights = self._prepared.networks[self._cell.model].file_model, self.weights
        if path.suffix == ".h5" and has_operations(model):
            raise InputError(f"{path}: Keras cannot read operations such as x + y from .h5; write a .keras file")
        clean = model.get_weights()
        model.set_weights(weights)
        try:
            model.save(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
        finally:
            model.set_weights(clean)
        return path

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row for each image: `image` (its number), `label`, `decision`, `clean` (the clean network's), `right`.

        Raises:
            InputError: the network's outputs are no classes.
            StoreError: the run has this trial, with another count of right images.
        """
        found = self._outputs
        if not len(found.decisions):
            raise InputError(f"{self.cell}: its network has no classes, so that there are no decisions")
        right = found.decisions == found.labels
        if self._stored and int(right.sum()) != self._stored["n_correct"]:
            there = f"{self._stored['n_correct']:,} there, {right.sum():,} now"
            raise StoreError(f"{self.cell} at seed {self.seed}: other images are right than in the run: {there}")
        columns = {"label": found.labels, "decision": found.decisions, "clean": found.clean, "right": right}
        return pd.DataFrame({"image": np.arange(len(right)), **columns})

    def save_images(self, path: str | Path) -> Path:
        """Write `images` as CSV; returns where. Raises InputError where that cannot be written."""
        path = Path(path).expanduser()
        try:
            self.images.to_csv(path, index=False)
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
        return path

    @property
    def classes(self) -> pd.DataFrame:
        """One row for each class: `label`, `images`, `right` and `clean` (shares), `taken_for` (others, most first)."""
        rows = []
        for label, own in self.images.groupby("label"):
            others = own.loc[~own["right"], "decision"].value_counts()
            taken = ", ".join(f"{self._name(other)} × {count:,}" for other, count in others.iloc[:_SHOWN].items())
            clean = (own["clean"] == own["label"]).mean()
            rows.append((label, len(own), own["right"].mean(), clean, taken))
        return pd.DataFrame(rows, columns=["label", "images", "right", "clean", "taken_for"])

    def confusion(self) -> pd.DataFrame:
        """Numbers of images by label (rows) and decision (columns)."""
        return pd.crosstab(self.images["label"], self.images["decision"])

    def __str__(self) -> str:
        found = self.images
        was = found["clean"] == found["label"]
        lost, won = (was & ~found["right"]).sum(), (~was & found["right"]).sum()
        rows = [
            [self._name(of["label"]), f"{of['images']:,}", percent(of["right"]), percent(of["clean"]), of["taken_for"]]
            for of in self.classes.to_dict("records")
        ]
        return (
            f"{self.cell}, seed {self.seed}: {found['right'].sum():,} of {len(found):,} images right; "
            f"against the clean network {lost:,} lost, {won:,} won\n\n"
            + text_table(("class", "images", "right, %", "clean, %", "taken for"), rows)
        )

    def _name(self, label: Any) -> str:
        return str(dict(enumerate(self._prepared.datasets[self._cell.dataset].classes)).get(int(label), label))

    @property
    def _cell(self) -> Cell:
        return next(cell for cell in self._prepared.study.cells if cell.id == self.cell)

    @cached_property
    def _outputs(self) -> Outputs:
        from sweep.engine.evaluator import Evaluator

        prepared, cell = self._prepared, self._cell
        network, placed = prepared.networks[cell.model], prepared.flow.get(self.cell, ())
        kept: list[Outputs] = []
        measure = Measure("kept", lambda outputs: kept.append(outputs) or 0.0, "")  # type: ignore[func-returns-value]
        engine = self._stored.get("engine", "plain") if placed else "plain"  # one trial; rounding is by its own way
        study = prepared.study
        dataset = prepared.datasets[cell.dataset]
        evaluator = Evaluator(network, dataset, engine, sites_of(placed), study.rescale, [measure])
        given = self._entries(evaluator.weights)
        evaluator.count([given], varied(cell, network.variables), block_of(cell.transforms))
        return kept[-1]

    def _entries(self, clean: Sequence[Array]) -> Iterator[list[Entry]]:
        prepared, cell = self._prepared, self._cell
        network, placed, study = prepared.networks[cell.model], prepared.flow.get(self.cell, ()), prepared.study
        anew = recalibration_of(cell, network, placed, prepared.calibration, study.rescale)
        return entries(cell, clean, network.variables, placed, study.root_seed, self.seed, recalibration=anew)


def chip(store: Store, cell: str, seed: int, trust_model: bool = False, trust_plugins: Trust = False) -> Chip:
    """One chip of a run; see `Run.chip`."""
    prepared = prepare(trusted_study(store, trust_plugins), trust_model)
    if digest(prepared.identity) != store.manifest.get("study_digest"):
        raise InputError(f"{store.folder.uri}: its networks, dataset or plugins are not the files that are there now")
    cells = {cell.id: cell for cell in prepared.study.cells}
    short = [known for known in cells if known.partition("/")[2] == cell]  # of a single network, as displays have it
    cell = short[0] if len(short) == 1 and cell not in cells else cell
    if cell not in cells:
        raise InputError(f"{cell!r} is no cell of the study; cells are {_some(list(cells))}{hint(cell, cells)}")
    seed = seed if cells[cell].random else FIXED_SEED
    store.expect(prepared.study)
    table = store.table()
    rows = [] if table is None else table.select(["cell", "seed", "n_correct", "n_images", "engine"]).to_pylist()
    whole = prepared.sizes[cell]
    stored = [row for row in rows if (row["cell"], row["seed"], row["n_images"]) == (cell, seed, whole)]
    return Chip(cell, seed, prepared, stored[0] if stored else {})


def _some(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) <= 2 * _SHOWN else [*names[:_SHOWN], "…", names[-1]])
