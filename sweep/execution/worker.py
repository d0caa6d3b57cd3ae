"""What a task does: load once per process, perturb, evaluate, commit a shard."""

from __future__ import annotations

import faulthandler
import os
import platform
import signal
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import pyarrow as pa

from sweep.data.datasets import Dataset
from sweep.errors import NodeError, SweepError, TaskError, VersionError
from sweep.execution.plan import DEADLINE_SECONDS, Chunk, Trial
from sweep.perturb.base import REGISTRY
from sweep.perturb.perturbation import block_of, reached, reads
from sweep.preparation.inputs import ModelFile, Prepared
from sweep.preparation.sites import Flow, Placed, sites_of
from sweep.storage.paths import Folder
from sweep.storage.schema import trial_table
from sweep.storage.shards import Shard, commit
from sweep.study.family import Cell
from sweep.study.paths import MANIFEST
from sweep.study.plugins import Plugin, loaded, ops_of, run_plugins

if TYPE_CHECKING:  # TensorFlow is for the workers alone
    from sweep.engine.evaluator import Evaluator
    from sweep.engine.sites import Entry, Site
    from sweep.networks.loading import Network


@dataclass(frozen=True)
class Job:
    """What the tasks of one run share.

    `study_digest` and `root_seed` are the study's; `columns` its swept parameters; `flow` says what acts on the data
    flow of a cell; `threads` goes to TensorFlow; `engine` forces a way to evaluate; `versions` are the driver's, and a
    worker with others refuses to work; `deadline` is in seconds, for one chunk; `trust` loads model files
    unchecked; `rescale` is the study's; `plugins` are the files of a user's own transforms, which a worker runs before
    it meets these; `gpus` is what each task was given, of which a worker must see something.
    """

    folder: str
    study_digest: str
    root_seed: int
    columns: Mapping[str, type]
    cells: Mapping[str, Cell]
    flow: Flow = field(default_factory=dict)
    threads: int = 1
    engine: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    deadline: float = DEADLINE_SECONDS
    trust: bool = False
    rescale: str | None = None
    plugins: tuple[Plugin, ...] = ()
    gpus: float = 0.0

    @classmethod
    def of(cls, prepared: Prepared, folder: str = "", **how: Any) -> Job:
        """That of a study: all that its results depend on, and `how` the tasks work."""
        study = prepared.study
        return cls(
            folder=folder,
            study_digest=prepared.digest,
            root_seed=study.root_seed,
            columns=study.columns,
            cells={cell.id: cell for cell in study.cells},
            flow=prepared.flow,
            trust=prepared.trusted,
            rescale=study.rescale,
            plugins=loaded(study.plugin_digests.values()),
            **how,
        )


@dataclass(frozen=True)
class _Packed:
    """A user's own transform on its way to a process that has yet to run its plugin."""

    op: str
    values: Mapping[str, Any]


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
        error: why there are no rows, when there are none.
        node: of a cluster, by its id.
    """

    chunk: Chunk
    seconds: float = 0.0
    host: Mapping[str, str] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    counts: Sequence[tuple[int, int]] = ()
    notes: tuple[str, ...] = ()
    shard: Shard | None = None
    table: pa.Table | None = None
    error: Exception | None = None
    node: str = ""


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


def packed(job: Job) -> Job:
    """As it travels to other processes: they can read it before they have run its plugins."""
    own = ops_of(job.plugins)

    def small(transform: Any) -> Any:
        return _Packed(transform.op, vars(transform)) if transform.op in own else transform

    return _with_transforms(job, small) if own else job


def _unpacked(job: Job) -> Job:
    """With its transforms, once its plugins have run here; InputError when these fail."""
    if not job.plugins:
        return job
    run_plugins(job.plugins)

    def whole(transform: Any) -> Any:
        if not isinstance(transform, _Packed):
            return transform
        made: Any = object.__new__(REGISTRY[transform.op])  # its values have been checked
        vars(made).update(transform.values)
        return made

    return _with_transforms(job, whole)


def _with_transforms(job: Job, change: Callable[[Any], Any]) -> Job:
    cells = {i: replace(cell, transforms=tuple(map(change, cell.transforms))) for i, cell in job.cells.items()}
    return replace(job, cells=cells)


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
            return run_chunk(_unpacked(job), model, dataset, chunk)
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
