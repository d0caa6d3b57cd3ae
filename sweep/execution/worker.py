"""What a task does: load once per process, perturb, evaluate, commit a shard."""

from __future__ import annotations

import faulthandler
import os
import platform
import signal
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from sweep.data.datasets import Dataset
from sweep.errors import NodeError, SweepError, TaskError, VersionError
from sweep.execution.job import Job, Outcome, unpacked
from sweep.execution.plan import Chunk
from sweep.perturb.perturbation import block_of, reached, reads
from sweep.preparation.inputs import ModelFile
from sweep.preparation.sites import Placed, sites_of
from sweep.storage.paths import Folder
from sweep.storage.schema import trial_table
from sweep.storage.shards import commit
from sweep.study.family import Cell
from sweep.study.paths import MANIFEST

if TYPE_CHECKING:  # TensorFlow is for the workers alone
    from sweep.engine.evaluator import Evaluator
    from sweep.engine.sites import Entry, Site
    from sweep.networks.loading import Network


K = TypeVar("K")
V = TypeVar("V")

_KEPT_NETWORKS = 2
_KEPT_EVALUATORS = 4
_KEPT_REFERENCES = 6
_interrupted = False
_shared: OrderedDict[Any, Any] = OrderedDict()
_networks: OrderedDict[str, Network] = OrderedDict()  # one process serves many chunks
_evaluators: OrderedDict[tuple[object, ...], Evaluator] = OrderedDict()


@dataclass(frozen=True)
class _Kind:
    """What trials have in common that can share passes: `varied` variables, `sites`, images of a `block`."""

    varied: tuple[int, ...]
    sites: tuple[Site, ...]
    block: int | None


class _Late(BaseException):
    """The deadline has passed; no handler of ordinary errors is to take it for one."""


def run_chunk(job: Job, model: ModelFile, dataset: Dataset, chunk: Chunk) -> Outcome:
    """Evaluate the trials of a chunk and commit them as one shard.

    Raises VersionError when the versions here are not the driver's: counts could differ between workers.
    """
    _check_versions(job)
    rows, notes = evaluate_chunk(job, model, dataset, chunk)
    seconds = sum(row["seconds"] for row in rows)
    table, host = trial_table(rows, job.columns), _host()
    done = tuple((row["cell"], row["seed"]) for row in rows)
    counts = [(row["n_correct"], row["n_images"]) for row in rows]
    folder = Folder(job.folder)
    if folder.read(MANIFEST) is None:  # a local folder on another machine
        return Outcome(chunk, seconds, host, done, counts, notes, table=table)
    shard = commit(folder, table, job.study_digest, chunk.shard_name(job.study_digest))
    return Outcome(chunk, seconds, host, done, counts, notes, shard=shard)


def run_shared(shared: Sequence[Any], get: Callable[[Any], Any], chunk: Chunk) -> Outcome:
    """As `run_in_time`, with references to job, model and dataset, each got once in this process."""
    job, model, dataset = (_kept(_shared, reference, _KEPT_REFERENCES, partial(get, reference)) for reference in shared)
    return run_in_time(job, model, dataset, chunk)


def _kept(latest: OrderedDict[K, V], key: K, most: int, make: Callable[[], V]) -> V:
    """What was made for a key, or is made now; the latest few are kept, and room is made for a new one before."""
    if key not in latest:
        while len(latest) >= most:
            latest.popitem(last=False)
        latest[key] = make()
    latest.move_to_end(key)
    return latest[key]


def portable(error: Exception) -> Exception:
    """An error that can be read in a process that knows nothing but this package and its dependencies."""
    if isinstance(error, SweepError):
        return error
    kind = NodeError if isinstance(error, ImportError) else TaskError  # the driver could import it
    return kind(f"{type(error).__name__}: {error}")


def run_in_time(job: Job, model: ModelFile, dataset: Dataset, chunk: Chunk) -> Outcome:
    """As `run_chunk`, in a process of its own.

    Raises TimeoutError when the chunk takes longer than the job allows; a process that cannot be interrupted ends
    itself after twice that time. One that was interrupted, who knows where, ends itself when it is used again, and Ray
    runs that chunk elsewhere.
    """
    global _interrupted
    if _interrupted:
        os._exit(1)

    def late(number: int, frame: object) -> NoReturn:  # noqa: ARG001
        global _interrupted
        _interrupted = True
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, job.deadline)
    faulthandler.dump_traceback_later(2 * job.deadline, exit=True)
    try:
        try:
            return run_chunk(unpacked(job), model, dataset, chunk)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            faulthandler.cancel_dump_traceback_later()
    except _Late:
        raise TimeoutError(f"took longer than {job.deadline:g} s") from None


def evaluate_chunk(
    job: Job, model: ModelFile, dataset: Dataset, chunk: Chunk
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """One row for each trial of a chunk, and what the user should know."""
    network = _kept(_networks, model.digest, _KEPT_NETWORKS, partial(_load, job, model))
    from sweep.engine.evaluator import Evaluator  # once Keras is there, quietly

    host = _host()
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for kind, trials in _alike(job, network, chunk).items():
        how = (job.engine, kind.sites, job.rescale)
        key, make = (network.digest, dataset.digest, *how), partial(Evaluator, network, dataset, *how)
        evaluator = _kept(_evaluators, key, _KEPT_EVALUATORS, make)
        rows += _evaluate(job, evaluator, kind, trials, host)
        notes += evaluator.notes
        evaluator.notes = []
    return rows, tuple(notes)


def _alike(job: Job, network: Network, chunk: Chunk) -> dict[_Kind, list[tuple[Cell, int]]]:
    """The trials of a chunk by what they have in common."""
    groups: dict[_Kind, list[tuple[Cell, int]]] = {}
    for cell_id, seed in chunk.trials:
        cell = job.cells[cell_id]
        varied = reached(network.variables, cell.transforms)
        kind = _Kind(varied, sites_of(job.flow.get(cell_id, ())), block_of(cell.transforms))
        groups.setdefault(kind, []).append((cell, seed))
    return groups


def _evaluate(
    job: Job, evaluator: Evaluator, kind: _Kind, trials: list[tuple[Cell, int]], host: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    backend = evaluator.backend(kind.varied, kind.block)
    for start in range(0, len(trials), backend.trials):
        part = trials[start : start + backend.trials]
        begun = time.perf_counter()
        entries = [_entries(job, evaluator, cell, seed) for cell, seed in part]
        counts = evaluator.count(entries, kind.varied, kind.block)
        seconds = (time.perf_counter() - begun) / len(part)
        for (cell, seed), (correct, nonfinite) in zip(part, counts, strict=True):
            yield {
                "model": cell.model,
                "family": cell.family,
                "cell": cell.id,
                **cell.values,
                "seed": seed,
                "n_images": evaluator.images,
                "n_correct": correct,
                "accuracy": correct / evaluator.images,
                "n_nonfinite": nonfinite,
                "seconds": seconds,
                "host": host["host"],
                "device": host["device"],
                "engine": backend.name,
            }


def _entries(job: Job, evaluator: Evaluator, cell: Cell, seed: int) -> Iterator[list[Entry]]:
    """What a trial evaluates, block after block: its weights, then what it has for the sites."""
    placed: tuple[Placed, ...] = job.flow.get(cell.id, ())
    flow = [p.entry(job.root_seed, seed) for p in placed]
    for weights in reads(evaluator.weights, evaluator.network.variables, cell.transforms, job.root_seed, seed):
        yield [*weights, *flow]


def _load(job: Job, model: ModelFile) -> Network:
    from sweep.engine import tf_ops
    from sweep.networks.loading import load_network_bytes

    tf_ops.configure(job.threads)
    if job.gpus and tf_ops.device() != "GPU":
        raise NodeError(
            f"TensorFlow sees no GPU, though {job.gpus:g} of one was given to the task; install its CUDA libraries "
            "there (pip install 'noisesweep[gpu]') and NVIDIA's driver, or leave --gpus out"
        )
    return load_network_bytes(model.content.tobytes(), model.suffix, job.trust)


def versions() -> dict[str, str]:
    """Of the packages that results depend on."""
    return {name: version(name) for name in ("tensorflow", "keras", "numpy")}


def _check_versions(job: Job) -> None:
    here = versions()
    differ = [f"{name} {there} there, {here[name]} here" for name, there in job.versions.items() if here[name] != there]
    if differ:
        where = f"worker on {platform.node()}: versions differ from the driver's"
        raise VersionError(f"{where}: {', '.join(differ)}; install the same everywhere")


def _host() -> dict[str, str]:
    from sweep.engine import tf_ops

    return {
        "host": platform.node(),
        "device": tf_ops.device(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **versions(),
    }
