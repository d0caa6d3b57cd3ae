"""What a task does: load once per process, perturb, evaluate, commit a shard."""

from __future__ import annotations

import platform
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sweep.execution.plan import Chunk
from sweep.networks.datasets import Dataset
from sweep.perturb.perturbation import perturb
from sweep.storage.paths import Folder
from sweep.storage.schema import trial_table
from sweep.storage.store import MANIFEST, Shard, commit
from sweep.study import Cell


@dataclass(frozen=True)
class Job:
    """What the tasks of one run share.

    `study_digest` and `root_seed` are the study's; `columns` its swept parameters; `threads` goes to TensorFlow.
    """

    folder: str
    study_digest: str
    root_seed: int
    columns: Mapping[str, type]
    cells: Mapping[str, Cell]
    threads: int = 1


@dataclass(frozen=True)
class ModelFile:
    """A network as it travels: the file's bytes as a uint8 array, which workers read without a copy."""

    content: npt.NDArray[np.uint8]
    suffix: str
    digest: str


@dataclass(frozen=True)
class Outcome:
    """What a task reports. `table` is set where the run folder was out of its reach: the driver commits it."""

    chunk: Chunk
    counts: list[tuple[int, int]]
    seconds: float
    host: dict[str, str]
    shard: Shard | None = None
    table: pa.Table | None = None
    error: str | None = None


_KEPT = 2
_evaluators: OrderedDict[tuple[str, str], Any] = OrderedDict()  # one process serves many chunks


def run_chunk(job: Job, model: ModelFile, dataset: Dataset, chunk: Chunk) -> Outcome:
    """Evaluate the trials of a chunk and commit them as one shard."""
    evaluator = _evaluator(job, model, dataset)
    host = _host()
    started = time.perf_counter()
    rows = []
    for cell_id, seed in chunk.trials:
        begun = time.perf_counter()
        cell = job.cells[cell_id]
        weights = perturb(evaluator.weights, evaluator.network.variables, cell.transforms, job.root_seed, seed)
        correct = evaluator.correct(weights)
        rows.append(
            {
                "model": cell.model,
                "family": cell.family,
                "cell": cell.id,
                **cell.values,
                "seed": seed,
                "n_images": len(dataset),
                "n_correct": correct,
                "accuracy": correct / len(dataset),
                "seconds": time.perf_counter() - begun,
                "host": host["host"],
                "device": host["device"],
                "engine": evaluator.engine,
            }
        )
    seconds = time.perf_counter() - started
    table = trial_table(rows, job.columns)
    counts = [(row["n_correct"], row["n_images"]) for row in rows]
    folder = Folder(job.folder)
    if folder.read(MANIFEST) is None:  # a local folder on another machine
        return Outcome(chunk, counts, seconds, host, table=table)
    shard = commit(folder, table, job.study_digest, chunk.shard_name(job.study_digest))
    return Outcome(chunk, counts, seconds, host, shard=shard)


def _evaluator(job: Job, model: ModelFile, dataset: Dataset) -> Any:
    from sweep.engine.evaluator import Evaluator, configure
    from sweep.networks.loading import load_network_bytes

    key = (model.digest, dataset.digest)
    if key not in _evaluators:
        configure(job.threads)
        while len(_evaluators) >= _KEPT:
            _evaluators.popitem(last=False)
        network = load_network_bytes(model.content.tobytes(), model.suffix)
        _evaluators[key] = Evaluator(network, dataset)
    _evaluators.move_to_end(key)
    return _evaluators[key]


def _host() -> dict[str, str]:
    from sweep.engine.evaluator import device_name

    return {
        "host": platform.node(),
        "device": device_name(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("tensorflow", "keras", "numpy")},
    }
