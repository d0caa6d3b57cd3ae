"""Convolutions on GPUs, where a convolution in groups, one for each trial, takes several times as long.

With few terms a sum, a convolution is written out term by term: the compiler makes one kernel of it, of its activation
function and of the pooling behind it, and its output, by far the largest tensor of a small network, is never stored.
With more, it is one product of matrices for each trial, of the windows of the images and the kernel.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import layers as kl
from keras import ops

from sweep.engine.stacked.layouts import Activation, Call, Layout, from_trials
from sweep.engine.steps import Step, Tensor

FEW = 16
"""Terms of a sum that are written out. On an H200, 10,000 images: conv1 of the article's network, 9 terms, with its
pooling, took half the time of a product; conv2, 72 terms, four times as long."""
_INCREASING = (keras.activations.linear, keras.activations.relu)
Sizes = Sequence[int]


def covers(layer: Any) -> bool:
    """Whether a convolution is one of those."""
    return bool(layer.groups == 1 and layer.padding in ("valid", "same"))


def has_few_terms(layer: Any) -> bool:
    """Whether it is written out."""
    return covers(layer) and math.prod(layer.kernel.shape[:-1]) <= FEW


def is_pooled(convolution: Step, pooling: Step) -> bool:
    """Whether a step can be taken together with the one behind it, the only one that reads what it makes."""
    layer, behind = convolution.operation, pooling.operation
    known = type(layer) in (kl.Conv1D, kl.Conv2D) and type(behind) in (kl.MaxPooling1D, kl.MaxPooling2D)
    return known and has_few_terms(layer) and layer.activation in _INCREASING and behind.padding == "valid"


def write_out(call: Call, pooling: Any = None) -> Activation:
    """A convolution term by term, and the largest of each window of `pooling`, a layer, where there is one."""
    layer, kernels = call.operation, call.weight(call.operation.kernel)
    x = call.inputs[0]
    images = ops.expand_dims(x.tensor, 0) if x.layout is Layout.SHARED else x.per_trial()
    images = _padded(images, layer, first=2)
    axes = len(layer.kernel_size)
    window, strides = (pooling.pool_size, pooling.strides) if pooling else ((1,) * axes, (1,) * axes)
    reach = [d * (k - 1) + 1 for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    sizes = [(n - r) // s + 1 for n, r, s in zip(images.shape[2:-1], reach, layer.strides, strict=True)]
    pooled = [(n - p) // s + 1 for n, p, s in zip(sizes, window, strides, strict=True)]
    steps = [a * b for a, b in zip(layer.strides, strides, strict=True)]
    y = None
    for place in itertools.product(*map(range, window)):
        total: Any = 0.0
        for tap in itertools.product(*map(range, layer.kernel_size)):
            offsets = zip(place, layer.strides, tap, layer.dilation_rate, strict=True)
            starts = [p * s + t * d for p, s, t, d in offsets]
            part = images[:, :, *_slices(starts, steps, pooled)]
            for channel in range(images.shape[-1]):
                weight = kernels[:, *tap, channel]  # (T, F)
                total = total + part[..., channel, None] * ops.reshape(weight, [call.trials, *[1] * (axes + 1), -1])
        y = total if y is None else ops.maximum(y, total)
    if layer.use_bias:
        y = y + ops.reshape(call.weight(layer.bias), [call.trials, *[1] * (axes + 1), -1])
    return from_trials(y, call.trials)


def multiply(call: Call) -> Activation:
    """A convolution as products of matrices (T, places, window·C) and (T, window·C, F)."""
    layer, x, kernels = call.operation, call.inputs[0], call.weight(call.operation.kernel)
    patches = _patches(x.tensor if x.layout is Layout.SHARED else x.as_images().tensor, layer)
    places, size = list(patches.shape[1:-1]), int(patches.shape[-1])
    rows = ops.reshape(patches, [1 if x.layout is Layout.SHARED else call.trials, -1, size])
    y = ops.matmul(rows, ops.reshape(kernels, [call.trials, size, -1]))
    if layer.use_bias:
        y = y + ops.expand_dims(call.weight(layer.bias), 1)
    return from_trials(ops.reshape(y, [call.trials, -1, *places, y.shape[-1]]), call.trials)


def _patches(x: Tensor, layer: Any) -> Tensor:
    """The windows of a convolution over x (B, [H,] W, C): (B, [H',] W', window·C), in the order of a kernel."""
    x = _padded(x, layer, first=1)
    reach = [d * (k - 1) + 1 for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    sizes = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:-1], reach, layer.strides, strict=True)]
    taps = []
    for tap in itertools.product(*map(range, layer.kernel_size)):
        starts = [t * d for t, d in zip(tap, layer.dilation_rate, strict=True)]
        taps.append(x[:, *_slices(starts, layer.strides, sizes)])
    return ops.concatenate(taps, -1)


def _slices(starts: Sizes, steps: Sizes, sizes: Sizes) -> Iterator[slice]:
    for start, step, size in zip(starts, steps, sizes, strict=True):
        yield slice(start, start + step * (size - 1) + 1, step)


def _padded(x: Tensor, layer: Any, first: int) -> Tensor:
    """With the zeros around the axes from `first` on that TensorFlow pads for "same"."""
    if layer.padding != "same":
        return x
    pads = [[0, 0]] * first
    for n, k, s, d in zip(x.shape[first:-1], layer.kernel_size, layer.strides, layer.dilation_rate, strict=True):
        total = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
        pads.append([total // 2, total - total // 2])
    return ops.pad(x, [*pads, [0, 0]])
