"""Controls of a chip's draw in a worker: the gradients, the factors of a cell, and what is taken off its chips."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from sweep.engine.sites import Entry
from sweep.errors import StoreError
from sweep.networks.feeding import Fed
from sweep.perturb.shared import Shared
from sweep.preparation.inputs import Prepared
from sweep.randomness import FIRST_SAMPLED
from sweep.statistics.controls import Along, controls, directions, factors, features
from sweep.statistics.estimates import Floats
from sweep.storage.controls import CONTROLS, Controls, Factors
from sweep.study.family import Cell

if TYPE_CHECKING:
    from sweep.engine.evaluator import Evaluator
    from sweep.engine.weight_errors import WeightErrors
    from sweep.execution.job import Job

TOGETHER, FLOATS = 64, 2**20  # chips whose errors are measured together, and their weights, at most
_KEPT = 4
_along: OrderedDict[tuple[str, bytes, bytes], tuple[npt.NDArray[np.float16], Along]] = OrderedDict()


class _Own(NamedTuple):
    """What controls a cell's chips."""

    errors: WeightErrors
    along: Along
    factors: Factors


class Controlled:
    """Takes down what chips draw on their way to be evaluated."""

    def __init__(self, known: Controls, evaluator: Evaluator, trials: Sequence[tuple[Cell, int]]) -> None:
        """Of `trials`, cells and seeds, in the order in which they will be evaluated.

        Raises StoreError where what is known does not go together, or is of another network.
        """
        self._trials = trials
        self._own: dict[str, _Own] = {}
        for cell in {cell.id: cell for cell, _ in trials}.values():
            by = known.factors.get(cell.id)
            errors = evaluator.weight_errors(cell.transforms) if by and len(by.values) else None
            if by and errors:
                self._own[cell.id] = _Own(errors, _along_of(known, cell.subject, errors), by)
                if len(by.values) != 2 * len(known.gradients[cell.subject]):
                    raise StoreError(f"{CONTROLS}: the factors of {cell.id} are not of its gradients; move it away")
        self._waiting: dict[str, list[tuple[int, npt.NDArray[np.float32]]]] = {cell: [] for cell in self._own}
        self._found = np.full(len(trials), np.nan)

    def watch(self, given: Iterable[Iterator[Sequence[Entry]]]) -> Iterator[Iterator[Sequence[Entry]]]:
        """What the trials evaluate, handed on as it is."""
        for k, ((cell, seed), trial) in enumerate(zip(self._trials, given, strict=True)):
            own = self._own.get(cell.id)
            if own is None or seed - FIRST_SAMPLED < own.factors.begin:
                yield trial
                continue
            entries = next(trial)
            waiting = self._waiting[cell.id]
            waiting.append((k, own.errors.values(entries)))
            if len(waiting) >= min(TOGETHER, max(1, FLOATS // len(own.errors.places))):
                self._measure(cell.id)
            yield chain([entries], trial)

    def found(self) -> Floats:
        """(T,) what is to be taken off each estimate; nan where nothing is."""
        for cell in self._waiting:
            self._measure(cell)
        return self._found

    def _measure(self, cell: str) -> None:
        if self._waiting[cell]:
            places, values = zip(*self._waiting[cell], strict=True)
            own = self._own[cell]
            found = features(own.along, own.errors.whole(np.stack(values)))
            self._found[list(places)] = controls(found, own.factors.values)
            self._waiting[cell] = []


def gradients_of(prepared: Prepared, cells: Iterable[Cell]) -> Controls:
    """Those of the subjects of cells, made in the driver: whatever the workers are, they have the same."""
    from sweep.engine.gradients import margin_gradients

    found = {}
    for subject, cell in sorted({cell.subject: cell for cell in cells}.items()):
        network, dataset = prepared.networks[cell.model], prepared.datasets[cell.dataset]
        found[subject] = margin_gradients(network, Fed(network, dataset, prepared.study.rescale), dataset.labels)
    return Controls(found)


def none_of(cell: Cell) -> Controls:
    """That no chip of a cell has any."""
    return Controls(factors={cell.id: Factors(0, np.zeros(0))})


def fit(job: Job, evaluator: Evaluator, cell: Cell) -> Controls:
    """The factors of a cell, by its chips that are without controls, and what these say."""
    assert job.survey is not None
    begin, values = job.said[cell.id]
    known, errors = job.survey.controls, evaluator.weight_errors(cell.transforms)
    by = np.zeros(0)
    if errors is not None and len(known.gradients.get(cell.subject, ())):
        along, parts, shared = _along_of(known, cell.subject, errors), [], Shared()
        step = min(TOGETHER, max(1, FLOATS // len(errors.places)))
        for first in range(0, len(values), step):
            seeds = range(FIRST_SAMPLED + first, FIRST_SAMPLED + min(first + step, len(values)))
            chips = np.stack([errors.of_seed(job.root_seed, seed, shared) for seed in seeds])
            parts.append(features(along, errors.whole(chips)))
        by = factors(np.concatenate(parts), np.asarray(values))
    return Controls(factors={cell.id: Factors(begin, by)})


def _along_of(known: Controls, subject: str, errors: WeightErrors) -> Along:
    """The directions of the errors of a cell, the same for all its levels."""
    gradients = known.gradients.get(subject, np.zeros((0, 0), np.float16))
    if gradients.shape[1] <= errors.places.max():
        raise StoreError(f"{CONTROLS}: its gradients are of another network than {subject}; move it away")
    key = subject, errors.stds.tobytes(), errors.places.tobytes()
    if key not in _along or _along[key][0] is not gradients:
        while len(_along) >= _KEPT:
            _along.popitem(last=False)
        _along[key] = gradients, directions(gradients[:, errors.places], errors.stds)
    return _along[key][1]
