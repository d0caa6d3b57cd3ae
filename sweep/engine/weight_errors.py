"""What a chip draws whose law is known: the errors of its weights, in units of their standard deviations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from sweep.engine.extremes import EXTREME
from sweep.engine.sites import Entry
from sweep.networks.variables import Variable
from sweep.perturb.base import Array, ErrorLaw, Transform, draws
from sweep.perturb.perturbation import is_read, of_weights
from sweep.perturb.selection import selected
from sweep.perturb.shared import Shared
from sweep.randomness import stream
from sweep.statistics.controls import ERROR_UNIT, MOST_WEIGHTS

FINEST = 2.0**-12  # of a weight, an error's standard deviation: finer ones are in part the weight's own rounding


class Known(NamedTuple):
    """The last transform that reaches a variable, the only random one.

    Attributes:
        position: in the perturbation.
        transform: which.
        weight: what it acts on.
        law: of what it adds.
    """

    position: int
    transform: Transform
    weight: Array
    law: ErrorLaw


def known(
    number: int, weights: Sequence[Array], variables: Sequence[Variable], transforms: Sequence[Transform]
) -> Known | None:
    """What draws the errors of a variable of this number, `weights` being the clean ones; None where no law is known.

    It is, where one transform with a known `error_law` is the last that reaches it, and the only random one.
    """
    own = [(k, t) for k, t in of_weights(transforms) if number in selected(variables, t)]
    if not own or any(draws(t) for _, t in own[:-1]) or not draws(own[-1][1]):
        return None
    weight, variable = weights[number], variables[number]
    for k, transform in own[:-1]:
        weight = transform.apply(weight, variable, stream(0, 0, k, number))
    position, last = own[-1]
    law = last.error_law(weight, variable)
    return None if law is None else Known(position, last, weight, law)


class WeightErrors:
    """The errors of a network's first variables, as far as their laws are known.

    Attributes:
        places: (F,) of the weights that have them, among all floats of those variables, one after the other.
        stds: (F,) of the errors, in units of the largest, to 11 bits; 0 where an error is too fine to be told.
    """

    def __init__(self, parts: Iterable[tuple[int, int, Variable, Known]]) -> None:
        """Of variables, each with its number, where its floats begin, and what draws its errors; one at least."""
        self._parts = list(parts)
        sizes = [known.weight.size for _, _, _, known in self._parts]
        begins = [begin for _, begin, _, _ in self._parts]
        self.places = np.concatenate([np.arange(b, b + n) for b, n in zip(begins, sizes, strict=True)])
        centre, stds = (
            np.concatenate([np.broadcast_to(x, k.weight.shape).ravel().astype(np.float64) for k, x in of])
            for of in zip(*(((k, k.weight + k.law.mean), (k, k.law.std)) for _, _, _, k in self._parts), strict=True)
        )
        told = np.isfinite(stds) & (stds > FINEST * np.abs(centre))
        scale = np.where(told, 1 / np.where(told, stds, 1.0), 0.0) / ERROR_UNIT
        self._scale, self._centre = scale.astype(np.float32), centre.astype(np.float32)
        largest = stds[told].max(initial=0.0)
        self.stds = (np.where(told, stds, 0.0) / (largest or 1.0)).astype(np.float16).astype(np.float64)

    def values(self, entries: Sequence[Entry]) -> Array:
        """(F,) the weights of a chip."""
        found = [entries[number] for number, _, _, _ in self._parts]
        return np.concatenate([entry.ravel() for entry in found if isinstance(entry, np.ndarray)])

    def of_seed(self, root_seed: int, seed: int, shared: Shared) -> Array:
        """(F,) the weights of the chip of this seed, as `perturbation.reads` makes them."""
        return np.concatenate(
            [
                k.transform.apply(
                    k.weight, variable, shared.stream(root_seed, seed, k.position, number, k.transform)
                ).ravel()
                for number, _, variable, k in self._parts
            ]
        )

    def whole(self, values: Array) -> Array:
        """(T, F) in whole `ERROR_UNIT`s, of chips with `values` (T, F)."""
        found = np.subtract(values, self._centre)
        found *= self._scale
        return np.rint(found, out=found)


def weight_errors(
    numbers: Sequence[int], weights: Sequence[Array], variables: Sequence[Variable], transforms: Sequence[Transform]
) -> WeightErrors | None:
    """The errors of the variables of these numbers whose law is known; None where there are none, or too many floats.

    `weights` and `variables` are the clean network's. Errors that are drawn anew for each read are none of a chip.
    """
    parts, begin = [], 0
    for number in numbers:
        found = known(number, weights, variables, transforms)
        usable = found and not found.transform.joint and not is_read(found.transform)
        if found and usable and np.max(np.abs(found.law.std), initial=0.0) < EXTREME:
            parts.append((number, begin, variables[number], found))
        begin += weights[number].size
    whole = WeightErrors(parts) if parts and begin <= MOST_WEIGHTS else None
    return whole if whole is not None and whole.stds.any() else None
