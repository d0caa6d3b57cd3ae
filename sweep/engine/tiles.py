"""Layers as matrices that are cut into arrays: the sums of each array, and what these are in the clean network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from keras import layers as kl
from keras import ops

from sweep.engine.sites import Site
from sweep.perturb.tiles import HEAD, split

Tensor = Any
CONVOLUTIONS = (kl.Conv1D, kl.Conv2D, kl.Conv3D, kl.DepthwiseConv1D, kl.DepthwiseConv2D)
KNOWN = (kl.Dense, *CONVOLUTIONS)
SAMPLED = 2**14  # sums of an image that are sampled


def refusal(layer: Any) -> str:
    """Why a layer has no arrays, in words; empty where it has."""
    text = f"layer {layer.name} ({type(layer).__name__})"
    without = f'; leave it out: layers = "!{layer.name}"'
    if type(layer) not in KNOWN:
        return f"{text} is no single matrix, as {', '.join(kind.__name__ for kind in KNOWN)} are{without}"
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return f"{text} has its channels first{without}"
    if getattr(layer, "quantization_mode", None):
        return f"{text} is quantized{without}"
    return ""


def groups_of(layer: Any) -> int:
    """How many matrices a layer is, each of a part of its inputs."""
    if isinstance(layer, kl.DepthwiseConv1D | kl.DepthwiseConv2D):
        return int(layer.kernel.shape[-2])
    return int(getattr(layer, "groups", 1))


def columns_of(layer: Any) -> int:
    """Outputs of all matrices of a layer, together."""
    depthwise = isinstance(layer, kl.DepthwiseConv1D | kl.DepthwiseConv2D)
    return int(math.prod(layer.kernel.shape[-2:]) if depthwise else layer.kernel.shape[-1])


def arrays_of(layer: Any, site: Site) -> list[int]:
    """Rows of each array that shares an output; of digital pairs those of both sides."""
    rows = split(math.prod(layer.kernel.shape) // columns_of(layer), site.rows)
    return rows * 2 if site.digital else rows


def values_at(layer: Any, site: Site) -> int:
    """What a place of the output takes: what all rows are handed, or the sums of all arrays."""
    rows = math.prod(layer.kernel.shape) // columns_of(layer) * groups_of(layer)
    return int(max(rows, len(arrays_of(layer, site)) * columns_of(layer)))


def sums(layer: Any, x: Tensor, site: Site) -> Iterator[tuple[float, Tensor]]:
    """What each array of a layer gives: whether it is to be added, 1, or subtracted, -1; and (B, ..., columns).

    Args:
        layer: without a `refusal`.
        x: (B, ..., channels) that it is handed.
        site: says the rows.
    """
    x = ops.cast(x, "float32")
    kernel = ops.cast(ops.convert_to_tensor(layer.kernel), "float32")
    groups, columns, sides = groups_of(layer), columns_of(layer), 1 + site.digital
    matrix = ops.reshape(kernel, [-1, groups, columns // groups])
    windows = _windows(layer, x)
    middle, channels = windows[0].shape[1:-1], windows[0].shape[-1] // groups
    rows = arrays_of(layer, site)
    ends = list(itertools.accumulate(rows[: len(rows) // sides]))
    seen = [_rows(windows, begin, end, groups, channels) for begin, end in itertools.pairwise([0, *ends])]
    for side in range(sides):
        weights = ops.relu(matrix * (-1.0 if side else 1.0)) if site.digital else matrix
        for (begin, end), inputs in zip(itertools.pairwise([0, *ends]), seen, strict=True):
            y = _product(inputs, weights[begin:end])
            yield (-1.0 if side else 1.0), ops.reshape(y, [-1, *middle, columns])


def _product(inputs: Tensor, weights: Tensor) -> Tensor:
    """(n, groups, columns) for inputs (n, groups, rows) and weights (rows, groups, columns)."""
    if inputs.shape[1] == 1:
        return ops.matmul(inputs[:, 0], weights[:, 0])
    y = ops.matmul(ops.transpose(inputs, [1, 0, 2]), ops.transpose(weights, [1, 0, 2]))
    return ops.transpose(y, [1, 0, 2])


def _rows(windows: Sequence[Tensor], begin: int, end: int, groups: int, channels: int) -> Tensor:
    """(B·places, groups, rows) what the rows of an array are handed."""
    parts = []
    for place in range(begin // channels, -(-end // channels)):
        first, last = max(begin - place * channels, 0), min(end - place * channels, channels)
        parts.append(ops.reshape(windows[place], [-1, groups, channels])[:, :, first:last])
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, -1)


def _windows(layer: Any, x: Tensor) -> list[Tensor]:
    """What each place of the window of a layer sees: (B, ..., channels) for each."""
    if isinstance(layer, kl.Dense):
        return [x]
    sizes, strides, dilations = layer.kernel_size, layer.strides, layer.dilation_rate
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(sizes, dilations, strict=True)]
    before = [0] * len(sizes)
    after = list(before)
    if layer.padding == "causal":
        before = [span - 1 for span in spans]
    elif layer.padding == "same":
        around = zip(x.shape[1:-1], spans, strides, strict=True)
        missing = [max((-(-length // stride) - 1) * stride + span - length, 0) for length, span, stride in around]
        before = [m // 2 for m in missing]
        after = [m - m // 2 for m in missing]
    x = ops.pad(x, [[0, 0], *zip(before, after, strict=True), [0, 0]])
    counts = [(n - span) // stride + 1 for n, span, stride in zip(x.shape[1:-1], spans, strides, strict=True)]
    found = []
    for place in itertools.product(*map(range, sizes)):
        along = zip(place, dilations, strides, counts, strict=True)
        index = [slice(p * d, p * d + (count - 1) * stride + 1, stride) for p, d, stride, count in along]
        found.append(x[(slice(None), *index)])
    return found


def observe(layer: Any, x: Tensor, site: Site) -> Tensor:
    """What the arrays of a layer give, for `Sums.of`.

    Returns:
        (B, HEAD + places, arrays, columns) for each image the smallest sum, the largest one, the largest that could be,
        and sums at some places, evenly spaced.
    """
    found = ops.stack([y for _, y in sums(layer, x, site)], -2)
    *middle, arrays, columns = found.shape[1:]
    places = math.prod(middle)
    found = ops.reshape(found, [-1, places, arrays, columns])
    count = min(places, max(1, SAMPLED // (arrays * columns)))
    chosen = ops.take(found, [k * places // count for k in range(count)], axis=1)
    kernel = ops.cast(ops.convert_to_tensor(layer.kernel), "float32")
    axes = list(range(1, len(x.shape)))
    inputs = ops.reshape(ops.max(ops.abs(ops.cast(x, "float32")), axes), [-1, 1, 1, 1])
    rows = ops.reshape(ops.convert_to_tensor(np.array(arrays_of(layer, site), np.float32)), [1, 1, arrays, 1])
    worst = ops.tile(inputs * rows * ops.max(ops.abs(kernel)), [1, 1, 1, columns])
    return ops.concatenate([ops.min(found, 1, keepdims=True), ops.max(found, 1, keepdims=True), worst, chosen], 1)


def joined(uses: Sequence[Tensor]) -> Tensor:
    """What `observe` gave for each use of a layer, as of one."""
    if len(uses) == 1:
        return uses[0]
    lowest, *highest = (
        function(ops.stack([use[:, k] for use in uses]), 0) for k, function in enumerate((ops.min, ops.max, ops.max))
    )
    return ops.concatenate([ops.stack([lowest, *highest], 1), *(use[:, HEAD:] for use in uses)], 1)
