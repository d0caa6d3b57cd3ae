"""A Keras network as PyTorch evaluates it: layer by layer by its functions, with the weights as arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sweep.engine.graph import Graph, Unsupported
from sweep.engine.steps import Step
from sweep.perturb.base import Array

Tensor = Any
Operation = Callable[[list[Tensor], list[Tensor]], Tensor]
"""Inputs and weights of a layer → its output; images (B, C, H, W)."""
Forward = Callable[[Tensor, Sequence[Tensor]], Tensor]


class Unknown(Exception):
    """A layer, named in the message, has no translation."""


def forward_of(model: Any) -> Forward:
    """The forward pass: images (B, C, H, W) and the weights of `weight_of` → outputs (B, outputs).

    Raises:
        Unknown: a layer has no translation, or the network's graph is not known.
    """
    numbers = {id(weight): k for k, weight in enumerate(model.weights)}
    try:
        graph = Graph(model, range(len(model.weights)))
    except Unsupported as reason:
        raise Unknown(str(reason)) from reason
    steps = []
    for step in graph.steps:
        weights = [numbers[id(weight)] for weight in getattr(step.operation, "weights", ())]
        steps.append((step.inputs, step.outputs[0], _operation(step, graph), weights))

    def forward(images: Tensor, weights: Sequence[Tensor]) -> Tensor:
        slots = {graph.input: images}
        for inputs, output, operation, own in steps:
            slots[output] = operation([slots[slot] for slot in inputs], [weights[k] for k in own])
        return slots[graph.output]

    return forward


def weight_of(torch: Any, weight: Array, device: str = "cpu") -> Tensor:
    """A Keras weight in the order of axes, and of memory, that PyTorch likes best."""
    tensor = torch.from_numpy(np.ascontiguousarray(weight)).to(device)
    if tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    return tensor.T.contiguous() if tensor.ndim == 2 else tensor


def _operation(step: Step, graph: Graph) -> Operation:
    layer, kind = step.operation, type(step.operation).__name__
    shape = graph.shapes[step.inputs[0]]
    makers: dict[str, Callable[[Any, tuple[int, ...]], Operation | None]] = {
        "Conv2D": _convolution,
        "Dense": lambda layer, shape: _dense(layer) if len(shape) == 1 else None,
        "BatchNormalization": lambda layer, shape: _normalisation(layer) if layer.axis in (-1, len(shape)) else None,
        "MaxPooling2D": _pooling,
        "GlobalAveragePooling2D": lambda layer, _: None if layer.keepdims else lambda x, _: x[0].mean((2, 3)),
        "Flatten": lambda _, shape: lambda x, _: (x[0].permute(0, 2, 3, 1) if len(shape) == 3 else x[0]).flatten(1),
        "ReLU": lambda layer, _: _plain_relu(layer),
        "Activation": lambda layer, _: _activated(layer),
        "Add": lambda _layer, _shape: lambda x, _: sum(x[1:], x[0]),
        "Dropout": lambda _layer, _shape: lambda x, _: x[0],
    }
    made = makers[kind](layer, shape) if kind in makers else None
    if made is None:
        raise Unknown(str(step))
    return made


def _activation(layer: Any) -> Callable[[Tensor], Tensor] | None:
    from torch.nn import functional

    known: dict[str, Callable[[Tensor], Tensor]] = {
        "linear": lambda x: x,
        "relu": functional.relu,
        "softmax": lambda x: functional.softmax(x, dim=-1),
    }
    return known.get(layer.activation.__name__)


def _activated(layer: Any) -> Operation | None:
    activation = _activation(layer)
    return None if activation is None else lambda x, _: activation(x[0])


def _plain_relu(layer: Any) -> Operation | None:
    from torch.nn import functional

    plain = layer.max_value is None and not layer.negative_slope and not layer.threshold
    return (lambda x, _: functional.relu(x[0])) if plain else None


def _convolution(layer: Any, shape: tuple[int, ...]) -> Operation | None:
    from torch.nn import functional

    activation = _activation(layer)
    if activation is None or layer.groups != 1 or tuple(layer.dilation_rate) != (1, 1):
        return None
    pads = [0, 0, 0, 0]
    if layer.padding == "same":
        sizes = zip(shape[1::-1], layer.kernel_size[::-1], layer.strides[::-1], strict=True)  # the last axis first
        totals = [max(0, (-(-size // stride) - 1) * stride + window - size) for size, window, stride in sizes]
        pads = [part for total in totals for part in (total // 2, total - total // 2)]
    even = pads[0] == pads[1] and pads[2] == pads[3]

    def run(x: list[Tensor], w: list[Tensor]) -> Tensor:
        image = x[0] if even else functional.pad(x[0], pads)
        around = (pads[2], pads[0]) if even else 0
        return activation(functional.conv2d(image, *w, stride=layer.strides, padding=around))

    return run


def _dense(layer: Any) -> Operation | None:
    from torch.nn import functional

    activation = _activation(layer)
    return None if activation is None else lambda x, w: activation(functional.linear(x[0], *w))


def _normalisation(layer: Any) -> Operation | None:
    from torch.nn import functional

    if not (layer.scale and layer.center):
        return None
    return lambda x, w: functional.batch_norm(x[0], w[2], w[3], w[0], w[1], eps=layer.epsilon)


def _pooling(layer: Any, _: tuple[int, ...]) -> Operation | None:
    from torch.nn import functional

    if layer.padding != "valid":
        return None
    return lambda x, _: functional.max_pool2d(x[0], layer.pool_size, layer.strides)
