"""What a graph is lowered to: kernels on slots, and how their weights are packed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep.engine.compiled.functions import LINEAR
from sweep.engine.compiled.kernels import Function, Kernel, segments
from sweep.engine.compiled.slots import Pair
from sweep.engine.extremes import SMALLEST
from sweep.engine.sites import Insert

Array = npt.NDArray[np.float32]
Values = Callable[[Any], npt.NDArray[Any]]  # from a variable to its values (T or 1, *shape)


@dataclass(frozen=True)
class Operation:
    """A kernel on slots.

    Attributes:
        kernel: what it does.
        x, y: slots it reads and writes; r: another that it reads, or None.
        x_from, y_from, r_from: where in them it begins, in floats.
        pack: from the values of variables to its packed weights (T or 1, floats), if it has any.
        variables: those that `pack` reads, by their numbers in the graph.
        rearranges: whether `pack` gives these values in another order, with zeros among them, and computes nothing.
        fills: whether it writes all of y; zero padding and concatenation do not.
    """

    kernel: Kernel
    x: int
    y: int
    x_from: int
    y_from: int
    r: int | None = None
    r_from: int = 0
    pack: Callable[[Values], Array] | None = None
    variables: frozenset[int] = frozenset()
    rearranges: bool = False
    fills: bool = True


@dataclass
class Epilogue:
    """What a kernel does to its results before it stores them, in this order; `y` is where they go.

    Max-pooling may stand before or after `clamp` and `insert`, which do not decrease: the order makes no difference.
    """

    y: int
    norm: Any = None
    residual: int | None = None
    clamp: Function = LINEAR
    insert: Insert | None = None
    pool: Pair = (1, 1)

    @property
    def variables(self) -> list[Any]:
        """Those that its steps read."""
        return [*(self.norm.weights if self.norm is not None else []), *([self.insert] if self.insert else [])]

    def levels(self, values: Values) -> list[Array]:
        """The levels of `insert` (T or 1, 4), if there is one."""
        return [values(self.insert)] if self.insert else []


def normalization(layer: Any, values: Values) -> tuple[Array, Array]:
    """Scale and offset (T or 1, C) that a BatchNormalization amounts to."""
    variance = values(layer.moving_variance) + np.float32(layer.epsilon)
    scale: npt.NDArray[Any] = 1 / np.sqrt(np.maximum(variance, np.float32(SMALLEST)))  # below, Keras's own pass decides
    if layer.scale:
        scale = scale * values(layer.gamma)
    offset = -values(layer.moving_mean) * scale
    return scale, offset + values(layer.beta) if layer.center else offset


def pack_convolution(kernel: Array, bias: Array, filters: int, groups: int) -> Array:
    """Kernels (T or 1, kh, kw, C, F) and biases (T or 1, F), in the parts and the order that `Convolution` reads.

    C is channels of a group, F filters of all groups one after the other. The filters of a tile are moved as one item:
    wide networks have millions of weights in each trial.
    """
    trials, count, own = max(len(kernel), len(bias)), kernel[0].size, kernel.shape[-1] // groups
    kernel = np.ascontiguousarray(kernel).reshape(*kernel.shape[:-1], groups, own)
    out = np.empty((trials, count + bias.shape[1]), kernel.dtype)
    out[:, count:] = bias
    places, begin = out[:, :count].reshape(trials, groups, -1), 0
    for first, repeats, size in segments(own, filters):
        item = np.dtype((np.void, size * kernel.itemsize))
        part = kernel[..., first : first + repeats * size].view(item).transpose(0, 4, 5, 3, 1, 2)
        end = begin + part[0, 0].size * size
        places[..., begin:end].view(item).reshape(trials, *part.shape[1:])[...] = part
        begin = end
    return out


def side_by_side(parts: Sequence[Array]) -> Array:
    """Arrays (T or 1, n) as one (T or 1, sum of n)."""
    if len(parts) == 1:
        return parts[0]
    trials = max(map(len, parts))
    return np.concatenate([np.broadcast_to(part, (trials, part.shape[1])) for part in parts], 1)
