"""From the steps of a graph to the operations of a compiled network: each kernel takes in what it can finish.

A convolution or dense layer takes the batch normalisation, addition, activation, rounding and max-pooling that follow
it, as long as nothing else reads what lies between. Features (C,), sequences (W, C) and images (H, W, C) are all
treated as (rows, columns, channels).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers as kl

from sweep.assembly import lanes
from sweep.engine.compiled.kernels import LARGEST_BODY, Clamp, Convolution, Kernel, Pointwise
from sweep.engine.compiled.operations import (
    LINEAR,
    Array,
    Epilogue,
    Operation,
    Values,
    normalization,
    pack_convolution,
    side_by_side,
)
from sweep.engine.compiled.pooling import Pool
from sweep.engine.compiled.slots import NO_PADS, Pair, Shape, Slot, as_image, both, read_pads, wanted_pads
from sweep.engine.compiled.tuning import best_known
from sweep.engine.graph import IDENTITIES, Graph, Unsupported
from sweep.engine.sites import Insert
from sweep.engine.steps import Step, Tensor

_ADDITIONS = {kl.Add, type((keras.Input((1,)) + keras.Input((1,)))._keras_history.operation)}
_MAX_POOLS = {kl.MaxPooling1D, kl.MaxPooling2D}
_MEAN_POOLS = {kl.AveragePooling1D, kl.AveragePooling2D}
_GLOBAL_POOLS = {kl.GlobalMaxPooling1D, kl.GlobalMaxPooling2D}
_GLOBAL_MEANS = {kl.GlobalAveragePooling1D, kl.GlobalAveragePooling2D}
_CLAMPS = {
    keras.activations.linear: LINEAR,
    keras.activations.relu: Clamp(0.0),
    keras.activations.relu6: Clamp(0.0, 6.0),
    keras.activations.leaky_relu: Clamp(0.2),
}


class Lowering:
    """The steps of a graph as operations.

    Attributes:
        slots: the activations that are stored.
        operations: in order.
        views: slots that are the array of another under another shape, by that other.
        output: the slot of the last one's result.
        tail: a last activation function that kernels do not know, such as softmax.
    """

    def __init__(self, graph: Graph) -> None:
        """Raises Unsupported for a step that has no compiled form."""
        self._graph = graph
        self._pads = wanted_pads(graph)
        self.slots: dict[int, Slot] = {}
        for slot in graph.boundary:
            self._slot(slot)
        self.views: dict[int, int] = {}
        self.operations: list[Operation] = []
        self.tail: Callable[[Tensor], Tensor] | None = None
        self._names: dict[int, int] = {}  # slots that are another slot
        self._users: dict[int, list[Step]] = {}
        for step in graph.rest:
            for slot in set(step.inputs):
                self._users.setdefault(slot, []).append(step)
        self._fused: set[int] = set()  # slots of which an earlier kernel takes care
        for step in graph.rest:
            if step.outputs[0] not in self._fused:
                self._lower(step)
        self.output = self._at(graph.output)
        if self.output in graph.boundary:
            raise Unsupported(f"{graph.rest[-1]} leaves nothing to compute")
        self.views.pop(self.output, None)  # which has an array of its own
        self.operations = [operation for operation in self.operations if operation.y not in self.views]

    def _at(self, slot: int) -> int:
        return self._names.get(slot, slot)

    def _slot(self, number: int) -> Slot:
        """The slot of this number, which is stored from now on."""
        shape, pads = as_image(self._graph.shapes[number]), self._pads.get(number, NO_PADS)
        return self.slots.setdefault(number, Slot(shape, pads))

    def _lower(self, step: Step) -> None:
        layer, kind = step.operation, type(step.operation)
        x, y = self._at(step.inputs[0]), step.outputs[0]
        if kind in IDENTITIES:
            self._names[y] = x
        elif kind in (kl.Conv1D, kl.Conv2D, kl.Dense):
            self._convolve(step)
        elif kind in (kl.BatchNormalization, Insert) or kind in _ADDITIONS or self._clamp(step):
            self._pointwise(step)
        elif kind in (kl.Flatten, kl.Reshape):
            self._reshape(step)
        elif kind in (kl.ZeroPadding1D, kl.ZeroPadding2D, kl.Concatenate):
            self._copy(step)
        elif kind in _MAX_POOLS | _MEAN_POOLS:
            self._pool(step, both(layer.pool_size), both(layer.strides), kind in _MAX_POOLS)
        elif kind in _GLOBAL_POOLS | _GLOBAL_MEANS:
            self._pool(step, self.slots[x].shape[:2], (1, 1), kind in _GLOBAL_POOLS)
        elif kind in (kl.Activation, kl.Softmax) and y == self._graph.output:
            softmax = kind is kl.Softmax and layer.axis == -1
            self._names[y] = x
            self.tail = keras.activations.softmax if softmax else getattr(layer, "activation", layer.call)
        else:
            raise Unsupported(f"{step} is not in the list of compiled layers")

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

    def _fuse(self, epilogue: Epilogue, pools: bool) -> Epilogue:
        """Takes in the steps that alone read the result, as far as they fit the order of an epilogue."""
        while len(users := self._users.get(epilogue.y, [])) == 1 and epilogue.y != self._graph.output:
            step, kind = users[0], type(users[0].operation)
            free = epilogue.clamp == LINEAR and epilogue.insert is None and epilogue.pool == (1, 1)
            if kind in IDENTITIES:
                pass
            elif kind is kl.BatchNormalization and free and epilogue.norm is epilogue.residual is None:
                if not self._last_axis(step):
                    break
                epilogue.norm = step.operation
            elif free and epilogue.residual is None and (other := self._other(step, epilogue.y)) is not None:
                epilogue.residual = other
            elif epilogue.clamp == LINEAR and epilogue.insert is None and (clamp := self._clamp(step)):
                epilogue.clamp = clamp
            elif kind is Insert and epilogue.insert is None:
                epilogue.insert = step.operation
            elif pools and epilogue.residual is None and epilogue.pool == (1, 1) and (pool := _tiles(step)):
                if epilogue.clamp.slope < 0:  # only an increasing function can wait until after the maximum
                    break
                epilogue.pool = pool
            else:
                break
            epilogue.y = step.outputs[0]
            self._fused.add(epilogue.y)
        return epilogue

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
        channels, epilogue = self.slots[x].shape[2], Epilogue(step.outputs[0])
        if (clamp := _CLAMPS.get(layer.activation)) is not None:
            epilogue.clamp = clamp
            self._fuse(epilogue, pools=True)
        elif epilogue.y == self._graph.output:
            self.tail = layer.activation
        else:
            raise Unsupported(f"{step} has an activation function that has no compiled form")
        norm, (ph, pw) = epilogue.norm, epilogue.pool
        size = rows // ph * ph, columns // pw * pw, channels, filters
        rows_of = self._rows(x, epilogue.y, epilogue.residual)
        shape = *size, window, strides, dilation, epilogue.pool
        kernel = best_known(Convolution(*shape, *rows_of, epilogue.clamp, epilogue.insert is not None))
        if kernel.body(kernel.tile) > LARGEST_BODY:
            raise Unsupported(f"{step} has a large kernel")

        def pack(values: Values) -> Array:
            weights = values(layer.kernel).reshape(-1, *window, channels, filters)
            bias = values(layer.bias) if layer.use_bias else np.zeros((1, filters), np.float32)
            if norm is not None:
                scale, offset = normalization(norm, values)
                weights, bias = weights * scale[:, None, None, None], bias * scale + offset
            return side_by_side([*pack_convolution(weights, bias, kernel.tile[2]), *epilogue.levels(values)])

        top, left, *_ = read_pads(step, self._graph.shapes)
        variables = [*layer.weights, *epilogue.variables]
        self._add(kernel, x, epilogue.y, epilogue.residual, (-top, -left), pack, variables, norm is None)

    def _pointwise(self, step: Step) -> None:
        x, epilogue = self._at(step.inputs[0]), Epilogue(step.outputs[0])
        if type(step.operation) is kl.BatchNormalization:
            epilogue.norm = step.operation
            if not self._last_axis(step):
                raise Unsupported(f"{step} normalises another axis than the last")
        elif type(step.operation) in _ADDITIONS:
            epilogue.residual = self._other(step, step.inputs[0])
            if epilogue.residual is None:
                raise Unsupported(f"{step} adds something else than two activations of one shape")
        elif type(step.operation) is Insert:
            epilogue.insert = step.operation
        else:
            epilogue.clamp = self._clamp(step) or epilogue.clamp
        norm, shape = self._fuse(epilogue, pools=False).norm, self.slots[x].shape
        rows, column = self._rows(x, epilogue.y, epilogue.residual), shape[2] * lanes()
        kernel = Pointwise(*shape, norm is not None, *rows, column, epilogue.clamp, epilogue.insert is not None)

        def pack(values: Values) -> Array:
            affine = normalization(norm, values) if norm is not None else ()
            return side_by_side([*affine, *epilogue.levels(values)])

        variables = epilogue.variables
        pack_any = pack if variables else None
        self._add(kernel, x, epilogue.y, epilogue.residual, (0, 0), pack_any, variables, norm is None)

    def _reshape(self, step: Step) -> None:
        """The same numbers under another shape: copied only where zeros stand around them."""
        x, y = self._at(step.inputs[0]), step.outputs[0]
        before, after = self.slots[x], self._slot(y)
        if any(before.pads) and any(after.pads):
            raise Unsupported("an activation is padded both before and after it is reshaped")
        if not any(before.pads + after.pads):
            self.views[y] = x
        # Both in the shape of the one that has zeros around it.
        padded = before if any(before.pads) else after
        rows = (padded.row, Slot(padded.shape).row) if padded is before else (Slot(padded.shape).row, padded.row)
        self._add(Pointwise(*padded.shape, False, *rows, 0, padded.shape[2] * lanes(), LINEAR), x, y)

    def _copy(self, step: Step) -> None:
        """Zero padding, concatenation of channels."""
        layer, y, (row, column) = step.operation, step.outputs[0], (0, 0)
        if type(layer) is kl.ZeroPadding1D:
            column = layer.padding[0]
        elif type(layer) is kl.ZeroPadding2D:
            row, column = layer.padding[0][0], layer.padding[1][0]
        elif layer.axis not in (-1, len(step.shapes[0])):
            raise Unsupported(f"{step} concatenates along another axis than the last")
        channel, step_of_y = 0, self._slot(y).shape[2] * lanes()
        for x in map(self._at, step.inputs):
            shape = self.slots[x].shape
            kernel = Pointwise(*shape, False, *self._rows(x, y, None), step_of_y, LINEAR)
            self._add(kernel, x, y, y_from=(row, column, channel), fills=False)
            channel += shape[2]

    def _pool(self, step: Step, window: Pair, strides: Pair, largest: bool) -> None:
        x, shape = self._at(step.inputs[0]), as_image(step.shapes[0])
        for size, n, s, w in zip(self.slots[x].shape[:2], shape[:2], strides, window, strict=True):
            if (n - 1) * s + w > size:
                raise Unsupported(f"{step} pads its input")
        rows = self.slots[x].row, self._slot(step.outputs[0]).row
        self._add(Pool("max" if largest else "mean", *shape, window, strides, *rows), x, step.outputs[0])

    def _rows(self, x: int, y: int, r: int | None) -> tuple[int, int, int]:
        """Floats from one row to the next of the arrays of a kernel; 0 for none."""
        return self.slots[x].row, self._slot(y).row, 0 if r is None else self.slots[r].row

    def _add(
        self,
        kernel: Kernel,
        x: int,
        y: int,
        r: int | None = None,
        x_from: Pair = (0, 0),
        pack: Callable[[Values], Array] | None = None,
        variables: Sequence[Any] = (),
        rearranges: bool = False,
        y_from: Shape = (0, 0, 0),
        fills: bool = True,
    ) -> None:
        """An operation more: see `Operation`, places in its slots being (row, column, channel)."""
        begins = self.slots[x].offset(*x_from), self.slots[y].offset(*y_from)
        r_from = 0 if r is None else self.slots[r].offset()
        numbers = frozenset(self._graph.number(v) for v in variables)
        self.operations.append(Operation(kernel, x, y, *begins, r, r_from, pack, numbers, rearranges, fills))


def _tiles(step: Step) -> Pair | None:
    """The window of a max-pooling whose windows are small and lie side by side."""
    layer = step.operation
    if type(layer) not in _MAX_POOLS or layer.padding != "valid":
        return None
    window = both(layer.pool_size)
    return window if window == both(layer.strides) and window[0] * window[1] <= 9 else None
