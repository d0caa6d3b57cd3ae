"""Floating-point operations of a trial, counted from the layers of its network."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from sweep.engine.graph import Graph, Unsupported
from sweep.engine.steps import Step

_POOLINGS = {"MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D"}
_MULTIPLYING = {
    *("Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D", "Dense"),
}
_POINTWISE = {
    *("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "Dropout", "BatchNormalization"),
    *("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"),
}
Extent = tuple[int, ...]


def count_flops(model: Any, varied: Collection[int]) -> int:
    """Floating-point operations that one image takes in a trial.

    Counted are the multiply-adds of convolutions (depthwise and separable ones too) and dense layers, 2 each, in
    the layers that a perturbed weight reaches; not counted are biases, normalisation, activation functions and
    pooling. Of a convolution's output, rows and columns that the pooling after it leaves unread are not counted,
    such as the last of 11 under a pooling by 2.

    Args:
        model: a built Sequential or Functional Keras model.
        varied: indices into `model.weights` of the variables that trials perturb, at least one.

    Raises:
        Unsupported: as `Graph`, and for a network that takes images of any size.
    """
    graph = Graph(model, varied)
    if any(None in shape for shape in graph.shapes.values()):
        raise Unsupported("the network takes images of any size")
    read: dict[int, Extent] = {graph.output: _extent(graph.shapes[graph.output])}
    flops = 0
    for step in reversed(graph.rest):
        needed = read.get(step.outputs[0])
        if needed is None:  # nobody reads it
            continue
        flops += _flops(step, needed)
        for slot in step.inputs:
            reads = _reads(step, needed, graph.shapes[slot])
            known = read.get(slot, reads)
            read[slot] = tuple(max(pair) for pair in zip(known, reads, strict=True))
    return flops


def _extent(shape: tuple[int, ...]) -> Extent:
    """Rows, columns and so on, without the channels."""
    return tuple(shape[:-1])


def _flops(step: Step, outputs: Extent) -> int:
    """Of one layer, for so many rows, columns and so on of its output."""
    layer, kind = step.operation, type(step.operation).__name__
    if kind not in _MULTIPLYING:
        return 0
    kernels = [variable for variable in layer.weights if variable.name.endswith("kernel")]
    # Every weight is used once for each position of the output.
    return 2 * int(np.prod(outputs)) * sum(int(np.prod(kernel.shape)) for kernel in kernels)


def _reads(step: Step, outputs: Extent, shape: tuple[int, ...]) -> Extent:
    """How far into an input of this shape a layer reads, when so much of its output is read."""
    layer, kind, full = step.operation, type(step.operation).__name__, _extent(shape)
    if kind in _POINTWISE and _extent(step.shapes[0]) == full:
        return outputs
    if kind in _POOLINGS and layer.padding == "valid":
        pooled = _extent(step.shapes[0])
        return tuple((n - 1) * s + p for n, s, p in zip(pooled, layer.strides, layer.pool_size, strict=True))
    return full
