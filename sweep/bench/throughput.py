"""Trials a second through workers that have all been started, and the memory that these take."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

from sweep.engine.choice import CPU_STACKS
from sweep.errors import TaskError
from sweep.execution.job import Job, Outcome
from sweep.execution.plan import Chunk
from sweep.execution.runner import Runner
from sweep.preparation.inputs import Prepared
from sweep.storage.store import Store

CHUNKS = 4  # that a worker finishes in the time of one measurement
PATIENCE = 1.0  # s, between two looks at the workers


class Throughput:
    """Runs trials of a study's cells on a runner for some time, and tells how many a second.

    Tasks do all that they do in a run: perturb, evaluate, commit a shard.

    Attributes:
        slots: tasks at a time.
        notes: what workers said.
    """

    def __init__(self, prepared: Prepared, runner: Runner, folder: str | Path) -> None:
        """Makes a run folder in `folder`; the runner has been entered."""
        study = prepared.study
        self._digest, self._columns = prepared.digest, study.columns
        self._cells = {cell.id: cell for cell in study.cells}
        self._store = Store(folder)
        self._store.save(name=study.name)
        job = Job.of(prepared, self._store.folder.uri)
        self._runner = runner
        self._runner.start(job, prepared.models, prepared.datasets)
        self._seeds = {cell: itertools.count() for cell in self._cells}
        self._batch: dict[str, int] = {}  # trials that are best run together,
        self._seconds: dict[str, float] = {}  # and what they take
        self.slots = runner.slots
        self.notes: list[str] = []

    def warm_up(self, cell: str) -> int:
        """Let every worker load, choose and compile; returns the correct count of seed 0."""
        first = self._all(cell, 1)
        correct = {trial: count for o in first for trial, (count, _) in zip(o.trials, o.counts, strict=True)}
        # A stacked pass takes as long with one trial as when it is full.
        self._batch[cell] = max(CPU_STACKS)[0] if self.engine(cell) == "stacked" else 1
        self._seconds[cell] = max(outcome.seconds for outcome in self._all(cell, self._batch[cell]))
        return correct[cell, 0] or 0

    def rate(self, cell: str, workers: int, seconds: float) -> float:
        """Trials a second on so many workers, from when they are all busy, for so long."""
        size = self._batch[cell] * max(1, round(seconds / CHUNKS / self._seconds[cell]))
        pending = workers + (workers == self.slots)  # one lies ready, unless another worker would take it
        for _ in range(pending):
            self._submit(cell, size)
        self._wait()
        start = time.perf_counter()
        end = start + seconds
        trials = 0.0
        while self._runner.pending or time.perf_counter() < end:
            while time.perf_counter() < end and self._runner.pending < pending:
                self._submit(cell, size)
            outcome = self._wait()
            # Its trials are spread evenly over the time that they took; those inside the window count.
            now = time.perf_counter()
            inside = min(now, end) - max(now - outcome.seconds, start)
            trials += len(outcome.trials) * max(0.0, inside) / outcome.seconds
        return trials / seconds

    def engine(self, cell: str) -> str:
        """How the workers evaluate a cell."""
        self._store.adopt(self._digest, self._columns)
        table = self._store.table()
        assert table is not None
        rows = zip(table["cell"].to_pylist(), table["engine"].to_pylist(), strict=True)
        return " and ".join(sorted({engine for where, engine in rows if where == cell}))

    def _all(self, cell: str, trials: int) -> list[Outcome]:
        """One task of so many trials for each slot."""
        for _ in range(self.slots):
            self._submit(cell, trials)
        return [self._wait() for _ in range(self.slots)]

    def _submit(self, cell: str, trials: int) -> None:
        seeds = itertools.islice(self._seeds[cell], trials)
        self._runner.submit(Chunk(self._cells[cell].model, tuple((cell, seed) for seed in seeds)))

    def _wait(self) -> Outcome:
        while (outcome := self._runner.wait(PATIENCE)) is None:
            pass
        if outcome.error:
            raise TaskError(f"a worker failed: {outcome.error}")
        self.notes += [note for note in outcome.notes if note not in self.notes]
        return outcome


def peak_of_workers() -> int | None:
    """The most memory (bytes, resident) that a living Ray worker below this process has held; None if untold."""
    parents: dict[int, int] = {}
    peaks: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            title = (folder / "cmdline").read_bytes()
        except (OSError, ValueError):  # it has ended
            continue
        parents[int(folder.name)] = int(status["PPid"])
        if title.startswith(b"ray::") and "VmHWM" in status:
            peaks[int(folder.name)] = 1024 * int(status["VmHWM"].split()[0])
    own = [peak for worker, peak in peaks.items() if os.getpid() in _ancestors(worker, parents)]
    return max(own, default=None)


def _ancestors(process: int, parents: dict[int, int]) -> list[int]:
    found = []
    while process := parents.get(process, 0):
        found.append(process)
    return found
