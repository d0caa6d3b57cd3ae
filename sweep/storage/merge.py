"""Few files of many shards, at the end of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sweep.errors import StoreError
from sweep.storage.order import Ints, repeated
from sweep.storage.shards import TRIALS, Shard, commit
from sweep.storage.store import Store

ROWS = 250_000  # of a merged file, some MiB; in memory 50 MiB
MANY = 512  # small files, from which on they become one while a run goes on
PASSES = 16  # over all shards, at most, to gather what goes into merged files


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
        order = _Order.of(store, cells)
        if order is None:
            return
        if order.repeats:
            store.table(("cell", "seed"))  # raises where two of the same differ
        named = order.names(study_digest)
        if order.shards == set(named):
            store.save()
            return
        new = [commit(store.folder, part, study_digest, name) for name, part in order.files(store, named)]
        whole = len(new) == len(named) and _read_back(store, new, study_digest, order.shards)
        done = whole and store.replace(order.shards, new)
    store.clean()


def gather(store: Store, study_digest: str, cells: Sequence[str], many: int = MANY) -> None:
    """Make one file of the small ones, while a run goes on, where there are more than `many`.

    So the manifest, which is written every few seconds, does not grow with every shard of the past, and neither does
    the folder. What is listed is taken, in the way of `merge`, which puts all in order in the end. Where another driver
    has replaced some of it meanwhile, all is left as it is until the next time.
    """
    small = {name for name, shard in store.shards.items() if shard.rows < ROWS // 2}
    if len(small) <= many:
        return
    if sum(store.shards[name].rows for name in small) <= ROWS:  # all at once, each read once
        found = store.each_shard(lambda shard, table: (shard.name, table), small)
        if {name for name, _ in found} != small:
            return
        table = pa.concat_tables([table for _, table in found])
        again = repeated(table["cell"], table["seed"])
        named = parts(table.filter(pa.array(~again)), study_digest, cells)
        names, files, repeats = list(named), iter(named.items()), bool(again.any())
    else:
        order = _Order.of(store, cells, small)
        if order is None or order.shards != small:
            return
        names, repeats = order.names(study_digest), order.repeats
        files = order.files(store, names)
    if repeats:
        store.table(("cell", "seed"))  # raises where two of the same differ
    new = [commit(store.folder, part, study_digest, name) for name, part in files]
    if len(new) == len(names) and _read_back(store, new, study_digest, small):
        store.replace(small, new)
    store.clean()


class _Order:
    """Where each trial of a run goes, when all are sorted: some bytes a trial, of which the rows are read later on."""

    def __init__(self, cells: Sequence[str], keys: Mapping[str, tuple[Ints, Ints]]) -> None:
        """Of the trials of each shard, by its name: their cells, as positions in `cells`, and their seeds."""
        which, seeds = (np.concatenate(parts) for parts in zip(*keys.values(), strict=True))
        order = np.lexsort((seeds, which))
        which, seeds = which[order], seeds[order]
        first = np.ones(len(order), bool)
        first[1:] = (which[1:] != which[:-1]) | (seeds[1:] != seeds[:-1])
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.where(first, np.cumsum(first) - 1, -1)  # the first of two counts
        ends = np.cumsum([len(numbers) for _, numbers in keys.values()])[:-1]
        self._ranks = dict(zip(keys, np.split(ranks, ends), strict=True))
        self._cells, self._which, self._seeds = cells, which[first], seeds[first]
        self.repeats = not first.all()
        self._starts = range(0, len(self._seeds), ROWS)

    @classmethod
    def of(cls, store: Store, cells: Sequence[str], among: Collection[str] | None = None) -> _Order | None:
        """That of all trials of a store, or of those `among` some shards; None where there are none."""
        known = pa.array(cells, pa.string())

        def key(shard: Shard, table: pa.Table) -> tuple[str, tuple[Ints, Ints]]:
            which = pc.index_in(table["cell"], value_set=known).combine_chunks()
            if which.null_count:
                raise StoreError(
                    f"{store.folder.uri}/{TRIALS}/{shard.name}: has trials of a cell that the study has not"
                )
            return shard.name, (which.to_numpy(), table["seed"].to_numpy())

        keys = dict(store.each_shard(key, among))
        return cls(cells, keys) if keys else None

    @property
    def shards(self) -> set[str]:
        """Names of those that it is of."""
        return set(self._ranks)

    def names(self, study_digest: str) -> list[str]:
        """Of the files, each a function of the study and of its trials."""
        found = []
        for number, start in enumerate(self._starts):
            which, seeds = (of[start : start + ROWS].tolist() for of in (self._which, self._seeds))
            found.append(_name(number, study_digest, [self._cells[i] for i in which], seeds))
        return found

    def files(self, store: Store, names: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
        """The trials of each file, by its name. A few files at a time, so that all shards are read `PASSES` times.

        Ends early where another driver has replaced shards.
        """
        several = -(-len(names) // PASSES)
        for begin in range(0, len(names), several):
            low, high = begin * ROWS, (begin + several) * ROWS
            within = partial(self._within, low=low, high=high)
            found = store.each_shard(within, self.shards)
            if {name for name, _, _ in found} != self.shards:
                return
            ranks = np.concatenate([places for _, places, _ in found])
            rows = pa.concat_tables([table for _, _, table in found]).take(np.argsort(ranks))
            del found
            for number in range(begin, min(begin + several, len(names))):
                yield names[number], rows.slice(number * ROWS - low, ROWS).combine_chunks()

    def _within(self, shard: Shard, table: pa.Table, low: int, high: int) -> tuple[str, Ints, pa.Table]:
        """A shard's trials of some places, and these."""
        ranks = self._ranks[shard.name]
        chosen = np.flatnonzero((ranks >= low) & (ranks < high))
        return shard.name, ranks[chosen], table.take(chosen)


def _read_back(store: Store, new: Iterable[Shard], study_digest: str, old: Collection[str]) -> bool:
    """Whether merged files are as they were written.

    False where another driver has listed the same ones instead of the `old` ones, and merged them further meanwhile;
    raises StoreError otherwise.
    """
    try:
        for shard in new:
            store.read(shard, study_digest)
    except StoreError:
        store.load()
        if store.shards.keys() >= set(old):
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
        named[_name(number, study_digest, part["cell"].to_pylist(), part["seed"].to_pylist())] = part
    return named


def _name(number: int, study_digest: str, cells: Sequence[str], seeds: Sequence[int]) -> str:
    text = repr((study_digest, list(zip(cells, seeds, strict=True))))
    return f"merged-{number:03d}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.parquet"
