"""What chips that see few images each say, against what they do on all of them: by simulation.

`python -m tests.statistics.few_images STUDY CHIPS` evaluates so many chips of each random cell of a study on all
images, some minutes for 4,000 chips of the shipped network, and then lets samples of 32 images speak for them: the rows
behind docs/precision.md.
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweep.perturb.perturbation import reached, reads
from sweep.preparation.inputs import Prepared, prepare
from sweep.statistics.estimates import Estimate, Floats
from sweep.statistics.precision import chips_for, precise_mean, spread
from sweep.statistics.sampling import Design, design, draw, edges, estimates_of
from sweep.study.family import Cell
from sweep.study.study import parse_file

HALF = 16
PILOT_CHIPS, PILOT_IMAGES = 64, 2
DESIGNS = 20  # of a simulation, each from a pilot of its own, for as many of the studies
FIXED, STOPPED = (64, 256, 1024, 4000), (300, 1000, 3000)


class Decisions(NamedTuple):
    """All there is to know of a cell.

    Attributes:
        right: (chips, images) whether a chip decides rightly.
        margins: (images,) of the clean network.
        classes: (images,) labels.
    """

    right: NDArray[np.bool_]
    margins: Floats
    classes: NDArray[np.int64]

    @property
    def accuracies(self) -> Floats:
        """(chips,) on all images."""
        return np.asarray(self.right.mean(axis=1), np.float64)


def plan_of(known: Decisions, rng: np.random.Generator) -> Design:
    """A design from pilot chips, each on two images of each stratum."""
    chips, images = known.right.shape
    order, bounds = np.argsort(known.margins, kind="stable"), edges(images)
    pilots = rng.integers(chips, size=(PILOT_CHIPS, 1, 1))
    places = rng.integers(bounds[:-1], bounds[1:], size=(PILOT_CHIPS, PILOT_IMAGES, len(bounds) - 1))
    right = known.right[pilots, order[places]].sum(axis=(0, 1))
    return design(known.margins, right, np.full(len(right), PILOT_CHIPS * PILOT_IMAGES), HALF, known.classes)


def sampled(known: Decisions, studies: int, chips: int, seed: int = 0, designs: int = DESIGNS) -> tuple[Floats, Floats]:
    """Estimates and what their halves are apart, (studies, chips) each, of chips drawn with replacement."""
    rng, each = np.random.default_rng([seed, chips]), studies // designs * chips
    parts = []
    for _ in range(designs):
        plan = plan_of(known, rng)
        for size in np.diff([*range(0, each, 50_000), each]):
            sample = draw(plan, rng.integers(2**62, size=(size, 2)))
            seen = known.right[rng.integers(len(known.right), size=(size, 1, 1)), sample.images]
            parts.append(estimates_of(sample, seen))
    estimates, apart = (np.concatenate(part).reshape(-1, chips) for part in zip(*parts, strict=True))
    return estimates, apart


def held(found: list[Estimate], truth: float) -> float:
    """The share of intervals, in %, that hold the truth."""
    return 100 * float(np.mean([e.low <= truth <= e.high for e in found]))


def rows(known: Decisions, studies: int = 2000) -> Iterator[tuple[str, float]]:
    """What docs/precision.md says of a cell: names and figures."""
    mean, std = float(known.accuracies.mean()), float(known.accuracies.std())
    estimates = sampled(known, DESIGNS, 8000)[0]
    scatter = float(np.std(estimates))
    yield from (("mean, %", 100 * mean), ("std, points", 100 * std), ("std of one estimate, points", 100 * scatter))
    yield "gain at equal image work", known.right.shape[1] * std**2 / (2 * HALF * scatter**2)
    for chips in FIXED:
        every = sampled(known, studies, chips, seed=1)
        means, spreads = [precise_mean(one) for one in every[0]], [spread(*one) for one in zip(*every, strict=True)]
        for name, found, truth in (("mean", means, mean), ("spread", spreads, std)):
            values = np.array([e.value for e in found])
            yield f"{name} of {chips:,} chips: held, %", held(found, truth)
            yield f"{name} of {chips:,} chips: bias, standard errors", (values.mean() - truth) / values.std()
    for about in STOPPED:
        half = 1.96 * scatter / about**0.5
        drawn, _ = sampled(known, studies, round(2.5 * about) + 300, seed=2)
        counts = [min(chips_for(one, half), len(one)) for one in drawn]
        found = [precise_mean(one[:n]) for one, n in zip(drawn, counts, strict=True)]
        values = np.array([e.value for e in found])
        yield f"mean to {100 * half:.3f} points: chips", float(np.mean(counts))
        yield f"mean to {100 * half:.3f} points: held, %", held(found, mean)
        yield f"mean to {100 * half:.3f} points: bias, standard errors", (values.mean() - mean) / values.std()


def evaluated(prepared: Prepared, cell: Cell, chips: int) -> Decisions:
    """The decisions of so many chips of a cell, without transforms of the data flow, on all images."""
    from sweep.engine.evaluator import Evaluator

    network, root_seed = prepared.networks[cell.model], prepared.study.root_seed
    evaluator = Evaluator(network, prepared.dataset, rescale=prepared.study.rescale)
    varied, images = reached(network.variables, cell.transforms), np.arange(evaluator.images - evaluator.images % 2)
    right = np.empty((chips, len(images)), bool)
    for seed in range(chips):
        trial = reads(evaluator.weights, network.variables, cell.transforms, root_seed, seed)
        right[seed] = evaluator.see([iter([next(iter(trial))])], images.reshape(1, 2, -1), varied)[0].ravel()
    labels = prepared.dataset.labels.astype(np.int64)
    return Decisions(right, evaluator.margins().astype(float)[images], labels[images])


if __name__ == "__main__":
    prepared = prepare(parse_file(sys.argv[1]))
    for cell in prepared.study.cells:
        if cell.random:
            print(f"\n{cell}", flush=True)
            for name, figure in rows(evaluated(prepared, cell, int(sys.argv[2]))):
                print(f"{name:48} {figure:9.3f}", flush=True)
