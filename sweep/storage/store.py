"""A run folder: shards of trials, the manifest that lists them, and what readers get."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa

from sweep.errors import InputError, StoreError
from sweep.storage.drivers import RUNNING
from sweep.storage.listing import Listing
from sweep.storage.order import frame_of, once, repeated
from sweep.storage.parallel import THREADS, each
from sweep.storage.schema import Expected, trial_schema
from sweep.storage.shards import REMEDY, TRIALS, Shard, check_study, parse, unlisted
from sweep.study.paths import MANIFEST
from sweep.study.plugins import FOLDER
from sweep.study.study import Study

RESOLVED = "resolved.parquet"
DAMAGED = "damaged"
HIDDEN = "hidden"  # the folder of trials of cells that the study does not have; in the manifest, their cells
FIGURES = "figures"
REPORT = "report.html"
AT_A_TIME = 2  # shards of a disk, which take memory and wait for nothing
PAUSES = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0)  # s, in which another driver strikes off what it removed

T = TypeVar("T")


class Store(Listing):
    """The run folder of one study.

    Readers trust the manifest. A shard that is there but not in it (the driver died between the two) is taken
    in by `adopt` when it belongs to this study.
    """

    def __init__(self, place: str | Path) -> None:
        super().__init__(place)
        self._expected: Expected | None = None

    @classmethod
    def open(cls, place: str | Path) -> Store:
        """An existing run; raises InputError when there is none."""
        store = cls(place)
        if not store.load():
            raise InputError(f"{place}: is not a run folder: it has no {MANIFEST}")
        return store

    def expect(self, study: Study) -> None:
        """From now on, refuse shards of trials that the study cannot have."""
        self._expected = Expected(study)

    def adopt(self, study_digest: str, columns: Mapping[str, type], clear: bool = True) -> int:
        """Take in shards that no manifest lists; returns how many.

        Those of what the study was before, or was about to become, are removed, or left where not to be `clear`ed.
        """
        self.load()
        adopted = 0
        others: dict[str, str] = {}
        names = self._unlisted()
        schema = trial_schema(columns) if self._expected is None else self._expected.schema
        for name, (table, said) in zip(
            names, each(partial(self._unlisted_table, study_digest=study_digest), names), strict=True
        ):
            if table is None:
                others |= {name: said} if said else {}
                continue
            if not table.schema.equals(schema):
                raise StoreError(f"{self.folder.uri}/{TRIALS}/{name}: has other columns than this study; move it away")
            self.add(Shard(name, table.num_rows, said))
            adopted += 1
        if others and clear:
            self._remove(others)
        return adopted

    def _remove(self, others: Mapping[str, str]) -> None:
        """Remove shards of other studies, whose digests are given by name.

        Another driver may be about to make the run that of such a study, with these very shards. So the manifest says
        first that they are doomed: `become` either is written before, and they stay, or sees it, and lists others.
        """

        def change() -> None:
            of = self.manifest.get("others", [])
            doomed = {name for name, study in others.items() if study in of and name not in self.shards}
            self.manifest["doomed"] = sorted({*self.manifest.get("doomed", []), *doomed})

        self._update(change)
        self.clean()

    def _unlisted(self) -> list[str]:
        known = {*self.shards, *self.manifest.get("replaced", []), *self.manifest.get("doomed", [])}
        return [name for name in self.folder.names(TRIALS) if name.endswith(".parquet") and name not in known]

    def _unlisted_table(self, name: str, study_digest: str) -> tuple[pa.Table | None, str]:
        """A shard's content and checksum.

        No content when another driver has removed it, or the study was another, whose digest is given then.
        """
        content = self.folder.read(f"{TRIALS}/{name}")
        if content is None:
            return None, ""
        others = self.manifest.get("others", [])
        return unlisted(content, f"{self.folder.uri}/{TRIALS}/{name}", study_digest, others, self._expected)

    def replace(self, old: Collection[str], new: Iterable[Shard]) -> bool:
        """List new shards, which hold the same trials, instead of old ones.

        `clean` then removes the old ones. False, and nothing replaced, when another driver has replaced some of them.
        """
        shards = {shard.name: shard for shard in new}
        done = alone = False

        def change() -> None:
            nonlocal done, alone
            alone = self.manifest.get("generation", 0) == self._begun
            replaced = set(self.manifest.get("replaced", []))
            done = self.shards.keys() >= set(old) and not replaced & shards.keys()
            done = done and (alone or all(map(self._is_there, shards.values())))  # or merged further, and removed
            if done:
                kept = {name: shard for name, shard in self.shards.items() if name not in old}
                self._sign()
                self.manifest["replaced"] = sorted(replaced | (set(old) - shards.keys()))
                self.shards = kept | shards

        self._update(change)
        if done and alone:
            self._begun = self.manifest["generation"]  # no other has replaced anything of what is added from now on
        return done

    def announce(self, study_digest: str) -> None:
        """Say of what study the run may become that: until it has, shards of it are passed over, and removed."""

        def change() -> None:
            others = {*self.manifest.get("others", []), study_digest}
            self.manifest["others"] = sorted(others - {self.manifest["study_digest"]})

        self._update(change)

    def become(self, old: Collection[str], new: Iterable[Shard], study_digest: str, **entries: Any) -> bool:
        """Make the run that of another study, as `entries` say, whose trials are in new shards.

        These have names that no others had nor will have. `clean` then removes the old ones. False, and nothing
        changed, where others than the old ones are listed by now, or one of the new ones is not there, or not for long.
        """
        shards = {shard.name: shard for shard in new}
        done, signed = all(each(self._is_there, shards.values())), uuid.uuid4().hex

        def change() -> None:
            nonlocal done
            done = self.manifest.get("grown") == signed
            if done:  # a store's reply was lost, and others have written since
                self.shards = {name: shard for name, shard in self.shards.items() if name not in self._new}
                return
            if self.manifest["study_digest"] == study_digest:
                raise StoreError(f"{self.folder.uri}: another driver has made it this study's; run yours again")
            going = {*self.manifest.get("doomed", []), *self.manifest.get("replaced", [])}
            done = self.shards.keys() == set(old) and shards.keys() <= {*self.folder.names(TRIALS)} - going
            if done:
                others = {*self.manifest.get("others", []), self.manifest["study_digest"]} - {study_digest}
                self.manifest |= {**entries, "study_digest": study_digest, "others": sorted(others), "grown": signed}
                self._sign()
                self.manifest["replaced"] = sorted({*self.manifest.get("replaced", []), *old} - shards.keys())
                self.shards = shards

        if done:
            self._either = (self.manifest["study_digest"], study_digest)
            try:
                self._update(change)
            finally:
                self._either = ()
        return done

    def clean(self) -> None:
        """Remove the shards that others have replaced, and those that are doomed.

        A store has no locks: before one is removed here, another driver may have removed it too, and a third have
        committed and listed its trials again. It is struck off then, because the file that replaced it holds them.
        """
        removed: set[str] = set()
        alone = False

        def change() -> None:
            nonlocal alone
            alone = self.manifest.get("generation", 0) == self._begun
            self.shards = {n: s for n, s in self.shards.items() if n not in removed or self._is_there(s)}
            gone = {*self.manifest.pop("replaced", []), *self.manifest.pop("doomed", [])}
            list(each(self.folder.remove, [f"{TRIALS}/{name}" for name in sorted(gone)]))
            removed.update(gone)
            self._sign()

        if self.manifest.get("replaced") or self.manifest.get("doomed"):
            self._update(change)
            if alone:
                self._begun = self.manifest["generation"]

    def tidy(self) -> None:
        """Remove what interrupted writes have left."""
        for under in ("", TRIALS, HIDDEN, DAMAGED, FOLDER, FIGURES, RUNNING):
            self.folder.tidy(under)

    def damaged(self, study_digest: str) -> dict[str, str]:
        """Shards that cannot be trusted, listed or not, each with what is wrong; reads every one."""
        before = dict(self.shards)
        names = sorted({*before, *self._unlisted()})
        found = each(lambda name: self._problem(name, before.get(name), study_digest), names)
        problems = {name: problem for name, problem in zip(names, found, strict=True) if problem}
        still = {shard.name for shard in self._still_listed([before[name] for name in problems if name in before])}
        return {n: problem for n, problem in problems.items() if n in still or n not in {*before, *self.shards}}

    def _still_listed(self, wrong: Collection[Shard]) -> list[Shard]:
        """Which of these shards, found missing or damaged, are listed as before.

        Another driver may have merged them or, in an object store, be about to strike them off (`clean`).
        """
        for pause in PAUSES if self.folder.is_remote else PAUSES[:1]:
            time.sleep(pause)
            self.load()
            if not (wrong := [shard for shard in wrong if self.shards.get(shard.name) == shard]):
                break
        return list(wrong)

    def _problem(self, name: str, shard: Shard | None, study_digest: str) -> str | None:
        """What is wrong with a shard, as it is listed or not."""
        try:
            if shard:
                self.read(shard, study_digest)
            else:
                self._unlisted_table(name, study_digest)
        except StoreError as error:
            return str(error)
        return None

    def set_aside(self, names: Iterable[str]) -> None:
        """Move shards out of the way, into the folder `damaged`, and strike them off the manifest.

        Shards that they have replaced, and that are still there, count again: `adopt` takes them in.
        """
        gone = list(names)
        for name in gone:
            self.folder.move(f"{TRIALS}/{name}", f"{DAMAGED}/{name}")

        def change() -> None:
            self.shards = {name: shard for name, shard in self.shards.items() if name not in gone}
            self._sign()
            self.manifest.pop("replaced", None)

        self._update(change)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table | None:
        """All trials that the manifest lists, each (cell, seed) once; None when there are none.

        `columns` are those that are read, in this order; None for all of them.

        Raises StoreError when a shard is missing or differs from what the manifest says, NondeterminismError when it
        contradicts another one.
        """
        tables = self.each_shard(lambda _, table: table if columns is None else table.select(columns))
        if not tables:
            return None
        table = pa.concat_tables(tables)
        again = repeated(table["cell"], table["seed"])
        if not again.any():
            return table
        if columns is not None:
            whole = self.table()
            return None if whole is None else whole.select(columns)
        return once(table, again, self.folder.uri)

    def each_shard(self, work: Callable[[Shard, pa.Table], T], among: Collection[str] | None = None) -> list[T]:
        """What `work` makes of every shard, in the order of their names, without what a file says of itself.

        From the start again when another driver has replaced one meanwhile; `among` are the names of those to read.
        """

        def made(shard: Shard) -> T | StoreError:
            try:
                table = self.read(shard)
            except StoreError as error:
                return error
            return work(shard, table.replace_schema_metadata(None))

        shards = [shard for name, shard in sorted(self.shards.items()) if among is None or name in among]
        found = list(each(made, shards, THREADS if self.folder.is_remote else AT_A_TIME))
        wrong = {shard: error for shard, error in zip(shards, found, strict=True) if isinstance(error, StoreError)}
        if not wrong:
            return [one for one in found if not isinstance(one, StoreError)]
        for shard in self._still_listed(wrong):
            raise wrong[shard]
        return self.each_shard(work, among)

    def trials(self, cells: list[str]) -> pd.DataFrame:
        """One row per trial, in the order of `cells`, then of seeds; columns as in the schema.

        Empty, without columns, when nothing is committed.
        """
        table = self.table()
        if table is None:
            return pd.DataFrame()
        return frame_of(table, cells)

    def read(self, shard: Shard, study_digest: str | None = None) -> pa.Table:
        """The trials of a shard; raises StoreError when it is not what was committed."""
        path = f"{self.folder.uri}/{TRIALS}/{shard.name}"
        content = self.folder.read(f"{TRIALS}/{shard.name}")
        if content is None:
            raise StoreError(f"{path}: is listed in {MANIFEST} but missing; {REMEDY}")
        if hashlib.sha256(content).hexdigest() != shard.sha256:
            raise StoreError(f"{path}: is damaged: its checksum differs from the one in {MANIFEST}; {REMEDY}")
        table = parse(content, path, self._expected)
        if table.num_rows != shard.rows:
            raise StoreError(f"{path}: has {table.num_rows} rows, not {shard.rows} as {MANIFEST} says; {REMEDY}")
        check_study(table, study_digest or self.manifest.get("study_digest"), path)
        return table
