"""What all other code knows of a network's weights and layers, without Keras."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt


def numbers_of(value: npt.ArrayLike) -> npt.NDArray[Any]:
    """A copy of a variable's value as transforms take it: float32, where it is floating of whatever precision."""
    array = np.array(value)
    return array if array.dtype.kind in "biu" else array.astype(np.float32)


@dataclass(frozen=True)
class Variable:
    """One entry of `model.weights`.

    Attributes:
        index: position in `model.weights`.
        path: Keras path, such as ``conv1/kernel``.
        layer: name of the layer that owns it.
        layer_index: index into `model.layers` of that layer, or of the top-level layer that contains it.
        layer_type: class name of the owning layer, such as ``Conv2D``.
        shape: its shape.
        kernel: True for what `layers = "*"` selects: kernels, embeddings, and what layers of a user's own train as
            matrices; not biases or normalisation.
        channel_axes: the axes that together index output channels; of a vector, each value is a channel.
        readable: whether it holds floating numbers that the layer reads at inference, so that it can be perturbed; not
            seeds, counts, the statistics of a Normalization, of which that layer keeps a copy, and what other outputs
            than the one that is scored depend on.
    """

    index: int
    path: str
    layer: str
    layer_index: int
    layer_type: str
    shape: tuple[int, ...]
    kernel: bool
    channel_axes: tuple[int, ...]
    readable: bool = True

    @property
    def name(self) -> str:
        """Its own name in its layer, such as ``kernel`` or ``moving_mean``."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def size(self) -> int:
        """How many values it holds."""
        return math.prod(self.shape)


def statistics_in(variables: Sequence[Variable]) -> list[int]:
    """Indices of the means and variances that batch normalisation takes from its training."""
    return [v.index for v in variables if v.name in ("moving_mean", "moving_variance") and v.readable]


@dataclass(frozen=True)
class Layer:
    """A layer that is not a model itself, wherever in the network it stands; or the images that come in.

    Attributes:
        position: in `inspection.layers_of`; -1 for the images; of several inputs -2, -3, … in their order.
        layer: its name; "input" for the images where there is one input.
        layer_index: index into `model.layers` of that layer, or of the top-level layer that contains it.
        layer_type: class name, such as ``Conv2D``.
        kernel: whether it holds a variable that `layers = "*"` selects.
        scores: whether it makes the network's output, but for activation functions that follow.
    """

    position: int
    layer: str
    layer_index: int
    layer_type: str
    kernel: bool
    scores: bool


IMAGES = Layer(-1, "input", -1, "Images", kernel=False, scores=False)


def input_at(number: int, name: str) -> Layer:
    """One of several inputs."""
    return replace(IMAGES, position=-2 - number, layer=name)
