"""Several processes on one card, as tasks that each ask for a share of it."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

from sweep.bench.fixed import Fixed
from sweep.bench.gpu.task import Task
from sweep.bench.gpu.ways import Way, stacked

LOADED = 300.0  # seconds until all processes are ready, at most


def rate(way: Way, model: Path, data: Path, processes: int, seconds: float) -> float:
    """Trials a second, draws included, of so many processes, each for so long; of those that do not fail."""
    spawn = multiprocessing.get_context("spawn")
    ready, found = spawn.Barrier(processes), spawn.SimpleQueue()
    started = [
        spawn.Process(target=_share, args=(number, way, model, data, seconds, ready, found))
        for number in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    return float(sum(found.get() for process in started if process.exitcode == 0))


def _share(number: int, way: Way, model: Path, data: Path, seconds: float, ready: Any, found: Any) -> None:
    task = Task.of(model, data)
    backend = stacked(way, task)
    fixed = Fixed(task.network, task.dataset, backend)
    first = number * 10**6
    fixed.correct(task.draws(range(first, first + backend.trials)), task.varied)
    ready.wait(LOADED)
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        fixed.correct(task.draws(range(first + done, first + done + backend.trials)), task.varied)
        done += backend.trials
    found.put(done / (time.perf_counter() - begun))
