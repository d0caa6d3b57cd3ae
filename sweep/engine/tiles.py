"""Layers as matrices that are cut into arrays: the sums of each array, and what these are in the clean network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from keras import layers as kl
from keras import ops

from sweep.engine.sites import Site
from sweep.engine.tensors import convolve
from sweep.perturb.tiles import HEAD, split

Tensor = Any
CONVOLUTIONS = (kl.Conv1D, kl.Conv2D, kl.Conv3D, kl.DepthwiseConv1D, kl.DepthwiseConv2D)
KNOWN = (kl.Dense, *CONVOLUTIONS)
SAMPLED = 2**12  # sums of an image that are sampled


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
    """How many sums there are at a place of the output."""
    return len(arrays_of(layer, site)) * columns_of(layer)


def sums(layer: Any, x: Tensor, site: Site) -> Iterator[tuple[float, Tensor]]:
    """What each array of a layer gives: whether it is to be added, 1, or subtracted, -1; and (B, ..., columns).

    Args:
        layer: without a `refusal`.
        x: (B, ..., channels) that it is handed.
        site: says the rows.
    """
    x = ops.cast(x, "float32")
    kernel = ops.cast(ops.convert_to_tensor(layer.kernel), "float32")
    if not isinstance(layer, kl.Dense):
        x = _padded(layer, x)
    for side in (1.0, -1.0)[: 1 + site.digital]:
        weights = ops.relu(kernel * side) if site.digital else kernel
        begin = 0
        for rows in split(math.prod(kernel.shape) // columns_of(layer), site.rows):
            yield side, _product(layer, x, weights, range(begin, begin + rows))
            begin += rows


def _padded(layer: Any, x: Tensor) -> Tensor:
    """What a convolution is handed, with what it puts around it, so that "valid" is all that is left to do."""
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    if layer.padding == "causal":
        return ops.pad(x, [[0, 0], [spans[0] - 1, 0], [0, 0]])
    if layer.padding == "valid":
        return x
    around = zip(x.shape[1:-1], spans, layer.strides, strict=True)
    missing = [max((-(-length // stride) - 1) * stride + span - length, 0) for length, span, stride in around]
    return ops.pad(x, [[0, 0], *([m // 2, m - m // 2] for m in missing), [0, 0]])


def _product(layer: Any, x: Tensor, kernel: Tensor, rows: range) -> Tensor:
    """The sums of some rows of a layer's matrix: of the smallest part of its window that has them, the others 0."""
    if isinstance(layer, kl.Dense):
        return ops.matmul(x[..., rows.start : rows.stop], kernel[rows.start : rows.stop])
    depthwise = isinstance(layer, kl.DepthwiseConv1D | kl.DepthwiseConv2D)
    shape = layer.kernel_size if depthwise else kernel.shape[:-1]  # a row for each of these
    within = _box(shape, rows)
    if depthwise or groups_of(layer) > 1:  # all channels, whichever group they are of
        within[len(layer.kernel_size) :] = [range(kernel.shape[-2])]
    own = np.isin(np.arange(math.prod(shape)), rows).astype(np.float32).reshape(shape)
    mask = own[..., None, None] if depthwise else own[..., None]
    part = tuple(slice(r.start, r.stop) for r in within)
    box = mask[part[:-1]] if depthwise else mask[part]
    weights = kernel[part] if box.all() else kernel[part] * box
    seen = [slice(None)]
    sides = zip(within, x.shape[1:-1], layer.kernel_size, layer.strides, layer.dilation_rate, strict=False)
    for places, length, size, stride, dilation in sides:
        count = (length - (size - 1) * dilation - 1) // stride + 1
        first = places.start * dilation
        seen.append(slice(first, first + (count - 1) * stride + (len(places) - 1) * dilation + 1))
    channels = slice(None) if depthwise or groups_of(layer) > 1 else part[-1]
    handed = x[(*seen, channels)]
    how = tuple(layer.strides), "valid", tuple(layer.dilation_rate)
    if depthwise:
        return ops.depthwise_conv(handed, weights, how[0], "valid", "channels_last", how[2])
    if isinstance(layer, kl.Conv3D):
        return ops.conv(handed, weights, how[0], "valid", "channels_last", how[2])
    return convolve(handed, weights, *how)


def _box(shape: Sequence[int], rows: range) -> list[range]:
    """Along each axis of an array of this shape, what all its elements of these numbers lie within."""
    first, last = (np.unravel_index(number, shape) for number in (rows.start, rows.stop - 1))
    same = next((axis for axis in range(len(shape)) if first[axis] != last[axis]), len(shape))
    whole = [range(size) for size in shape[same + 1 :]]
    return [range(int(a), int(b) + 1) for a, b in zip(first[: same + 1], last[: same + 1], strict=True)] + whole


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
