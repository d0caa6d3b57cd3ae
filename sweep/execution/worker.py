"""What a task does: load once per process, perturb, evaluate, commit a shard."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf, prod
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from sweep.data.datasets import Dataset
from sweep.data.measures import ACCURACY, column, further, measure_of
from sweep.engine.budget import Budget
from sweep.errors import (
    InputError,
    NodeError,
    NondeterminismError,
    StoreError,
    SweepError,
    TaskError,
)
from sweep.execution import sampled
from sweep.execution.controlled import Controlled, fit, none_of
from sweep.execution.devices import CPU
from sweep.execution.hosts import check_versions, here
from sweep.execution.job import Job, Outcome, unpacked
from sweep.execution.kept import Evaluators, kept
from sweep.execution.plan import FACTORS, FEW, SURVEY, WHOLE, Chunk
from sweep.execution.travel import Travelling
from sweep.networks.backend import FOR_GPUS, LIBRARIES, library, use
from sweep.networks.feeding import fed_shape
from sweep.perturb.perturbation import KEPT_WEIGHTS, block_of
from sweep.perturb.shared import Shared
from sweep.preparation.chips import entries, recalibration_of, varied
from sweep.preparation.inputs import ModelFile
from sweep.preparation.sites import sites_of
from sweep.randomness import FIRST_SAMPLED
from sweep.scripts import place_of
from sweep.statistics.sampling import Design
from sweep.storage.paths import AccessError, Folder
from sweep.storage.schema import trial_table, values_of
from sweep.storage.shards import commit
from sweep.storage.surveys import Survey
from sweep.study.family import Cell
from sweep.study.paths import MANIFEST
from sweep.study.plugins import own_measure

if TYPE_CHECKING:  # TensorFlow is for the workers alone
    from sweep.engine.evaluator import Evaluator
    from sweep.engine.looks import Looks
    from sweep.engine.sites import Entry, Site
    from sweep.networks.loading import Network

_KEPT_NETWORKS = 2
_FORMS = 3  # of all images, as float32, that one of them may hold
_KEPT_REFERENCES = 6
_KEPT_DESIGNS = 64
_REACH_SECONDS = 300.0  # until a run folder that was out of reach is tried again
_interrupted = False
_out_of_reach: dict[str, float] = {}  # run folders, each with when to try it again
_budgets: OrderedDict[int, Budget] = OrderedDict()
_designs: OrderedDict[tuple[str, str], Design] = OrderedDict()
_shared: OrderedDict[Any, Any] = OrderedDict()
_networks: OrderedDict[str, Network] = OrderedDict()  # one process serves many chunks
_evaluators = Evaluators()
_expectations: OrderedDict[tuple[object, ...], tuple[Mapping[str, float], Mapping[_Kind, float]]] = OrderedDict()


@dataclass(frozen=True)
class _Kind:
    """What trials have in common that can share passes: `varied` variables, `sites`, images of a `block`."""

    varied: tuple[int, ...]
    sites: tuple[Site, ...]
    block: int | None


class _Late(BaseException):
    """The deadline has passed; no handler of ordinary errors is to take it for one."""


def run_chunk(job: Job, model: ModelFile, dataset: Dataset, chunk: Chunk) -> Outcome:
    """Evaluate the trials of a chunk and commit them as one shard, or leave that to the driver.

    Raises VersionError when the versions here are not the driver's: counts could differ between workers.
    """
    _use(job)
    check_versions(job.versions)
    with threadpool_limits(job.threads, user_api="blas"):  # as in Ray: of NumPy's small products, more make no haste
        if chunk.kind == SURVEY:
            return _survey(job, model, dataset, chunk)
        table, notes = evaluate_chunk(job, model, dataset, chunk)
    done = tuple(zip(table["cell"].to_pylist(), table["seed"].to_pylist(), strict=True))
    counts = list(zip(table["n_correct"].to_pylist(), table["n_images"].to_pylist(), strict=True))
    seconds = float(pc.sum(table["seconds"]).as_py())
    values = values_of(table, column(job.measures[0])).tolist()
    found = Outcome(chunk, seconds, here(), done, counts, values, notes=notes)
    return _committed(job, table, found)


def _committed(job: Job, table: pa.Table, found: Outcome) -> Outcome:
    """An outcome with its shard, or with its rows for the driver to commit, where the run folder is out of reach here.

    That is a local folder on another machine, where nothing or another run is at its path, and a folder that this
    machine may not use: it lacks the credentials of a store, a way to it, or the library, or may not write. It is asked
    again after a while.
    """
    if not job.folder or time.monotonic() < _out_of_reach.get(job.folder, -inf):
        return replace(found, table=table)
    folder = Folder(job.folder)
    try:
        manifest = folder.read(MANIFEST)
        if manifest is None or job.run.encode() not in manifest:
            return replace(found, table=table)
        return replace(found, shard=commit(folder, table, job.study_digest, found.chunk.shard_name(job.study_digest)))
    except NondeterminismError:
        raise
    except (InputError, StoreError) as error:  # where the driver cannot either, it says so
        _out_of_reach[job.folder] = time.monotonic() + _REACH_SECONDS
        reason = error.reason if isinstance(error, AccessError) else str(error)
        note = f"worker on {found.host['host']}: cannot write to the run folder: {reason}; the driver writes for it"
        return replace(found, table=table, notes=(*found.notes, note))


def run_shared(shared: Sequence[Any], get: Callable[[Any], Any], chunk: Chunk) -> Outcome:
    """As `run_in_time`, with references to job, model and dataset, each got once in this process."""

    def arrived(reference: Any) -> Any:
        found = get(reference)
        return found.arrived(get) if isinstance(found, Travelling) else found

    job, model, dataset = (kept(_shared, given, _KEPT_REFERENCES, partial(arrived, given)) for given in shared)
    return run_in_time(job, model, dataset, chunk)


def portable(error: Exception) -> Exception:
    """An error that can be read in a process that knows nothing but this package and its dependencies."""
    if isinstance(error, SweepError):
        return error
    kind = NodeError if isinstance(error, ImportError) else TaskError  # the driver could import it
    where = place_of(error)
    return kind(f"{where}: " * bool(where) + f"{type(error).__name__}: {error}")


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


def evaluate_chunk(job: Job, model: ModelFile, dataset: Dataset, chunk: Chunk) -> tuple[pa.Table, tuple[str, ...]]:
    """One row for each trial of a chunk, and what the user should know."""
    tables: list[pa.Table] = []
    notes: list[str] = []
    for kind, trials, evaluator in _alike(job, model, dataset, chunk):
        if chunk.kind == FEW and job.survey is not None and len(dataset) >= sampled.FEWEST:
            tables.append(_few(job, evaluator, kind, trials))
        else:
            rows, counted = list(_evaluate(job, evaluator, kind, trials)), ACCURACY.name in job.measures
            tables.append(trial_table(rows, job.columns, further(job.measures), counted))
        notes += evaluator.notes
        evaluator.notes = []
    return pa.concat_tables(tables), tuple(notes)


def _survey(job: Job, model: ModelFile, dataset: Dataset, chunk: Chunk) -> Outcome:
    """A part of the survey; what it found is committed by the driver."""
    begun = time.perf_counter()
    found = Survey()
    notes: list[str] = []
    for kind, trials, evaluator in _alike(job, model, dataset, chunk):
        see = partial(_see, job, evaluator, kind, integrate=False)
        for cell, what in trials:
            if what == FACTORS:
                found |= Survey(controls=fit(job, evaluator, cell))
                continue
            shared = Shared()
            chips = (next(_entries(job, evaluator, cell, seed, shared)) for seed in sampled.PILOT_SEEDS)
            margins = evaluator.margins(sampled.typical(chips, evaluator.weights), kind.varied, kind.block)
            found |= sampled.pilot(job, cell, margins, see)
            if evaluator.weight_errors(cell.transforms) is None:
                found |= Survey(controls=none_of(cell))
        notes += evaluator.notes
        evaluator.notes = []
    seconds = time.perf_counter() - begun
    return Outcome(chunk, seconds, here(), chunk.trials, notes=tuple(notes), survey=found)


def _few(job: Job, evaluator: Evaluator, kind: _Kind, trials: list[tuple[Cell, int]]) -> pa.Table:
    """Rows of chips on few images each."""
    assert job.survey is not None
    designs = {}
    for cell in {cell.id: cell for cell, _ in trials}.values():
        key, make = (job.survey.digest, cell.id), partial(sampled.design_of, job.survey, cell, evaluator.labels)
        designs[cell.id] = kept(_designs, key, _KEPT_DESIGNS, make)
    said = {"engine": evaluator.sees_by(kind.varied, kind.block)}
    said |= {name: text for name, text in here().items() if name in ("host", "device")}
    controlled = Controlled(job.survey.controls, evaluator, trials)
    see = partial(_see, job, evaluator, kind, watch=controlled.watch)
    return sampled.evaluate(job, trials, designs, see, controlled, said)


def _see(
    job: Job,
    evaluator: Evaluator,
    kind: _Kind,
    trials: Sequence[tuple[Cell, int]],
    images: npt.NDArray[np.int64],
    integrate: bool = True,
    watch: Callable[[Iterator[Iterator[Sequence[Entry]]]], Iterator[Iterator[Sequence[Entry]]]] = iter,
) -> Looks:
    shared = Shared()
    cells = {cell.id: cell for cell, _ in trials}.values()
    laws = {cell.id: evaluator.law(cell.transforms) if integrate else None for cell in cells}
    given = (_entries(job, evaluator, cell, seed, shared) for cell, seed in trials)
    return evaluator.see(watch(given), images, kind.varied, kind.block, [laws[cell.id] for cell, _ in trials])


def _alike(
    job: Job, model: ModelFile, dataset: Dataset, chunk: Chunk
) -> Iterator[tuple[_Kind, list[tuple[Cell, int]], Evaluator]]:
    """The trials of a chunk by what they have in common, each with what evaluates them."""
    network = kept(_networks, model.key, _KEPT_NETWORKS, partial(_load, job, model))
    _check_device(job)
    from sweep.engine.evaluator import Evaluator  # once Keras is there, quietly

    groups: dict[_Kind, list[tuple[Cell, int]]] = {}
    kinds: dict[str, _Kind] = {}
    for cell_id, seed in chunk.trials:
        if cell_id not in kinds:
            kinds[cell_id] = _kind(job, network, cell_id)
        groups.setdefault(kinds[cell_id], []).append((job.cells[cell_id], seed))
    for kind, trials in groups.items():
        how = (job.engine, kind.sites, job.rescale)
        own = job.own_measures
        measures = [own_measure(n, own[n]) if n in own else measure_of(n) for n in further(job.measures)]
        key = (network.key, dataset.digest, *how, tuple(job.measures), *own.values())
        budget = kept(_budgets, job.memory, 1, partial(Budget, job.memory))
        make = partial(Evaluator, network, dataset, *how, measures, budget)
        size = 4 * _FORMS * len(dataset) * prod(fed_shape(network, dataset))
        evaluator = _evaluators.of(key, size, job.memory, make)
        many = chunk.kind != WHOLE or not job.expected
        evaluator.backend(kind.varied, kind.block, inf if many else _expected(job, network, chunk).get(kind, inf))
        yield kind, trials, evaluator


def _kind(job: Job, network: Network, cell: str) -> _Kind:
    one = job.cells[cell]
    return _Kind(varied(one, network.variables), sites_of(job.flow.get(cell, ())), block_of(one.transforms))


def _expected(job: Job, network: Network, chunk: Chunk) -> Mapping[_Kind, float]:
    """How many trials of each kind, on all images, this worker has probably to do with a network and a test set."""
    place = chunk.model, chunk.dataset

    def sums() -> tuple[Mapping[str, float], Mapping[_Kind, float]]:
        found: dict[_Kind, float] = {}
        for cell, trials in job.expected.items():
            if (job.cells[cell].model, job.cells[cell].dataset) == place:
                kind = _kind(job, network, cell)
                found[kind] = found.get(kind, 0.0) + trials
        return job.expected, found  # kept together, so that no other mapping gets this one's id

    return kept(_expectations, (id(job.expected), place), _KEPT_NETWORKS, sums)[1]


def _evaluate(job: Job, evaluator: Evaluator, kind: _Kind, trials: list[tuple[Cell, int]]) -> Iterator[dict[str, Any]]:
    host = here()
    backend = evaluator.backend(kind.varied, kind.block)
    small = sum(weight.size for weight in evaluator.weights) <= KEPT_WEIGHTS
    shared = Shared() if small else None
    for start in range(0, len(trials), backend.trials):
        part = trials[start : start + backend.trials]
        begun = time.perf_counter()
        given = [_entries(job, evaluator, cell, seed, shared) for cell, seed in part]
        counts = evaluator.count(given, kind.varied, kind.block)
        seconds = (time.perf_counter() - begun) / len(part)
        for (cell, seed), (correct, nonfinite, values) in zip(part, counts, strict=True):
            accuracy = None if correct is None else correct / evaluator.images
            estimated = seed >= FIRST_SAMPLED and accuracy is not None
            yield {
                "model": cell.model,
                "family": cell.family,
                "cell": cell.id,
                **cell.values,
                "seed": seed,
                "n_images": evaluator.images,
                "n_correct": correct,
                "accuracy": accuracy,
                "n_nonfinite": nonfinite,
                **({"estimate": accuracy, "half_difference": 0.0} if estimated else {}),
                **dict(zip(further(job.measures), values, strict=True)),
                "seconds": seconds,
                "host": host["host"],
                "device": host["device"],
                "engine": backend.name,
            }


def _entries(
    job: Job, evaluator: Evaluator, cell: Cell, seed: int, shared: Shared | None = None
) -> Iterator[list[Entry]]:
    network, placed = evaluator.network, job.flow.get(cell.id, ())
    anew = recalibration_of(cell, network, placed, job.calibration, job.rescale)
    return entries(cell, evaluator.weights, network.variables, placed, job.root_seed, seed, shared, anew)


def take_over(networks: Sequence[Network], threads: int, gpus: bool) -> None:
    """Evaluate with networks that this process has loaded and asked already: of more than are kept, with the first."""
    if networks:
        _configure(threads, gpus)
    for network in networks[:_KEPT_NETWORKS]:
        kept(_networks, network.key, _KEPT_NETWORKS, lambda network=network: network)  # type: ignore[misc]


def _configure(threads: int, gpus: bool) -> None:
    from sweep.engine import tensors

    tensors.configure(threads, gpus=gpus)


def _load(job: Job, model: ModelFile) -> Network:
    from sweep.networks.loading import load_network_bytes

    _configure(job.threads, job.device != CPU)
    _check_device(job)  # before anything is computed
    return load_network_bytes(model.content.tobytes(), model.suffix, job.trust, model.code, ends=model.ends)


def _use(job: Job) -> None:
    """Have Keras use the library of the run; NodeError where that is not to be had here."""
    try:
        if job.backend:
            use(job.backend)
    except InputError as reason:
        raise NodeError(str(reason)) from None


def _check_device(job: Job) -> None:
    """Raise NodeError where this process evaluates on another kind of device than the run: two never mix unasked."""
    from sweep.engine import tensors

    here = tensors.device()
    if not job.device or here == job.device:
        return
    name = LIBRARIES[library()]
    if here != CPU:
        raise NodeError(f"{name} uses a GPU there, and this run is on CPUs; --device mixed takes both")
    raise NodeError(
        f"{name} sees no GPU, though {job.gpus:g} of one was given to the task; install its CUDA libraries "
        f"there (pip install '{FOR_GPUS[library()]}') and NVIDIA's driver, or run on CPUs: --device cpu"
    )
