"""Few files of many shards, at the end of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from sweep.errors import StoreError
from sweep.storage.shards import Shard, commit
from sweep.storage.store import Store

ROWS = 1_000_000  # of a merged file, some tens of MiB


def merge(store: Store, study_digest: str, columns: Mapping[str, type], cells: Sequence[str]) -> None:
    """Replace all shards of a run by as few files as hold them, each trial once.

    Trials are in the order of `cells`, then of seeds, and a file's name is a function of the study and of its trials:
    whoever merges the same trials makes the same files. Merged files are published and read back, then listed instead
    of the shards, then the shards removed; whatever is interrupted in between, the next call goes on from there, and so
    does a second driver that does the same at the same time.

    Raises StoreError when shards cannot be read or written, or contradict each other.
    """
    done = False
    while not done:  # another driver may be faster
        store.adopt(study_digest, columns)
        store.clean()
        table = store.table()
        if table is None:
            return
        old, named = set(store.shards), parts(table, study_digest, cells)
        if old == named.keys():
            store.save()
            return
        new = [commit(store.folder, part, study_digest, name) for name, part in named.items()]
        done = _read_back(store, new, study_digest, old) and store.replace(old, new)
    store.clean()


def _read_back(store: Store, new: Iterable[Shard], study_digest: str, old: Collection[str]) -> bool:
    """Whether merged files are as they were written.

    False where another driver has listed the same ones and merged them further meanwhile; raises StoreError otherwise.
    """
    try:
        for shard in new:
            store.read(shard, study_digest)
    except StoreError:
        store.load()
        if store.shards.keys() == old:
            raise
        return False
    return True


def parts(table: pa.Table, study_digest: str, cells: Sequence[str]) -> dict[str, pa.Table]:
    """The trials in order, cut into files, by name: a function of the study and of the trials."""
    order = pc.index_in(table["cell"], value_set=pa.array(cells, pa.string()))
    keys = pa.table({"order": order, "seed": table["seed"]})
    rows = table.take(pc.sort_indices(keys, [("order", "ascending"), ("seed", "ascending")]))
    named = {}
    for number, start in enumerate(range(0, rows.num_rows, ROWS)):
        part = rows.slice(start, ROWS).combine_chunks()
        trials = zip(part["cell"].to_pylist(), part["seed"].to_pylist(), strict=True)
        digest = hashlib.sha256(repr((study_digest, list(trials))).encode()).hexdigest()
        named[f"merged-{number:03d}-{digest[:24]}.parquet"] = part
    return named
