"""What a task does: load once per process, perturb, evaluate, commit a shard."""

from __future__ import annotations

import platform
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sweep.execution.plan import Chunk, Trial
from sweep.networks.datasets import Dataset
from sweep.perturb.perturbation import perturb, reached
from sweep.storage.paths import Folder
from sweep.storage.schema import trial_table
from sweep.storage.store import MANIFEST, Shard, commit
from sweep.study import Cell

if TYPE_CHECKING:  # TensorFlow is for the workers alone
    from sweep.engine.evaluator import Evaluator


@dataclass(frozen=True)
class Job:
    """What the tasks of one run share.

    `study_digest` and `root_seed` are the study's; `columns` its swept parameters; `threads` goes to TensorFlow;
    `engine` forces a way to evaluate.
    """

    folder: str
    study_digest: str
    root_seed: int
    columns: Mapping[str, type]
    cells: Mapping[str, Cell]
    threads: int = 1
    engine: str | None = None


@dataclass(frozen=True)
class ModelFile:
    """A network as it travels: the file's bytes as a uint8 array, which workers read without a copy."""

    content: npt.NDArray[np.uint8]
    suffix: str
    digest: str


@dataclass(frozen=True)
class Outcome:
    """What a task reports.

    Attributes:
        chunk: what it was given.
        seconds: of perturbing and evaluating.
        host: where, and with which versions.
        trials: in the order of the shard's rows.
        counts: (correct, images) of each trial.
        notes: what the user should know once.
        shard: what it committed.
        table: the rows, where the run folder was out of its reach: the driver commits them.
        error: why there are no rows.
    """

    chunk: Chunk
    seconds: float = 0.0
    host: Mapping[str, str] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    counts: Sequence[tuple[int, int]] = ()
    notes: tuple[str, ...] = ()
    shard: Shard | None = None
    table: pa.Table | None = None
    error: str | None = None


_KEPT = 2
_evaluators: OrderedDict[tuple[str, str, str | None], Evaluator] = OrderedDict()  # one process serves many chunks


def run_chunk(job: Job, model: ModelFile, dataset: Dataset, chunk: Chunk) -> Outcome:
    """Evaluate the trials of a chunk and commit them as one shard."""
    evaluator = _evaluator(job, model, dataset)
    host = _host()
    started = time.perf_counter()
    rows = [row for trials in _alike(job, evaluator, chunk) for row in _evaluate(job, evaluator, trials, host)]
    seconds = time.perf_counter() - started
    table = trial_table(rows, job.columns)
    trials = tuple((row["cell"], row["seed"]) for row in rows)
    counts = [(row["n_correct"], row["n_images"]) for row in rows]
    notes, evaluator.notes = tuple(evaluator.notes), []
    folder = Folder(job.folder)
    if folder.read(MANIFEST) is None:  # a local folder on another machine
        return Outcome(chunk, seconds, host, trials, counts, notes, table=table)
    shard = commit(folder, table, job.study_digest, chunk.shard_name(job.study_digest))
    return Outcome(chunk, seconds, host, trials, counts, notes, shard=shard)


def _alike(job: Job, evaluator: Evaluator, chunk: Chunk) -> list[list[tuple[Cell, int]]]:
    """The trials of a chunk, those together that perturb the same variables and so can share passes."""
    variables = evaluator.network.variables
    groups: dict[tuple[int, ...], list[tuple[Cell, int]]] = {}
    for cell_id, seed in chunk.trials:
        cell = job.cells[cell_id]
        groups.setdefault(reached(variables, cell.transforms), []).append((cell, seed))
    return list(groups.values())


def _evaluate(
    job: Job, evaluator: Evaluator, trials: list[tuple[Cell, int]], host: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    variables = evaluator.network.variables
    varied = reached(variables, trials[0][0].transforms)
    way = evaluator.way(varied)
    for start in range(0, len(trials), way.trials):
        part = trials[start : start + way.trials]
        begun = time.perf_counter()
        weights = [perturb(evaluator.weights, variables, c.transforms, job.root_seed, s) for c, s in part]
        counts = evaluator.correct(weights, varied)
        seconds = (time.perf_counter() - begun) / len(part)
        for (cell, seed), correct in zip(part, counts, strict=True):
            yield {
                "model": cell.model,
                "family": cell.family,
                "cell": cell.id,
                **cell.values,
                "seed": seed,
                "n_images": evaluator.images,
                "n_correct": correct,
                "accuracy": correct / evaluator.images,
                "seconds": seconds,
                "host": host["host"],
                "device": host["device"],
                "engine": way.name,
            }


def _evaluator(job: Job, model: ModelFile, dataset: Dataset) -> Evaluator:
    from sweep.engine import tf_ops
    from sweep.engine.evaluator import Evaluator
    from sweep.networks.loading import load_network_bytes

    key = (model.digest, dataset.digest, job.engine)
    if key not in _evaluators:
        tf_ops.configure(job.threads)
        while len(_evaluators) >= _KEPT:
            _evaluators.popitem(last=False)
        network = load_network_bytes(model.content.tobytes(), model.suffix)
        _evaluators[key] = Evaluator(network, dataset, job.engine)
    _evaluators.move_to_end(key)
    return _evaluators[key]


def _host() -> dict[str, str]:
    from sweep.engine import tf_ops

    return {
        "host": platform.node(),
        "device": tf_ops.device(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("tensorflow", "keras", "numpy")},
    }
