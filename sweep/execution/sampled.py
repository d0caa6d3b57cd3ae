"""What a worker does for chips that serve the mean alone: the survey before them, and what they see and say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sweep.data.measures import further
from sweep.engine.sites import Drawn, Entry
from sweep.perturb.base import Array
from sweep.randomness import PILOTS, image_stream
from sweep.statistics.sampling import Design, design, draw, edges, estimates_of, starts
from sweep.storage.schema import trial_columns
from sweep.storage.surveys import Survey
from sweep.study.family import Cell

if TYPE_CHECKING:
    from sweep.engine.looks import Looks
    from sweep.execution.controlled import Controlled
    from sweep.execution.job import Job

    See = Callable[[Sequence[tuple[Cell, int]], npt.NDArray[np.int64]], Looks]
    """(cell, seed) of chips and the images (T, 2, m) that they see → what they decide."""

HALF = 16
"""Images of each of the two half-samples of a chip."""
FEWEST = 8 * 2 * HALF
"""Images of a test set from which on samples are worth it; of a smaller one, chips see all."""
PILOT_SEEDS = range(PILOTS, PILOTS + 64)
FAR = 4
"""Times the largest clean weight of a variable, from which on a mean of perturbed ones is none that tells anything."""
PILOT_IMAGES = 2  # of each stratum that a pilot chip sees


def typical(chips: Iterable[Sequence[Entry]], clean: Sequence[Array]) -> list[Entry]:
    """What a chip is on average: the mean of weights over chips, and what each has for the sites, without noise.

    A weight whose mean lies far beyond the clean ones, as flipped exponents make it, is the clean one.
    """
    sums: list[npt.NDArray[np.float64]] = []
    count, flow = 0, []
    for count, entries in enumerate(chips, 1):
        with np.errstate(over="ignore", invalid="ignore"):
            weights = [np.asarray(entry, np.float64) for entry in entries[: len(clean)]]
            sums = weights if count == 1 else [a + b for a, b in zip(sums, weights, strict=True)]
        flow = [e.quiet() if isinstance(e, Drawn) else e for e in entries[len(clean) :]]
    found: list[Entry] = []
    for total, weight in zip(sums, clean, strict=True):
        mean, most = total / count, FAR * np.max(np.abs(weight), initial=0)
        found.append(np.where(np.abs(mean) <= most, mean, weight).astype(np.float32))
    return [*found, *flow]


def pilot(job: Job, cell: Cell, margins: npt.NDArray[np.float32], see: See) -> Survey:
    """The order of the images by margin, and what pilot chips decide in each of its strata."""
    order = np.argsort(margins, kind="stable").astype(np.int32)
    bounds = edges(len(order))
    low, high = bounds[:-1], bounds[1:]
    shape = (PILOT_IMAGES, len(low))
    places = [image_stream(job.root_seed, seed).integers(low, high, size=shape) for seed in PILOT_SEEDS]
    looks = see([(cell, seed) for seed in PILOT_SEEDS], order[np.array(places)].astype(np.int64))
    right, seen = looks.right.sum(axis=(0, 1)), np.full(len(low), len(PILOT_SEEDS) * PILOT_IMAGES)
    return Survey({cell.id: order}, {cell.id: (right, seen)})


def design_of(survey: Survey, cell: Cell, labels: npt.NDArray[np.int64]) -> Design:
    """How the images of a cell's samples are drawn; `labels` are those of all."""
    order = survey.orders[cell.id]
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return design(ranks, *survey.pilots[cell.id], HALF, labels)


def evaluate(
    job: Job,
    trials: Sequence[tuple[Cell, int]],
    designs: Mapping[str, Design],
    see: See,
    controlled: Controlled,
    said: Mapping[str, str],
) -> pa.Table:
    """The rows of chips, each on its own sample of the images.

    Args:
        job: of the run.
        trials: cells and seeds.
        designs: of these cells.
        see: evaluates.
        controlled: has watched over what `see` evaluates.
        said: host, device and engine, for the rows.
    """
    begun = time.perf_counter()
    cells = list({cell.id: cell for cell, _ in trials}.values())
    place = {cell.id: k for k, cell in enumerate(cells)}
    which = np.array([place[cell.id] for cell, _ in trials])
    seeds = np.array([seed for _, seed in trials], np.int64)
    begin = _starts(job.root_seed, seeds)
    samples = {k: draw(designs[cell.id], begin[which == k]) for k, cell in enumerate(cells)}
    images = np.empty((len(trials), 2, HALF), np.int64)
    for k, sample in samples.items():
        images[which == k] = sample.images
    looks = see(trials, images)
    estimate, apart, control = np.empty((3, len(trials)))
    for k, sample in samples.items():
        own = which == k
        estimate[own], apart[own] = estimates_of(sample, looks.right[own])
        control[own] = estimate[own] - estimates_of(sample, looks.chances[own])[0]
    control[~looks.integrated] = np.nan
    taken = controlled.found()
    control = np.where(np.isnan(taken), control, np.where(looks.integrated, control, 0.0) + taken)
    correct = looks.right.sum(axis=(1, 2))
    seconds = (time.perf_counter() - begun) / len(trials)
    return trial_columns(
        cells,
        which,
        job.columns,
        further(job.measures),
        seed=seeds,
        n_images=np.full(len(trials), 2 * HALF),
        n_correct=correct,
        accuracy=correct / (2 * HALF),
        n_nonfinite=(~looks.finite).sum(axis=(1, 2)),
        estimate=estimate,
        half_difference=apart,
        control=control,
        seconds=np.full(len(trials), seconds),
        **said,
    )


def _starts(root_seed: int, seeds: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(T, 2) where the half-samples of each chip begin, the same in all cells."""
    found, inverse = np.unique(seeds, return_inverse=True)
    return np.array([starts(image_stream(root_seed, int(seed))) for seed in found])[inverse]
