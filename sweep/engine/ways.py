"""The ways to evaluate trials: one at a time, stacked, or as machine code; all give the scores of T trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sweep.engine import tf_ops
from sweep.engine.compiled import CompiledNetwork
from sweep.engine.graph import Graph
from sweep.engine.stacked import StackedNetwork
from sweep.networks.loading import Network
from sweep.perturb.base import Array

Scores = npt.NDArray[np.float32]


class Way(Protocol):
    """One way to evaluate one network on fixed images.

    Attributes:
        name: goes into the `engine` column.
        varied: indices into `model.weights` of the variables that `scores` takes, ascending.
        trials: how many trials to give `scores` at a time, at most.
    """

    name: str
    varied: tuple[int, ...]
    trials: int

    def scores(self, weights: Sequence[Array]) -> Scores:
        """Outputs (T, images, outputs) for the values of the varied variables, each (T, *shape)."""


class Plain:
    """Keras's own forward pass, compiled once, with the weights as arguments: the reference of all others."""

    name = "plain"
    trials = 1

    def __init__(self, network: Network, images: Array, varied: Sequence[int], images_per_step: int) -> None:
        self.varied = tuple(varied)
        self._weights = [tf_ops.constant(w) for w in network.model.get_weights()]
        self._images = [tf_ops.constant(step) for step in steps(images, images_per_step)]
        self._forward = tf_ops.compile_function(tf_ops.stateless(network.model))

    def scores(self, weights: Sequence[Array]) -> Scores:
        """See `Way`."""
        return np.stack([self._trial([w[t] for w in weights]) for t in range(len(weights[0]))])

    def _trial(self, varied: Sequence[Array]) -> Scores:
        weights = list(self._weights)
        for i, values in zip(self.varied, varied, strict=True):
            weights[i] = tf_ops.constant(values)
        return np.concatenate([np.asarray(self._forward(step, weights)) for step in self._images])


class Stacked:
    """T trials in one pass; see `stacked`."""

    name = "stacked"

    def __init__(
        self, network: Network, images: Array, varied: Sequence[int], images_per_step: int, trials: int
    ) -> None:
        self.varied = tuple(varied)
        self.trials = trials
        self._network = StackedNetwork(network.model, varied)
        boundary = prefix(self._network, images, images_per_step)
        parts = [steps(tensor, images_per_step) for tensor in boundary]
        self._boundary = [[tf_ops.constant(part) for part in step] for step in zip(*parts, strict=True)]
        self._forward = tf_ops.compile_function(self._network.forward)

    def scores(self, weights: Sequence[Array]) -> Scores:
        """See `Way`; fewer than T trials are filled up, so that no new shape is compiled."""
        given = len(weights[0])
        full = [tf_ops.constant(np.concatenate([w, w[:1].repeat(self.trials - given, axis=0)])) for w in weights]
        passes = [np.asarray(self._forward(step, full)) for step in self._boundary]
        return np.concatenate(passes, axis=1)[:given]


class Compiled:
    """Machine code for this processor; see `compiled`."""

    name = "compiled"
    trials = 8

    def __init__(self, network: Network, images: Array, varied: Sequence[int], images_per_step: int) -> None:
        self.varied = tuple(varied)
        self._network = CompiledNetwork(network.model, varied)
        self._blocks = self._network.blocks(prefix(self._network, images, images_per_step))

    def scores(self, weights: Sequence[Array]) -> Scores:
        """See `Way`."""
        return self._network.forward(self._blocks, weights)


def prefix(network: StackedNetwork | CompiledNetwork, images: Array, images_per_step: int) -> list[Array]:
    """What no varied weight reaches, computed once for all images: tensors (images, ...)."""
    if not network.has_prefix:
        return [images]
    forward = tf_ops.compile_function(network.prefix)
    parts = [forward(tf_ops.constant(step)) for step in steps(images, images_per_step)]
    return [np.concatenate([np.asarray(part) for part in tensor]) for tensor in zip(*parts, strict=True)]


def cut(network: Network, varied: Sequence[int], images: int, most_bytes: int) -> tuple[int, ...]:
    """The variables to treat as varied: those that are, or all of them where the prefix is too large to keep."""
    graph = Graph(network.model, varied)
    floats = images * sum(int(np.prod(graph.shapes[slot])) for slot in graph.boundary)
    if graph.has_prefix and 4 * floats > most_bytes:
        return tuple(range(len(network.variables)))
    return tuple(varied)


def steps(array: npt.NDArray[Any], size: int) -> list[npt.NDArray[Any]]:
    """An array cut along images."""
    return [array[i : i + size] for i in range(0, len(array), size)]
