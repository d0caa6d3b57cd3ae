"""What the tasks of one run share, and what a task reports; how both travel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from sweep.data.datasets import Dataset
from sweep.data.measures import ACCURACY
from sweep.engine.budget import HELD_BYTES
from sweep.execution.plan import DEADLINE_SECONDS, Chunk
from sweep.execution.trials import Trial
from sweep.perturb.base import REGISTRY
from sweep.preparation.inputs import Prepared
from sweep.preparation.sites import Flow
from sweep.scripts import Script
from sweep.statistics.estimates import Floats
from sweep.storage.shards import Shard
from sweep.storage.surveys import Survey
from sweep.study.family import Cell
from sweep.study.plugins import loaded, ops_of, run_plugins


@dataclass(frozen=True)
class Job:
    """What the tasks of one run share.

    `folder` is that of the run, or empty where the driver commits; `run` is the name in its manifest by which a worker
    knows it from another at the same path of its own machine; `study_digest` and `root_seed` are the study's;
    `columns` its swept parameters; `flow` says what acts on the data flow of a cell; `threads` goes to TensorFlow;
    `engine` forces a way to evaluate; `versions` are the driver's, and a worker with others refuses to work; `deadline`
    is in seconds, for one chunk; `trust` loads model files unchecked; `rescale` and `measures` are the study's;
    `own_measures` are the columns of the user's own among these, with the digests of their files; `plugins` are the
    files of a user's own transforms and measures, which a worker runs before it meets them; `device` is the kind that
    evaluates, CPU or GPU, or empty for what there is, and `gpus` what each task was given; `survey` says how chips that
    serve the mean alone sample the images, all of which they see where it is None; `said` are, of cells whose factors
    are to be found, how many chips are there and what the first of them say; `expected` is how many trials of a cell,
    on all images, a worker has probably to do, and empty where nobody knows; `memory` is in bytes, what a worker may
    take for images; `calibration` are the training images on which chips are recalibrated, if any is; `backend` is the
    library whose tensors Keras uses, or empty for what there is.
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
    measures: Sequence[str] = (ACCURACY.name,)
    own_measures: Mapping[str, str] = field(default_factory=dict)
    plugins: tuple[Script, ...] = ()
    device: str = ""
    gpus: float = 0.0
    survey: Survey | None = None
    said: Mapping[str, tuple[int, Floats]] = field(default_factory=dict)
    expected: Mapping[str, float] = field(default_factory=dict)
    memory: int = HELD_BYTES
    calibration: Dataset | None = None
    backend: str = ""
    run: str = ""

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
            calibration=prepared.calibration if any(cell.recalibrated for cell in study.cells) else None,
            trust=prepared.trusted,
            rescale=study.rescale,
            measures=tuple(study.measures),
            own_measures=study.own_measures,
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
        host: where, and with which versions; of a failure, where and in which file there its process wrote (`log`).
        trials: in the order of the shard's rows.
        counts: (correct, images) of each trial; correct is None where outputs are no classes.
        values: of each trial, what it says of the chip's accuracy: that, or its estimate less its control; or of
            another measure where that comes first.
        survey: what was found, where that was asked for.
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
    counts: Sequence[tuple[int | None, int]] = ()
    values: Sequence[float] = ()
    survey: Survey | None = None
    notes: tuple[str, ...] = ()
    shard: Shard | None = None
    table: pa.Table | None = None
    error: Exception | None = None
    node: str = ""


def packed(job: Job) -> Job:
    """As it travels to other processes: they can read it before they have run its plugins."""
    own = ops_of(job.plugins)

    def small(transform: Any) -> Any:
        return _Packed(transform.op, vars(transform)) if transform.op in own else transform

    return _with_transforms(job, small) if own else job


def unpacked(job: Job) -> Job:
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
