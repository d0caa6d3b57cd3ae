"""From the steps of a graph to the operations of a compiled network: each kernel takes in what it can finish.

A convolution or dense layer takes the batch normalisation, addition, activation, rounding and max-pooling that follow
it, as long as nothing else reads what lies between. Features (C,), sequences (W, C) and images (H, W, C) are all
treated as (rows, columns, channels).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers as kl

from sweep.engine.compiled.kernels import Clamp, Convolution, Kernel, Pointwise, Pool, segments
from sweep.engine.graph import Graph, Step, Tensor, Unsupported
from sweep.engine.sites import Insert

Array = npt.NDArray[np.float32]
Values = Callable[[Any], Array]  # from a variable to its values (T or 1, *shape)
Pair = tuple[int, int]
Shape = tuple[int, int, int]

_IDENTITIES = {kl.Dropout, kl.SpatialDropout1D, kl.SpatialDropout2D, kl.GaussianNoise, kl.GaussianDropout}
_IDENTITIES |= {kl.ActivityRegularization, kl.Identity, kl.AlphaDropout}
_ADDITIONS = {kl.Add, type((keras.Input((1,)) + keras.Input((1,)))._keras_history.operation)}
_MAX_POOLS = {kl.MaxPooling1D, kl.MaxPooling2D}
_MEAN_POOLS = {kl.AveragePooling1D, kl.AveragePooling2D}
_GLOBAL_POOLS = {kl.GlobalMaxPooling1D, kl.GlobalMaxPooling2D}
_GLOBAL_MEANS = {kl.GlobalAveragePooling1D, kl.GlobalAveragePooling2D}
_LINEAR = Clamp()
_CLAMPS = {
    keras.activations.linear: _LINEAR,
    keras.activations.relu: Clamp(0.0),
    keras.activations.relu6: Clamp(0.0, 6.0),
    keras.activations.leaky_relu: Clamp(0.2),
}
_LARGEST_BODY = 4096  # multiply-adds written out in a row


@dataclass
class Slot:
    """The place of an activation of a block.

    Attributes:
        shape: rows, columns, channels.
        pads: zeros kept above, left, below and right of it, as its readers want.
    """

    shape: Shape
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def padded(self) -> Shape:
        """Rows, columns and channels with the zeros around."""
        (rows, columns, channels), (top, left, below, right) = self.shape, self.pads
        return rows + top + below, columns + left + right, channels

    @property
    def row(self) -> int:
        """Numbers from one row to the next."""
        return self.padded[1] * self.shape[2]

    @property
    def size(self) -> int:
        """Numbers, zeros included."""
        return self.padded[0] * self.row

    def offset(self, row: int = 0, column: int = 0, channel: int = 0) -> int:
        """Numbers before this one; negative rows and columns are zeros around the array."""
        return (self.pads[0] + row) * self.row + (self.pads[1] + column) * self.shape[2] + channel


@dataclass(frozen=True)
class Operation:
    """A kernel on slots; it is completed when the slots have their places.

    Attributes:
        kernel: with rows of 0 numbers.
        x, y: slots it reads and writes; r: another that it reads, or None.
        pack: from the values of variables to its packed weights (T or 1, numbers), if it has any.
        variables: the `id` of each variable that `pack` reads.
        x_from, y_from: where in x and y (row, column, channel) it begins; negative ones are zeros around.
        view: True for a copy that y can do without, as x under another shape.
    """

    kernel: Kernel
    x: int
    y: int
    r: int | None = None
    pack: Callable[[Values], Array] | None = None
    variables: frozenset[int] = frozenset()
    x_from: Shape = (0, 0, 0)
    y_from: Shape = (0, 0, 0)
    view: bool = False


@dataclass
class Ending:
    """What a kernel does to its results before it stores them, in this order; `y` is where they go.

    Max-pooling may stand before or after `clamp` and `insert`, which do not decrease: the order makes no difference.
    """

    y: int
    norm: Any = None
    residual: int | None = None
    clamp: Clamp = _LINEAR
    insert: Insert | None = None
    pool: Pair = (1, 1)

    @property
    def variables(self) -> list[Any]:
        """Those that its steps read."""
        return [*(self.norm.weights if self.norm is not None else []), *([self.insert] if self.insert else [])]

    def levels(self, values: Values) -> list[Array]:
        """The levels of `insert` (T or 1, 4), if there is one."""
        return [values(self.insert)] if self.insert else []


def as_image(shape: Sequence[int]) -> Shape:
    """The shape of features, a sequence or an image as (rows, columns, channels)."""
    if not 1 <= len(shape) <= 3 or any(n is None for n in shape):
        raise Unsupported(f"an activation of shape {tuple(shape)} has no compiled form")
    rows, columns, channels = (1, 1, *shape)[-3:]
    return rows, columns, channels


def both(pair: Sequence[int]) -> Pair:
    """A setting of one or two axes as (over rows, over columns)."""
    rows, columns = (1, *pair)[-2:]
    return rows, columns


class Planner:
    """Goes through the steps of a graph once and collects operations.

    Attributes:
        slots: the activations that are stored.
        operations: in order.
        output: the slot of the last one's result.
        tail: a last activation function that kernels do not know, such as softmax.
    """

    def __init__(self, graph: Graph) -> None:
        """Raises Unsupported for a step that has no compiled form."""
        self._graph = graph
        self.slots = {slot: Slot(as_image(graph.shapes[slot])) for slot in graph.boundary}
        self.operations: list[Operation] = []
        self.tail: Callable[[Tensor], Tensor] | None = None
        self._names: dict[int, int] = {}  # slots that are another slot
        self._users: dict[int, list[Step]] = {}
        for step in graph.rest:
            for slot in set(step.inputs):
                self._users.setdefault(slot, []).append(step)
        self._done: set[int] = set()
        for step in graph.rest:
            if id(step) not in self._done:
                self._plan(step)
        self.output = self._at(graph.output)
        if self.output in graph.boundary:
            raise Unsupported(f"{graph.rest[-1]} leaves nothing to compute")

    def _at(self, slot: int) -> int:
        return self._names.get(slot, slot)

    def _plan(self, step: Step) -> None:
        layer, kind = step.operation, type(step.operation)
        x, y = self._at(step.inputs[0]), step.outputs[0]
        if kind in _IDENTITIES:
            self._names[y] = x
        elif kind in (kl.Conv1D, kl.Conv2D, kl.Dense):
            self._convolve(step)
        elif kind in (kl.BatchNormalization, Insert) or kind in _ADDITIONS or self._clamp(step):
            self._pointwise(step)
        elif kind in (kl.Flatten, kl.Reshape, kl.ZeroPadding1D, kl.ZeroPadding2D, kl.Concatenate):
            self._copy(step)
        elif kind in _MAX_POOLS | _MEAN_POOLS:
            self._pool(step, both(layer.pool_size), both(layer.strides), kind in _MAX_POOLS)
        elif kind in _GLOBAL_POOLS | _GLOBAL_MEANS:
            self._pool(step, self.slots[x].shape[:2], (1, 1), kind in _GLOBAL_POOLS)
        elif kind in (kl.Activation, kl.Softmax) and y == self._graph.output:
            self._names[y], self.tail = x, layer.call
        else:
            raise Unsupported(f"{step} is not in the list of compiled layers")

    def _add(self, operation: Operation) -> None:
        self.slots.setdefault(operation.y, Slot(as_image(self._graph.shapes[operation.y])))
        self.operations.append(operation)

    def _clamp(self, step: Step) -> Clamp | None:
        """What an activation layer does, if kernels can do it."""
        layer, kind = step.operation, type(step.operation)
        if kind is kl.Activation:
            return _CLAMPS.get(layer.activation)
        if kind is kl.LeakyReLU and layer.negative_slope <= 1:
            return Clamp(float(layer.negative_slope))
        if kind is kl.ReLU and layer.threshold == 0 and layer.negative_slope <= 1:
            return Clamp(float(layer.negative_slope), None if layer.max_value is None else float(layer.max_value))
        return None

    def _other(self, step: Step, slot: int) -> int | None:
        """The second operand of an addition to `slot`, if it is computed already and has the same shape."""
        if type(step.operation) not in _ADDITIONS or len(step.inputs) != 2 or step.inputs[0] == step.inputs[1]:
            return None
        other = step.inputs[1] if step.inputs[0] == slot else step.inputs[0]
        same = self._graph.shapes[other] == self._graph.shapes[slot]
        return self._at(other) if same and self._at(other) in self.slots else None

    def _follow(self, ending: Ending, pools: bool) -> Ending:
        """Takes in the steps that alone read the result, as far as they fit the order of an ending."""
        while len(users := self._users.get(ending.y, [])) == 1 and ending.y != self._graph.output:
            step, kind = users[0], type(users[0].operation)
            free = ending.clamp == _LINEAR and ending.insert is None and ending.pool == (1, 1)
            if kind in _IDENTITIES:
                pass
            elif kind is kl.BatchNormalization and free and ending.norm is ending.residual is None:
                if not self._last_axis(step):
                    break
                ending.norm = step.operation
            elif free and ending.residual is None and (other := self._other(step, ending.y)) is not None:
                ending.residual = other
            elif ending.clamp == _LINEAR and ending.insert is None and (clamp := self._clamp(step)):
                ending.clamp = clamp
            elif kind is Insert and ending.insert is None:
                ending.insert = step.operation
            elif pools and ending.residual is None and ending.pool == (1, 1) and (pool := _tiles(step)):
                if ending.clamp.slope < 0:  # only an increasing function can wait until after the maximum
                    break
                ending.pool = pool
            else:
                break
            ending.y = step.outputs[0]
            self._done.add(id(step))
        return ending

    def _last_axis(self, step: Step) -> bool:
        return step.operation.axis in (-1, len(step.shapes[0]))

    def _convolve(self, step: Step) -> None:
        layer, x = step.operation, self._at(step.inputs[0])
        window, strides, dilation = (1, 1), (1, 1), (1, 1)
        if type(layer) is not kl.Dense:
            window, strides, dilation = both(layer.kernel_size), both(layer.strides), both(layer.dilation_rate)
            if layer.groups > 1:
                raise Unsupported(f"{step} has groups, which have no compiled form")
        rows, columns, filters = as_image(step.shapes[0])
        from_row, from_column = self._pad(step, window, strides, dilation, (rows, columns))
        channels, ending = self.slots[x].shape[2], Ending(step.outputs[0])
        if (clamp := _CLAMPS.get(layer.activation)) is not None:
            ending.clamp = clamp
            self._follow(ending, pools=True)
        elif ending.y == self._graph.output:
            self.tail = layer.activation
        else:
            raise Unsupported(f"{step} has an activation function that has no compiled form")
        norm, (ph, pw) = ending.norm, ending.pool
        size = rows // ph * ph, columns // pw * pw, channels, filters
        rounded = ending.insert is not None
        kernel = Convolution(*size, window, strides, dilation, ending.pool, 0, 0, 0, ending.clamp, rounded)
        if window[0] * window[1] * np.prod(kernel.tile) > _LARGEST_BODY:
            raise Unsupported(f"{step} has a large kernel")

        def pack(values: Values) -> Array:
            weights = values(layer.kernel).reshape(-1, *window, channels, filters)
            bias = values(layer.bias) if layer.use_bias else np.zeros((1, filters), np.float32)
            if norm is not None:
                scale, offset = _normalization(norm, values)
                weights, bias = weights * scale[:, None, None, None], bias * scale + offset
            return _side_by_side([*_pack_convolution(weights, bias, kernel.tile[2]), *ending.levels(values)])

        variables = frozenset(map(id, [*layer.weights, *ending.variables]))
        begin = (-from_row, -from_column, 0)
        self._add(Operation(kernel, x, ending.y, ending.residual, pack, variables, begin))

    def _pad(self, step: Step, window: Pair, strides: Pair, dilation: Pair, result: Pair) -> Pair:
        """Asks for the zeros around its input that a convolution reads; returns how many above and left."""
        slot, padding = self.slots[self._at(step.inputs[0])], getattr(step.operation, "padding", "valid")
        before, after = [0, 0], [0, 0]
        for axis in (0, 1):
            reach = (window[axis] - 1) * dilation[axis] + 1
            if padding == "causal" and axis == 1:
                before[1] = reach - 1
            elif padding == "same":
                total = max((result[axis] - 1) * strides[axis] + reach - slot.shape[axis], 0)
                before[axis], after[axis] = total // 2, total - total // 2
        top, left, below, right = slot.pads
        slot.pads = max(top, before[0]), max(left, before[1]), max(below, after[0]), max(right, after[1])
        return before[0], before[1]

    def _pointwise(self, step: Step) -> None:
        x, ending = self._at(step.inputs[0]), Ending(step.outputs[0])
        if type(step.operation) is kl.BatchNormalization:
            ending.norm = step.operation
            if not self._last_axis(step):
                raise Unsupported(f"{step} normalises another axis than the last")
        elif type(step.operation) in _ADDITIONS:
            ending.residual = self._other(step, step.inputs[0])
            if ending.residual is None:
                raise Unsupported(f"{step} adds something else than two activations of one shape")
        elif type(step.operation) is Insert:
            ending.insert = step.operation
        else:
            ending.clamp = self._clamp(step) or ending.clamp
        norm = self._follow(ending, pools=False).norm
        shape = self.slots[x].shape
        kernel = Pointwise(*shape, norm is not None, 0, 0, 0, shape[2], ending.clamp, ending.insert is not None)

        def pack(values: Values) -> Array:
            affine = _normalization(norm, values) if norm is not None else ()
            return _side_by_side([*affine, *ending.levels(values)])

        variables = frozenset(map(id, ending.variables))
        self._add(Operation(kernel, x, ending.y, ending.residual, pack if variables else None, variables))

    def _copy(self, step: Step) -> None:
        """Other shapes, zero padding, concatenation of channels."""
        layer, y = step.operation, step.outputs[0]
        begin, view = (0, 0, 0), type(layer) in (kl.Flatten, kl.Reshape)
        if type(layer) is kl.ZeroPadding1D:
            begin = (0, layer.padding[0], 0)
        elif type(layer) is kl.ZeroPadding2D:
            begin = (layer.padding[0][0], layer.padding[1][0], 0)
        elif type(layer) is kl.Concatenate and layer.axis not in (-1, len(step.shapes[0])):
            raise Unsupported(f"{step} concatenates along another axis than the last")
        for slot in map(self._at, step.inputs):
            shape = self.slots[slot].shape
            column = shape[2] if view else as_image(step.shapes[0])[2]
            kernel = Pointwise(*shape, False, 0, 0, 0, column, _LINEAR)
            self._add(Operation(kernel, slot, y, y_from=begin, view=view))
            begin = (*begin[:2], begin[2] + shape[2])

    def _pool(self, step: Step, window: Pair, strides: Pair, largest: bool) -> None:
        x, shape = self._at(step.inputs[0]), as_image(step.shapes[0])
        for size, n, s, w in zip(self.slots[x].shape[:2], shape[:2], strides, window, strict=True):
            if (n - 1) * s + w > size:
                raise Unsupported(f"{step} pads its input")
        kernel = Pool("max" if largest else "mean", *shape, window, strides, 0, 0)
        self._add(Operation(kernel, x, step.outputs[0]))


def _tiles(step: Step) -> Pair | None:
    """The window of a max-pooling whose windows are small and lie side by side."""
    layer = step.operation
    if type(layer) not in _MAX_POOLS or layer.padding != "valid":
        return None
    window = both(layer.pool_size)
    return window if window == both(layer.strides) and window[0] * window[1] <= 9 else None


def _normalization(layer: Any, values: Values) -> tuple[Array, Array]:
    """Scale and offset (T or 1, C) that a BatchNormalization amounts to."""
    scale: Array = 1 / np.sqrt(values(layer.moving_variance) + np.float32(layer.epsilon))
    if layer.scale:
        scale = scale * values(layer.gamma)
    offset = -values(layer.moving_mean) * scale
    return scale, offset + values(layer.beta) if layer.center else offset


def _pack_convolution(kernel: Array, bias: Array, filters: int) -> list[Array]:
    """Kernels (T or 1, kh, kw, C, F) and biases (T or 1, F), in the parts and the order that `Convolution` reads."""
    parts = []
    for first, groups, size in segments(kernel.shape[-1], filters):
        part = kernel[..., first : first + groups * size].reshape(*kernel.shape[:-1], groups, size)
        parts.append(part.transpose(0, 4, 3, 1, 2, 5).reshape(len(kernel), -1))
    return [*parts, bias]


def _side_by_side(parts: Sequence[Array]) -> Array:
    """Arrays (T or 1, n) as one (T or 1, sum of n)."""
    trials = max(map(len, parts))
    return np.concatenate([np.broadcast_to(part, (trials, part.shape[1])) for part in parts], 1)


def complete(kernel: Kernel, x: Slot, y: Slot, r: Slot | None, lanes: int) -> Kernel:
    """The kernel, now that the rows of its arrays are known."""
    if isinstance(kernel, Pool):
        return replace(kernel, x_row=x.row * lanes, y_row=y.row * lanes)
    r_row = r.row * lanes if r else 0
    if isinstance(kernel, Pointwise):
        column = kernel.y_column * lanes
        return replace(kernel, x_row=x.row * lanes, y_row=y.row * lanes, r_row=r_row, y_column=column)
    return replace(kernel, x_row=x.row * lanes, y_row=y.row * lanes, r_row=r_row)
