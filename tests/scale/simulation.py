"""The driver's own code against a simulated clock; `python -m tests.scale.simulation` prints docs/scale.md's table.

Real are the loop of the driver, the lengths of chunks, the cutting, the store with its manifest and its merges, and the
progress; simulated are Ray, workers and the folder, which is in memory. The clock goes on by the processor time that
the driver takes, and by what the others would take. Commits of workers are done while the clock stands.
"""

from __future__ import annotations

import heapq
import io
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from sweep.execution import driver, progress, pulse
from sweep.execution.job import Job, Outcome
from sweep.execution.means import Means
from sweep.execution.plan import Chunk, Cutter, wanted
from sweep.storage import manifest
from sweep.storage.paths import Folder
from sweep.storage.schema import trial_columns
from sweep.storage.shards import commit
from sweep.storage.store import Store
from sweep.study.study import Study

RAY_TASKS = 570.0
"""Tasks a second that one driver gets started, in the release tests of Ray ("many tasks", 10,000 tasks)."""
RAY_DRIVER = 0.0009
"""Seconds of the driver's processor that Ray takes to submit one task and to read what it gives; measured."""
TASK = 0.02
"""Seconds of a worker that a task takes beside its trials: to read the chunk, write the shard, answer; measured."""
IMAGES = 10_000
MOST = 20_000  # trials a second that are simulated
DIGEST = "d" * 64


class Clock:
    """Seconds that go on with this process's processor time, unless it stands; what asking takes is left out."""

    def __init__(self) -> None:
        begun = time.process_time()
        for _ in range(1000):
            time.process_time()
        self._asking = (time.process_time() - begun) / 1000
        self._at, self._since, self._asked = 0.0, time.process_time(), 0
        self.busy = 0.0

    def monotonic(self) -> float:
        self._asked += 1
        return self._at + max(0.0, time.process_time() - self._since - self._asked * self._asking)

    def stand(self) -> float:
        """Stop; returns the time."""
        now = self.monotonic()
        self.busy += now - self._at
        self._at = now
        return now

    def go(self, at: float) -> None:
        """Go on from a time."""
        self._at, self._since, self._asked = at, time.process_time(), 0


class Memory:
    """Files in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def read(self, name: str, most: int = 0) -> bytes | None:
        return self.files.get(name)

    def write(self, name: str, content: bytes) -> None:
        self.files[name] = content

    def create(self, name: str, content: bytes) -> bool:
        return self.files.setdefault(name, content) is content

    def update(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        self.files[name] = change(self.files.get(name))

    def remove(self, name: str) -> None:
        self.files.pop(name, None)

    def names(self, under: str) -> list[str]:
        return sorted(name.removeprefix(f"{under}/") for name in self.files if name.startswith(f"{under}/"))


@dataclass
class Workers:
    """A runner of so many workers, each of whose trials takes `seconds`; `write` more for a shard."""

    clock: Clock
    folder: Folder
    job: Job
    slots: int
    seconds: float
    write: float
    nodes: Collection[str] = ()
    dashboard: str = ""
    work: float = 0.0
    tasks: int = 0
    trials: int = 0
    _started: float = 0.0  # when Ray has started what was submitted last
    _free: list[float] = field(default_factory=list)
    _running: list[tuple[float, int, Chunk]] = field(default_factory=list)

    @property
    def pending(self) -> int:
        return len(self._running)

    def avoid(self, nodes: frozenset[str]) -> None:
        pass

    def submit(self, chunk: Chunk, among: frozenset[str] = frozenset()) -> None:
        now = self.clock.stand()
        self._started = max(self._started, now) + 1 / RAY_TASKS
        free = heapq.heappop(self._free) if len(self._free) == self.slots else 0.0
        took = len(chunk.trials) * self.seconds
        end = max(self._started, free) + took + TASK + self.write
        heapq.heappush(self._free, end)
        self.work += took
        self.tasks += 1
        self.trials += len(chunk.trials)
        heapq.heappush(self._running, (end, self.tasks, chunk))
        self.clock.go(now)

    def wait(self, seconds: float) -> Outcome | None:
        now = self.clock.stand()
        if not self._running or self._running[0][0] > now + seconds:
            self.clock.go(now + seconds)
            return None
        end, _, chunk = heapq.heappop(self._running)
        found = self._outcome(chunk)
        self.clock.go(max(now, end) + RAY_DRIVER)
        return found

    def _outcome(self, chunk: Chunk) -> Outcome:
        names = [cell for cell, _ in chunk.trials]
        cells = list(dict.fromkeys(names))
        correct = np.full(len(names), IMAGES - 1, np.int32)
        table = trial_columns(
            [self.job.cells[cell] for cell in cells],
            np.array([cells.index(name) for name in names]),
            self.job.columns,
            seed=np.array([seed for _, seed in chunk.trials]),
            n_images=np.full(len(names), IMAGES, np.int32),
            n_correct=correct,
            accuracy=correct / IMAGES,
            n_nonfinite=np.zeros(len(names), np.int32),
            seconds=np.full(len(names), self.seconds),
            **{"host": "h", "device": "CPU", "engine": "compiled"},
        )
        shard = commit(self.folder, table, DIGEST, chunk.shard_name(DIGEST))
        took, counts = len(names) * self.seconds, [(IMAGES - 1, IMAGES)] * len(names)
        return Outcome(chunk, took, {"host": "h"}, chunk.trials, counts, (correct / IMAGES).tolist(), shard=shard)


def simulate(workers: int, seconds: float, write: float = 0.01, rounds: int = 6, cells: int = 20) -> dict[str, float]:
    """One run: so many workers, seconds a trial and for writing a shard, about so many chunks each.

    Returns the seconds of the driver's processor for a task, the part of the time that it is busy, the part of their
    time in which workers evaluate, tasks a second, seconds of a chunk, bytes of the manifest in the end, all but the
    first two from when the first round is done.
    """
    seeds = max(1, int(rounds * workers * max(5.0, workers / 50) / seconds / cells))
    scales = [round(0.001 * (i + 1), 3) for i in range(cells)]
    family = {"name": "noise", "perturb": [{"op": "gaussian", "scale": scales}]}
    study = Study.from_dict({"name": "s", "model": "m.h5", "dataset": "d.npz", "seeds": seeds, "family": [family]})
    clock, folder = Clock(), Folder("memory")
    vars(folder)["_place"] = Memory()
    job = Job(folder.uri, DIGEST, 0, study.columns, {cell.id: cell for cell in study.cells})
    store = Store(folder.uri)
    store.folder = folder
    prepared: Any = SimpleNamespace(study=study, dataset=range(IMAGES), chance={"m": 0.1})
    patched = SimpleNamespace(monotonic=clock.monotonic)
    clock.stand()
    with (
        patch.object(driver, "time", patched),
        patch.object(progress, "time", patched),
        patch.object(manifest, "time", patched),
        patch.object(pulse, "time", patched),
    ):
        clock.go(0.0)
        clock.busy = 0.0
        store.save(study_digest=DIGEST)
        runner: Any = Workers(clock, folder, job, workers, seconds, write)
        ran = driver._Sweep(prepared, store, runner, job)
        ran._means = Means(study, {})
        todo = wanted(study)
        ran._loop(Cutter(study, todo), progress.Progress(list(job.cells), 0, len(todo), io.StringIO()))
        took = clock.stand()
    return {
        "driver": clock.busy / runner.tasks + RAY_DRIVER,
        "busy": (clock.busy + RAY_DRIVER * runner.tasks) / took,
        "used": runner.work / (workers * took),
        "tasks": runner.tasks / took,
        "chunk": runner.work / runner.tasks,
        "manifest": float(len(folder.read("manifest.json") or b"")),
    }


def main() -> None:
    """Print the table, for the seconds of a trial that are given, or some."""
    each = [float(text) for text in sys.argv[1:]] or [0.05, 5.0]
    print(
        "| s a trial | workers | chunk, s | tasks/s | driver, ms a task | driver busy | workers evaluate | manifest |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for seconds in each:
        for workers in (10, 100, 1_000, 10_000):
            if workers / seconds > MOST:
                continue  # hundreds of millions of trials
            found = simulate(workers, seconds, rounds=6 if workers < 10_000 else 3)
            print(
                f"| {seconds:g} | {workers:,} | {found['chunk']:.1f} | {found['tasks']:.1f} "
                f"| {1000 * found['driver']:.1f} | {100 * found['busy']:.1f} % | {100 * found['used']:.0f} % "
                f"| {found['manifest'] / 1024:.0f} KiB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
