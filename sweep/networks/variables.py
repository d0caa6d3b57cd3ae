"""What the rest of the house knows of a network's weights, without Keras."""

from __future__ import annotations

from dataclasses import dataclass


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
        kernel: True for what `layers = "*"` selects: kernels and embeddings, not biases or normalisation.
        channel_axes: the axes that together index output channels.
    """

    index: int
    path: str
    layer: str
    layer_index: int
    layer_type: str
    shape: tuple[int, ...]
    kernel: bool
    channel_axes: tuple[int, ...]
