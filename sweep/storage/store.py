"""A run folder: commit shards of trials, list them in a manifest, read them back."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sweep.errors import InputError, StoreError
from sweep.storage.paths import Folder
from sweep.storage.schema import FORMAT, parquet_bytes, result_columns, trial_schema

TRIALS = "trials"
MANIFEST = "manifest.json"
STUDY = "study.toml"
RESOLVED = "resolved.parquet"
PLUGINS = "plugins"
DAMAGED = "damaged"
REPORT = "report.html"
REMEDY = "`sweep verify RUN --repair` sets it aside, then `sweep run` computes it again"
_STUDY_KEY = b"noisesweep.study"


@dataclass(frozen=True)
class Shard:
    """One committed Parquet file of trials."""

    name: str
    rows: int
    sha256: str


def commit(folder: Folder, table: pa.Table, study_digest: str, name: str) -> Shard:
    """Publish one shard of trials, whole or not at all.

    The study's digest goes into the file, so that a shard from another study is told apart. A shard of that name that
    is there already, from a task that ran twice, stays when its result columns are equal.

    Raises:
        StoreError: it cannot be written, or one of that name has other results.
    """
    content = parquet_bytes(table.replace_schema_metadata({_STUDY_KEY: study_digest.encode()}))
    if folder.publish(f"{TRIALS}/{name}", content):
        return Shard(name, table.num_rows, hashlib.sha256(content).hexdigest())
    path = f"{folder.uri}/{TRIALS}/{name}"
    there = folder.read(f"{TRIALS}/{name}") or b""
    if not _results(_parse(there, path)).equals(_results(table)):
        raise StoreError(
            f"{path}: holds other results than the same trials gave now; the evaluation is not deterministic"
        )
    return Shard(name, table.num_rows, hashlib.sha256(there).hexdigest())


def _results(table: pa.Table) -> pa.Table:
    """What equal shards have in common."""
    plain = table.replace_schema_metadata(None)
    return plain.select(result_columns(plain.schema)).sort_by([("cell", "ascending"), ("seed", "ascending")])


class Store:
    """The run folder of one study.

    Readers trust the manifest. A shard that is there but not in it (the driver died between the two) is taken
    in by `adopt` when it belongs to this study.
    """

    def __init__(self, place: str | Path) -> None:
        self.folder = Folder.at(place)
        self.manifest: dict[str, Any] = {}
        self.shards: dict[str, Shard] = {}

    @classmethod
    def open(cls, place: str | Path) -> Store:
        """An existing run; raises InputError when there is none."""
        store = cls(place)
        if not store.load():
            raise InputError(f"{place}: is not a run folder: it has no {MANIFEST}")
        return store

    def load(self) -> bool:
        """Read the manifest; False when there is none yet."""
        content = self.folder.read(MANIFEST)
        if content is None:
            return False
        try:
            self.manifest = json.loads(content)
            self.shards = {s["name"]: Shard(**s) for s in self.manifest["shards"]}
            version = self.manifest["format"]
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{self.folder.uri}/{MANIFEST}: is damaged") from None
        if version > FORMAT:
            raise StoreError(f"{self.folder.uri}: was written by a newer noisesweep (format {version})")
        return True

    def save(self, **entries: Any) -> None:
        """Write the manifest, with `entries` added to it."""
        self.manifest |= entries
        self.manifest["format"] = FORMAT
        self.manifest["shards"] = [asdict(self.shards[name]) for name in sorted(self.shards)]
        text = json.dumps(self.manifest, indent=1, ensure_ascii=False) + "\n"
        self.folder.write(MANIFEST, text.encode())

    def damaged(self, study_digest: str) -> dict[str, str]:
        """Shards that are listed and cannot be trusted, each with what is wrong; reads every one."""
        problems = {}
        for name, shard in sorted(self.shards.items()):
            try:
                table = self._read(shard)
            except StoreError as error:
                problems[name] = str(error)
                continue
            if (table.schema.metadata or {}).get(_STUDY_KEY) != study_digest.encode():
                problems[name] = f"{self.folder.uri}/{TRIALS}/{name}: belongs to another study"
            elif table.num_rows != shard.rows:
                problems[name] = f"{self.folder.uri}/{TRIALS}/{name}: has {table.num_rows} rows, not {shard.rows}"
        return problems

    def set_aside(self, names: Iterable[str]) -> None:
        """Move shards out of the way, into the folder `damaged`, and strike them off the manifest."""
        for name in names:
            if self.folder.read(f"{TRIALS}/{name}") is not None:
                self.folder.move(f"{TRIALS}/{name}", f"{DAMAGED}/{name}")
            del self.shards[name]
        self.save()

    def add(self, shard: Shard) -> None:
        """Count a shard as committed; `save` makes it last."""
        self.shards[shard.name] = shard

    def adopt(self, study_digest: str, columns: Mapping[str, type]) -> int:
        """Take in shards that no manifest lists; returns how many."""
        found = [n for n in self.folder.names(TRIALS) if n.endswith(".parquet") and n not in self.shards]
        for name in found:
            content = self.folder.read(f"{TRIALS}/{name}") or b""
            table = _parse(content, f"{self.folder.uri}/{TRIALS}/{name}")
            mine = (table.schema.metadata or {}).get(_STUDY_KEY) == study_digest.encode()
            if not mine or not table.schema.equals(trial_schema(columns)):
                raise StoreError(
                    f"{self.folder.uri}/{TRIALS}/{name}: belongs to another study; move it away, then run again"
                )
            self.add(Shard(name, table.num_rows, hashlib.sha256(content).hexdigest()))
        return len(found)

    def table(self) -> pa.Table | None:
        """All trials that the manifest lists, each (cell, seed) once; None when there are none.

        Raises StoreError when a shard is missing, differs from its checksum, or contradicts another one.
        """
        tables = [self._read(shard) for _, shard in sorted(self.shards.items())]
        if not tables:
            return None
        table = pa.concat_tables(tables).replace_schema_metadata(None)
        results = table.select(result_columns(table.schema)).to_pandas()
        again = results.duplicated(["cell", "seed"])
        if again.any():
            if (again != results.duplicated()).any():
                first = results[again & ~results.duplicated()].iloc[0]
                raise StoreError(
                    f"{self.folder.uri}: {first['cell']} at seed {first['seed']} was evaluated twice, "
                    "with different results; the evaluation is not deterministic"
                )
            table = table.filter(pa.array(~again))
        return table

    def trials(self, cells: list[str]) -> pd.DataFrame:
        """One row per trial, in the order of `cells`, then of seeds; columns as in the schema.

        Empty, without columns, when nothing is committed.
        """
        table = self.table()
        if table is None:
            return pd.DataFrame()
        frame: pd.DataFrame = table.to_pandas()
        whole = [f.name for f in table.schema if f.nullable and f.type == pa.int64()]
        frame = frame.astype(dict.fromkeys(whole, "Int64"))  # else NumPy makes 8.0 of 8 bits where some are missing
        order = frame["cell"].map({cell: i for i, cell in enumerate(cells)})
        frame = frame.assign(_order=order).sort_values(["_order", "seed"], kind="stable")
        return frame.drop(columns="_order").reset_index(drop=True)

    def _read(self, shard: Shard) -> pa.Table:
        path = f"{self.folder.uri}/{TRIALS}/{shard.name}"
        content = self.folder.read(f"{TRIALS}/{shard.name}")
        if content is None:
            raise StoreError(f"{path}: is listed in {MANIFEST} but missing; {REMEDY}")
        if hashlib.sha256(content).hexdigest() != shard.sha256:
            raise StoreError(f"{path}: is damaged: its checksum differs from the one in {MANIFEST}; {REMEDY}")
        return _parse(content, path)


def _parse(content: bytes, path: str) -> pa.Table:
    try:
        return pq.read_table(io.BytesIO(content), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path}: is not a readable Parquet file: {error}; {REMEDY}") from None
