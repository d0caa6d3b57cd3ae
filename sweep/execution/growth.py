"""A study that has changed since its run was begun: what stays, what is hidden, what comes back, and what is refused.

A level, a family, a network or a test set more or less changes which cells there are, and no trial of the others.
Trials of cells that the study no longer has are moved to the folder `hidden`, and counted again when it has them once
more.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sweep.errors import InputError, StoreError
from sweep.execution.renamed import FILES, Renamed, sets_of
from sweep.perturb.dataflow import DataFlow
from sweep.preparation.inputs import Prepared
from sweep.preparation.measured import files_in, named_in
from sweep.randomness import FIRST_SAMPLED
from sweep.storage.kept import described, read_study
from sweep.storage.merge import parts
from sweep.storage.paths import Folder
from sweep.storage.schema import Expected, rows_of
from sweep.storage.shards import Shard, commit, sound
from sweep.storage.store import HIDDEN, Store
from sweep.storage.surveys import Survey, drop_survey, keep_survey, read_survey
from sweep.study.family import Cell, subject
from sweep.study.sets import key_of
from sweep.study.study import CODE, Study, digest

TRIES = 30  # where others commit meanwhile
_FILES, _MODEL = FILES, "model "


@dataclass(frozen=True)
class Growth:
    """How a study differs from the one that its run was begun with.

    Attributes:
        before: the study of the run.
        study: the study now.
        identity: all that its results depend on.
        new: ids of cells that the run does not have.
        gone: of cells that the study does not have.
        back: of new ones, those whose trials are hidden in the run, by the file that has them.
        renamed: what is called otherwise now.
    """

    before: Study
    study: Study
    identity: Mapping[str, Any]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    back: Mapping[str, str]
    renamed: Renamed

    def __str__(self) -> str:
        counts = {"new": len(self.new) - len(self.back), "back": len(self.back), "hidden": len(self.gone)}
        counts["called otherwise"] = len(self.renamed.cells)
        cells = [f"{count:,} {what}" for what, count in counts.items() if count]
        return f"the study has changed since the run was begun; cells: {', '.join(cells)}"

    def returning(self, folder: Folder) -> pa.Table | None:
        """The trials of cells that come back, in the columns of the study now; None where there are none."""
        tables = []
        for file in dict.fromkeys(self.back.values()):
            path, content = f"{folder.uri}/{HIDDEN}/{file}", folder.read(f"{HIDDEN}/{file}")
            if content is None:
                raise StoreError(f"{path}: is missing; take `hidden` out of manifest.json, and its trials run again")
            cells = [cell for cell, of in self.back.items() if of == file]
            table = sound(content, path)
            found = rows_of(table.filter(pc.is_in(table["cell"], pa.array(cells))), self._cells(cells), self.study)
            if problem := Expected(self.study).problem(found):
                raise StoreError(f"{path}: {problem}; take `hidden` out of manifest.json, and its trials run again")
            tables.append(found)
        return pa.concat_tables(tables) if tables else None

    @property
    def _stale(self) -> tuple[set[str], set[str]]:
        """Cells and subjects of which a run folder may know what is of others: such as have had their names before."""
        cells = {*self.new} - self.back.keys() | {*self.renamed.cells.values()}
        known = {cell.subject for cell in self.study.cells if cell.id not in cells}
        return cells, {cell.subject for cell in self.study.cells} - known

    def survey(self, folder: Folder, images: Mapping[str, int]) -> Survey:
        """What a run folder knows of the images of the study now; `images` are the sizes of each cell's test set."""
        cells, subjects = self._stale
        found = read_survey(folder, {cell: size for cell, size in images.items() if cell not in cells})
        return self.renamed.survey(found.without(cells, subjects))

    def apply(self, store: Store, **entries: Any) -> None:
        """Make the run that of the study now, in one step: a run that is killed before has its old study.

        `entries` go into the manifest beside those that say of what study it is.
        """
        now, before = digest(self.identity), store.manifest["study_digest"]
        store.announce(now)
        drop_survey(store.folder, *self._stale)
        if self.renamed.cells and (known := read_survey(store.folder, {})).pilots:
            keep_survey(store.folder, self.renamed.survey(known), {})
        for _ in range(TRIES):  # another driver may have committed meanwhile
            store.adopt(before, self.before.columns, clear=False)  # what else is there, another driver may need
            store.clean()
            table, old = store.table(), set(store.shards)
            stay = [cell.id for cell in self.study.cells]
            tables, hidden = [], {**store.manifest.get(HIDDEN, {})}
            if table is not None:
                table = self.renamed.table(table)
                stays = pc.is_in(table["cell"], pa.array(stay))
                tables.append(rows_of(table.filter(stays), self._cells(stay), self.study))
                hidden |= self._hide(store, table.filter(pc.invert(stays)), before)
            back = self.returning(store.folder)
            tables += [] if back is None else [back]
            rows = pa.concat_tables(tables) if tables else None
            new = [] if rows is None else self._commit(store, rows, now)
            hidden = {cell: said for cell, said in hidden.items() if cell not in self.back}
            said = {"identity": dict(self.identity), "ops": described(self.study), HIDDEN: hidden}
            if store.become(old, new, now, **{**entries, **said}):
                break
        else:
            raise StoreError(
                f"{store.folder.uri}: others kept committing trials of the study before, {TRIES} times; "
                "stop them, with `sweep cancel`, and run this again"
            )
        store.clean()
        store.expect(self.study)

    def _cells(self, ids: list[str]) -> list[Cell]:
        cells = {cell.id: cell for cell in self.study.cells}
        return [cells[cell] for cell in ids]

    def _commit(self, store: Store, rows: pa.Table, now: str) -> list[Shard]:
        """Files with names of their own: what another driver removes, late, is never what is listed here."""
        named = parts(rows, now, [cell.id for cell in self.study.cells])
        own = uuid.uuid4().hex
        files = enumerate(named.values())
        return [commit(store.folder, part, now, f"grown-{n:03d}-{own}.parquet") for n, part in files]

    def _hide(self, store: Store, table: pa.Table, before: str) -> dict[str, dict[str, str]]:
        """Put trials aside; what the manifest is to say of their cells."""
        if not table.num_rows:
            return {}
        found, cells = {}, {cell.id: cell for cell in self.before.cells}
        for name, part in parts(table, before, list(self.gone)).items():
            commit(store.folder, part, before, name, HIDDEN)
            for cell in part["cell"].unique().to_pylist():
                own = digest(of_cell(store.manifest["identity"], cells[cell]))
                found[cell] = {"file": name, "identity": own}
        return found


def growth_of(store: Store, prepared: Prepared) -> Growth | None:
    """How the study differs from the one that a run was begun with; None where it is the same.

    Raises InputError, with the differences, where trials of cells that both have would not be the same, or where they
    have no cell in common.
    """
    study, new = prepared.study, prepared.identity
    if store.manifest["identity"] == new:
        return None
    renamed = Renamed.of(store.manifest["identity"], new, study)
    old = renamed.identity(store.manifest["identity"], new)
    changes = list(_changes(old, new))
    if not changes and not renamed.sets:
        return None
    common = old["cells"].keys() & new["cells"].keys()
    own = {*store.manifest.get("ops", {}), *described(study)}  # transforms of plugins
    plain = not any(table["op"] in own for cell in common for table in new["cells"][cell])
    of_some = {f"{_MODEL}{label}" for label in _labels(old) ^ _labels(new)}
    of_some |= (_subjects(old) ^ _subjects(new)) - _labels(old) - _labels(new)
    of_some |= {key_of(label) for label in sets_of(old).keys() ^ sets_of(new).keys()}
    calibrated = (t for cell in study.cells if cell.id in common for t in cell.transforms if isinstance(t, DataFlow))
    anew = any(cell.recalibrated for cell in study.cells if cell.id in common)
    kept = {files for cell in common for files in files_in(new["cells"][cell])}
    chips = {key: named_in(key) for key in [*old[_FILES], *new[_FILES]] if named_in(key)}
    of_some |= {key for key, files in chips.items() if files not in kept or key not in old[_FILES]}
    of_some |= set() if anew or any(t.calibrated for t in calibrated) else {"calibration"}
    wrong = [change for change in changes if not _is_growth(change, of_some, plain)]
    wrong = [change for change in wrong if change.part != "images" or change.after is None or _has_sampled(store)]
    if wrong or (old["cells"] and not common):
        raise InputError(
            f"{store.folder.uri}: holds results of another study called {store.manifest['name']!r}:\n"
            f"{_listed(wrong or changes)}\n  give this study another name, or another folder with --out"
        )
    before = read_study(store)
    there, now = {cell.id for cell in before.cells}, {cell.id: cell for cell in study.cells}
    stay = {renamed.cells.get(cell, cell) for cell in there}
    fresh = tuple(cell for cell in now if cell not in stay)
    gone = tuple(cell.id for cell in before.cells if renamed.cells.get(cell.id, cell.id) not in now)
    hidden = store.manifest.get(HIDDEN, {})
    back = {
        cell: hidden[cell]["file"]
        for cell in fresh
        if cell in hidden and hidden[cell]["identity"] == digest(of_cell(new, now[cell]))
    }
    return Growth(before, study, new, fresh, gone, back, renamed)


def _has_sampled(store: Store) -> bool:
    """Whether there are chips that serve the mean alone."""
    there = store.table(["cell", "seed"])
    return there is not None and bool((there["seed"].to_numpy() >= FIRST_SAMPLED).any())


def of_cell(identity: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """All that the trials of one cell depend on, seeds apart."""
    others = (_labels(identity) - {cell.model}) | (_subjects(identity) - {cell.subject})
    others |= {key_of(label) for label in sets_of(identity) if label != cell.dataset}
    said: dict[str, Any] = {"root_seed": identity["root_seed"], "cell": identity["cells"].get(cell.id)}
    for part in identity.keys() - {"root_seed", "cells"}:
        said[part] = {key: entry for key, entry in identity[part].items() if key.removeprefix(_MODEL) not in others}
    own = files_in(said["cell"] or ())
    said[_FILES] = {key: entry for key, entry in said[_FILES].items() if named_in(key) in {None, *own}}
    return said


@dataclass(frozen=True)
class _Change:
    part: str
    key: str
    before: Any  # None where it is not there
    after: Any

    def __str__(self) -> str:
        nouns = {
            _FILES: "",
            "plugins": "plugin ",
            CODE: "file ",
            "measures": "measure ",
            "cells": "cell ",
            "root_seed": "",
        }
        noun = nouns.get(self.part, f"{self.part} of ")
        if self.after is None:
            return f"{noun}{self.key} is gone"
        if self.before is None:
            return f"{noun}{self.key} is new"
        return f"{noun}{self.key} was {_short(self.before)}, is {_short(self.after)}"


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[_Change]:
    """What differs, cells last, which may be many."""
    if old["root_seed"] != new["root_seed"]:
        yield _Change("root_seed", "root_seed", old["root_seed"], new["root_seed"])
    for part in sorted(dict.fromkeys([*old, *new]), key=lambda part: part == "cells"):
        if part == "root_seed":
            continue
        before, after = old.get(part, {}), new.get(part, {})
        for key in dict.fromkeys([*before, *after]):
            if before.get(key) != after.get(key):
                yield _Change(part, key, before.get(key), after.get(key))


def _is_growth(change: _Change, of_some: set[str], plain: bool) -> bool:
    """Whether no trial of a cell that both studies have depends on it.

    `of_some` are the files that no such cell needs; `plain` says that none has a plugin's transform. The code of a
    network is part of what its digest is of.
    """
    if change.before is not None and change.after is not None:
        return named_in(change.key) is not None and change.key in of_some
    if change.part == "plugins":
        return plain
    return change.part in ("cells", CODE) or {change.key, f"{_MODEL}{change.key}"} & of_some != set()


def _labels(identity: Mapping[str, Any]) -> set[str]:
    return {name.removeprefix(_MODEL) for name in identity[_FILES] if name.startswith(_MODEL)}


def _subjects(identity: Mapping[str, Any]) -> set[str]:
    return {subject(model, label) for model in _labels(identity) for label in sets_of(identity)}


def _listed(changes: list[_Change]) -> str:
    lines = [f"  {change}" for change in changes]
    return "\n".join(lines if len(lines) <= 12 else [*lines[:11], f"  … and {len(lines) - 11} more differences"])


def _short(value: object) -> str:
    return f"{value[:12]}…" if isinstance(value, str) else str(value)
