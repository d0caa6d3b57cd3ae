"""Committing, crashing, resuming, merging and repairing in any order, by several drivers: nothing lost or twice."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sweep.storage.store import Store
from tests.storage.crashes import Crash, Files
from tests.storage.rows import CELLS, COLUMNS, DIGEST, committed, gathered, merged, row

LONG = "SWEEP_LONG" in os.environ
SEEDS = 5
ALL = [(cell, seed) for cell in CELLS for seed in range(SEEDS)]
CHUNKS = st.tuples(st.integers(0, len(ALL) - 1), st.integers(1, 3)).map(lambda cut: ALL[cut[0] : cut[0] + cut[1]])
DRIVERS = st.integers(0, 2)


class Drivers(RuleBasedStateMachine):
    """Three drivers on one run folder.

    Attributes:
        kept: trials that a commit has returned, and that no damage has taken since.
        perhaps: trials of commits that died; they may be there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.files = Files()
        self.watching = self.files.watched()
        self.watching.__enter__()
        self.kept: set[tuple[str, int]] = set()
        self.perhaps: set[tuple[str, int]] = set()
        self.drivers: dict[int, Store] = {}

    @initialize()
    def begin(self) -> None:
        Store(self.place).save(study_digest=DIGEST)

    def driver(self, number: int) -> Store:
        """A driver that goes on, or starts as `sweep run` does."""
        if number not in self.drivers:
            store = Store.open(self.place)
            store.adopt(DIGEST, COLUMNS)
            store.save()
            store.table()
            self.drivers[number] = store
        return self.drivers[number]

    @rule(number=DRIVERS, trials=CHUNKS)
    def commit(self, number: int, trials: list[tuple[str, int]]) -> None:
        store = self.driver(number)
        store.add(committed(store, trials, seconds=float(number)))
        self.kept |= set(trials)

    @rule(number=DRIVERS)
    def save(self, number: int) -> None:
        self.driver(number).save()

    @rule(number=DRIVERS)
    def merge(self, number: int) -> None:
        merged(self.driver(number))

    @rule(number=DRIVERS)
    def gather(self, number: int) -> None:
        gathered(self.driver(number))

    @rule(number=DRIVERS)
    def tidy(self, number: int) -> None:
        self.driver(number).tidy()

    @rule(
        number=DRIVERS,
        what=st.sampled_from(["start", "commit", "merge", "merge", "gather"]),
        trials=CHUNKS,
        at=st.integers(1, 90),
    )
    def crash(self, number: int, what: str, trials: list[tuple[str, int]], at: int) -> None:
        """A driver dies at one of its operations on files, or is stopped when it has done all."""
        self.perhaps |= set(trials) if what == "commit" else set()
        if what == "start":
            self.drivers.pop(number, None)
        elif number not in self.drivers:
            return
        self.files.last = self.files.done + at
        try:
            store = self.driver(number)
            if what == "commit":
                committed(store, trials)
                store.save()
            elif what == "merge":
                merged(store)
                store.tidy()
            elif what == "gather":
                gathered(store)
        except Crash:
            pass
        finally:
            self.files.last = None
            self.drivers.pop(number, None)

    @rule(
        pair=st.permutations(range(3)),
        at=st.integers(0, 90),
        trials=CHUNKS,
        what=st.sampled_from(["merge", "gather", "commit", "save"]),
        own=st.sampled_from([merged, gathered]),
    )
    def meanwhile(
        self, pair: list[int], at: int, trials: list[tuple[str, int]], what: str, own: Callable[[Store], None]
    ) -> None:
        """Between two operations of a driver that merges, another one does something."""
        first, second = self.driver(pair[0]), self.driver(pair[1])
        start = self.files.done

        def act(done: int) -> None:
            nonlocal start
            if done - start < at:
                return
            start = 1 << 60
            if what == "commit":
                second.add(committed(second, trials, seconds=7.0))
                self.kept.update(trials)
            elif what == "merge":
                merged(second)
            elif what == "gather":
                gathered(second)
            else:
                second.save()

        self.files.before = act
        try:
            own(first)
        finally:
            self.files.before = None

    @precondition(lambda self: Store.open(self.place).shards)
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        """A file is cut or changed: found, and set aside with its trials; those that other files hold stay."""
        self.drivers.clear()
        store = self.driver(0)
        name = data.draw(st.sampled_from(sorted(store.shards)))
        path = self.place / "trials" / name
        content = bytearray(path.read_bytes())
        position = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[position] ^= 1 << data.draw(st.integers(0, 7))
        else:
            del content[position:]
        path.write_bytes(content)
        assert list(store.damaged(DIGEST)) == [name]
        store.set_aside([name])
        assert store.damaged(DIGEST) == {}
        store.adopt(DIGEST, COLUMNS)  # what a merged file has replaced, if its driver died before removing it
        table = store.table()
        self.kept = (
            set() if table is None else set(zip(table["cell"].to_pylist(), table["seed"].to_pylist(), strict=True))
        )
        self.perhaps.clear()
        del self.drivers[0]

    @invariant()
    def nothing_is_lost_and_nothing_twice(self) -> None:
        listed = Store.open(self.place)
        check(listed, set(), self.kept | self.perhaps)  # as a reader sees it
        listed.adopt(DIGEST, COLUMNS)
        check(listed, self.kept, self.kept | self.perhaps)

    def teardown(self) -> None:
        """A last driver finishes the study."""
        try:
            store = self.driver(9)
            table = store.table()
            there = (
                [] if table is None else list(zip(table["cell"].to_pylist(), table["seed"].to_pylist(), strict=True))
            )
            missing = [trial for trial in ALL if trial not in there]
            if missing:
                store.add(committed(store, missing))
            merged(store)
            store.tidy()
            frame = pd.read_parquet(self.place / "trials")
            assert list(zip(frame["cell"], frame["seed"], strict=True)) == ALL
            left = sorted(path.name for path in self.place.rglob("*") if path.is_file() and "damaged" not in path.parts)
            assert len(left) == 2, left
        finally:
            self.watching.__exit__(None, None, None)
            shutil.rmtree(self.place)


def check(store: Store, least: set[tuple[str, int]], most: set[tuple[str, int]]) -> None:
    table = store.table()
    found = [] if table is None else table.select(["cell", "seed", "n_correct"]).to_pylist()
    keys = [(one["cell"], one["seed"]) for one in found]
    assert len(keys) == len(set(keys))
    assert least <= set(keys) <= most
    assert all(one["n_correct"] == row(one["cell"], one["seed"])["n_correct"] for one in found)


TestDrivers = Drivers.TestCase
TestDrivers.settings = settings(
    max_examples=1000 if LONG else 50,
    stateful_step_count=20 if LONG else 12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
