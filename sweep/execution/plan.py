"""Which trials are missing, and how they are cut into chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from sweep.execution.trials import Found, Trial, Trials
from sweep.randomness import FIRST_SAMPLED
from sweep.storage.schema import FIXED_SEED
from sweep.study.study import Study

PILOT = -1
"""In place of a seed: find the order of a cell's images, and what pilot chips decide."""
FACTORS = -2
"""Likewise: find by which factors the cell's chips are controlled."""
DEADLINE_SECONDS = 1800.0  # a chunk is some seconds of work; a worker's first one also loads and compiles
SEEDS_AT_A_TIME = 32
SAMPLES_AT_A_TIME = 64  # seeds, which share their draws over all cells
CHUNKS_PER_SECOND = 50  # that the driver takes in with ease, some times as many at most


WHOLE, FEW, SURVEY = range(3)
_FIRST_FEW = 512  # chips of a worker's first tasks, of those that see few images


def kind_of(trial: Trial) -> int:
    """`WHOLE`, `FEW` or `SURVEY`."""
    return SURVEY if trial[1] < 0 else WHOLE if trial[1] < FIRST_SAMPLED else FEW


@dataclass(frozen=True)
class Chunk:
    """The trials that one task runs, all of one model, test set and kind."""

    model: str
    trials: tuple[Trial, ...]
    dataset: str = ""

    @property
    def kind(self) -> int:
        """What its trials are: chips that see all images, chips that see few, or a part of the survey."""
        return kind_of(self.trials[0])

    def shard_name(self, study_digest: str) -> str:
        """A function of the study and of the trials, so that the same work has the same name anywhere."""
        text = repr((study_digest, self.trials))
        return f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.parquet"

    def by_cell(self) -> list[Chunk]:
        """The same trials, in chunks of one cell each."""
        cells: dict[str, list[Trial]] = {}
        for trial in self.trials:
            cells.setdefault(trial[0], []).append(trial)
        return [replace(self, trials=tuple(trials)) for trials in cells.values()]

    def without(self, cell: str) -> Chunk:
        """The same trials but those of a cell; there may be none."""
        return replace(self, trials=tuple(trial for trial in self.trials if trial[0] != cell))

    def halves(self) -> list[Chunk]:
        """The same trials, in two chunks."""
        middle = len(self.trials) // 2
        return [replace(self, trials=self.trials[:middle]), replace(self, trials=self.trials[middle:])]


def wanted(study: Study) -> Trials:
    """Every trial of a study: some seeds at a time through all cells of a model on a test set.

    So these advance together. Seeds of one cell follow each other, because what a worker prepares for a cell serves
    them all.
    """
    seeds = np.array(study.seed_range, np.int64)
    which, of_each = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
    for own in _by_place(study):
        fixed = [i for i in own if not study.cells[i].random]
        random = np.array([i for i in own if study.cells[i].random], np.int32)
        which.append(np.array(fixed, np.int32))
        of_each.append(np.full(len(fixed), FIXED_SEED))
        for start in range(0, len(seeds), SEEDS_AT_A_TIME):
            some = seeds[start : start + SEEDS_AT_A_TIME]
            which.append(np.repeat(random, len(some)))
            of_each.append(np.tile(some, len(random)))
    return Trials([cell.id for cell in study.cells], np.concatenate(which), np.concatenate(of_each))


def sampled(study: Study, ranges: Mapping[str, range]) -> list[Trial]:
    """Trials of chips that serve the mean alone, some seeds at a time through all cells of a model on a test set.

    `ranges` are the seeds of each cell, and may be empty.
    """
    trials: list[Trial] = []
    for places in _by_place(study):
        ids = [study.cells[i].id for i in places]
        own = {cell: ranges[cell] for cell in ids if ranges.get(cell)}
        last = max((seeds.stop for seeds in own.values()), default=0)
        for start in range(FIRST_SAMPLED, last, SAMPLES_AT_A_TIME):
            for seed in range(start, start + SAMPLES_AT_A_TIME):
                trials += [(cell, seed) for cell, seeds in own.items() if seed in seeds]
    return trials


def _by_place(study: Study) -> list[list[int]]:
    """Positions of the cells of each model on each test set."""
    found: dict[tuple[str, str], list[int]] = {}
    for i, cell in enumerate(study.cells):
        found.setdefault((cell.model, cell.dataset), []).append(i)
    return list(found.values())


def count_wanted(study: Study) -> int:
    """How many trials a study asks for."""
    random = sum(cell.random for cell in study.cells)
    return random * len(study.seed_range) + len(study.cells) - random


def count_done(study: Study, present: Collection[Trial]) -> int:
    """How many of them are present."""
    found, done = Found.of(present), 0
    for cell in study.cells:
        seeds, _ = found.of_cell(cell.id)
        among = study.seed_range if cell.random else range(FIXED_SEED, FIXED_SEED + 1)
        done += int(np.count_nonzero((seeds >= among.start) & (seeds < among.stop)))
    return done


def missing(study: Study, present: Collection[Trial]) -> Trials:
    """The wanted trials that are not present, in the order in which they will run."""
    trials = wanted(study)
    return trials.take(Found.of(present).lacks(trials))


def of_each_worker(stage: Iterable[Trial], workers: int) -> dict[str, float]:
    """Trials on all images of each cell that one of so many workers has probably to do."""
    trials = Trials.of(stage)
    whole = (trials.seeds >= 0) & (trials.seeds < FIRST_SAMPLED)
    counts = np.bincount(trials.which[whole], minlength=len(trials.cells)).tolist()
    return {cell: count / max(1, workers) for cell, count in zip(trials.cells, counts, strict=True) if count}


class Cutter:
    """Hands out the missing trials chunk by chunk, at sizes that may change on the way."""

    def __init__(self, study: Study, trials: Iterable[Trial]) -> None:
        self._place = {cell.id: (cell.model, cell.dataset) for cell in study.cells}
        self._trials = Trials.of(trials)
        self._next = 0

    @property
    def left(self) -> int:
        """Trials not handed out yet."""
        return len(self._trials) - self._next

    @property
    def kind(self) -> int:
        """What the next trials are."""
        return kind_of(self._trials[self._next])

    def cut(self, size: int) -> Chunk:
        """The next chunk: at most `size` trials of one model, test set and kind."""
        start = self._next
        model, dataset = place = self._place[self._trials[start][0]]
        kind = kind_of(self._trials[start])
        chosen = []
        for trial in self._trials[start : start + size]:
            if self._place[trial[0]] != place or kind_of(trial) != kind:
                break
            chosen.append(trial)
        self._next = start + len(chosen)
        return Chunk(model, tuple(chosen), dataset)

    def drop(self, cell: str) -> int:
        """Hand out no more trials of a cell; returns how many were left."""
        left = self._trials[self._next :]
        kept = left.take(np.array([name != cell for name in left.cells], bool)[left.which])
        dropped = len(left) - len(kept)
        self._trials, self._next = kept, 0
        return dropped


class ChunkSize:
    """Chunks of some seconds of work: from the measured time of a trial, smaller towards the end.

    Where thousands of workers hand in chunks, these take longer, so that the driver keeps up with them.
    """

    def __init__(self, seconds: float = 5.0, fixed: int | None = None, first: int = 4) -> None:
        self._seconds = seconds
        self._fixed = fixed
        self._first = first
        self._per_trial: float | None = None

    def measured(self, trials: int, seconds: float) -> None:
        """Learn from a finished chunk."""
        latest = seconds / trials
        self._per_trial = latest if self._per_trial is None else 0.5 * (self._per_trial + latest)

    def next(self, left: int, slots: int) -> int:
        """Trials of the next chunk, when `left` remain for `slots` workers."""
        if self._fixed:
            return self._fixed
        if self._per_trial is None:
            return self._first
        full = max(self._seconds, slots / CHUNKS_PER_SECOND) / self._per_trial
        least = 1.0 / self._per_trial  # under a second, the task itself costs more than it spreads
        return max(1, int(min(full, max(least, left / (2 * slots)))))


def sizes(fixed: int | None = None, light: bool = True) -> dict[int, ChunkSize]:
    """Of the chunks of each kind; `fixed` trials, but for a survey's, where that is given.

    `light` says whether chips for the mean see a few images.
    """
    few = ChunkSize(fixed=fixed, first=_FIRST_FEW) if light else ChunkSize(fixed=fixed)
    return {WHOLE: ChunkSize(fixed=fixed), FEW: few, SURVEY: ChunkSize(fixed=1)}
