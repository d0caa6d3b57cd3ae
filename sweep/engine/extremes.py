"""Weights at which backends could differ: not finite, so large that sums overflow, or with no root."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt
from keras import layers as kl

from sweep.engine.sites import Entry
from sweep.perturb.base import Array

EXTREME = 1e12  # larger weights may overflow in one order of a sum and not in another
SMALLEST = 1e-20  # of variance + ε: below, what it divides is extreme, or no number


class Extremes:
    """Tells which weights of a network only Keras's own pass is to take.

    Those are weights beyond `EXTREME`, and moving variances that batch normalisation, which takes the root of variance
    + ε, makes no moderate number of: a ReLU of machine code would pass over the NaN of a negative one.
    """

    def __init__(self, model: keras.Model, varied: Sequence[int]) -> None:
        """Of the variables of these numbers, in this order; what lies beyond the model's weights is of sites."""
        weights = {id(variable): number for number, variable in enumerate(model.weights)}
        roots: dict[int, float] = {}
        for layer in model._flatten_layers():
            if isinstance(layer, kl.BatchNormalization) and layer.built:
                roots[weights.get(id(layer.moving_variance), -1)] = float(layer.epsilon)
        self.varied = [number for number in varied if number < len(model.weights)]
        self._roots = {number: roots[number] for number in self.varied if number in roots}
        self._ranges: list[tuple[int, int, float]] = []
        self.floats = 0
        """How many values these variables have."""
        for number in self.varied:
            end = self.floats + int(np.prod(model.weights[number].shape))
            if number in self._roots:
                self._ranges.append((self.floats, end, self._roots[number]))
            self.floats = end

    def of(self, entries: Sequence[Entry]) -> bool:
        """Whether a trial, of which all entries are given, has such a weight."""
        for number in self.varied:
            entry = entries[number]
            if isinstance(entry, np.ndarray) and not (np.max(np.abs(entry), initial=0) < EXTREME):
                return True
        return any(np.min(entries[n] + np.float32(e), initial=1) < SMALLEST for n, e in self._roots.items())  # type: ignore[operator]

    def none_in(self, rows: Array) -> npt.NDArray[np.bool_]:
        """(T,) whether a trial has none, for rows (T, floats and more) that begin with the values of `varied`."""
        weights = rows[:, : self.floats]
        safe = (weights.max(axis=1, initial=0) < EXTREME) & (weights.min(axis=1, initial=0) > -EXTREME)
        for begin, end, epsilon in self._ranges:
            safe &= rows[:, begin:end].min(axis=1) + np.float32(epsilon) >= SMALLEST
        return np.asarray(safe)
