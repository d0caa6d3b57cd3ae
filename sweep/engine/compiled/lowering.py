"""From the steps of a graph to the operations of a compiled network: each kernel takes in what it can finish.

A convolution or dense layer takes the batch normalisation, addition, activation, rounding and max-pooling that follow
it, as long as nothing else reads what lies between. Features (C,), sequences (W, C) and images (H, W, C) are all
treated as (rows, columns, channels).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import layers as kl

from sweep.assembly import lanes
from sweep.engine.compiled.functions import LINEAR, OPERATORS, Curve, function_at, function_of
from sweep.engine.compiled.kernels import LARGEST_BODY, Convolution, Function, Grouped, Kernel, Pointwise
from sweep.engine.compiled.merging import Combination, Merge
from sweep.engine.compiled.operations import (
    Array,
    Epilogue,
    Operation,
    Values,
    normalization,
    pack_convolution,
    side_by_side,
)
from sweep.engine.compiled.pooling import Pool
from sweep.engine.compiled.slots import (
    NO_PADS,
    Pair,
    Shape,
    Slot,
    as_image,
    both,
    padded_before,
    read_pads,
    wanted_pads,
)
from sweep.engine.compiled.tuning import best_known
from sweep.engine.graph import IDENTITIES, Graph, Unsupported
from sweep.engine.sites import Insert
from sweep.engine.steps import Step, Tensor

_MAX_POOLS = {kl.MaxPooling1D, kl.MaxPooling2D}
_MEAN_POOLS = {kl.AveragePooling1D, kl.AveragePooling2D}
_GLOBAL_POOLS = {kl.GlobalMaxPooling1D, kl.GlobalMaxPooling2D}
_GLOBAL_MEANS = {kl.GlobalAveragePooling1D, kl.GlobalAveragePooling2D}
_DEPTHWISE = {kl.DepthwiseConv1D, kl.DepthwiseConv2D}
_SEPARABLE = {kl.SeparableConv1D, kl.SeparableConv2D}
_MERGES: dict[type, Combination] = {
    **{kl.Add: "fadd", kl.Subtract: "fsub", kl.Multiply: "fmul", kl.Maximum: "max", kl.Minimum: "min"},
    **OPERATORS,
}
_ADDITIONS = {kind for kind, combination in _MERGES.items() if combination == "fadd"}
_AT_ONE: tuple[Pair, Pair, Pair] = (1, 1), (1, 1), (1, 1)  # window, strides and dilation


class Lowering:
    """The steps of a graph as operations.

    Attributes:
        slots: the activations that are stored.
        operations: in order.
        views: slots that are the array of another under another shape, by that other.
        output: the slot of the last one's result.
        beyond: whether there are layers that were not compiled from the first.
        tail: a last activation function that kernels do not know, such as softmax.
    """

    def __init__(self, graph: Graph, more: bool = True) -> None:
        """Lowers a graph; `more` as for `CompiledNetwork`. Raises Unsupported for a step that has no compiled form."""
        self._graph, self._more = graph, more
        self.beyond = False
        self._padded = padded_before(graph) if more else {}
        self._pads = wanted_pads(graph, self._padded)
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
        if number not in self.slots:
            self.slots[number] = Slot(as_image(self._graph.shapes[number]), self._pads.get(number, NO_PADS))
        return self.slots[number]

    def _lower(self, step: Step) -> None:
        layer, kind = step.operation, type(step.operation)
        x, y = self._at(step.inputs[0]), step.outputs[0]
        if kind in IDENTITIES:
            self._names[y] = x
        elif kind in (kl.Conv1D, kl.Conv2D, kl.Dense):
            self._convolve(step)
        elif kind in _DEPTHWISE | _SEPARABLE:
            self._need_more(step)
            self._convolve(step)
        elif kind in (kl.BatchNormalization, Insert) or self._function(step) or self._adds(step):
            self._pointwise(step)
        elif kind in _MERGES:
            self._merge(step)
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

    def _need_more(self, step: Step) -> None:
        if not self._more:
            raise Unsupported(f"{step} is compiled only where nothing but decisions is asked for")
        self.beyond = True

    def _function(self, step: Step) -> Function | None:
        """What an activation layer does, if kernels can do it; a last one is left to `tail`."""
        last = type(step.operation) is kl.Activation and step.outputs[0] == self._graph.output
        return self._noted(function_at(step, curves=self._more and not last))

    def _noted(self, function: Function | None) -> Function | None:
        self.beyond |= isinstance(function, Curve)
        return function

    def _adds(self, step: Step) -> bool:
        return self._other(step, step.inputs[0]) is not None

    def _other(self, step: Step, slot: int) -> int | None:
        """The second operand of an addition to `slot`, if it is computed already and has the same shape."""
        if type(step.operation) not in _ADDITIONS or len(step.inputs) != 2 or step.inputs[0] == step.inputs[1]:
            return None
        other = step.inputs[1] if step.inputs[0] == slot else step.inputs[0]
        same = self._graph.shapes[other] == self._graph.shapes[slot]
        return self._at(other) if same and self._at(other) in self.slots else None

    def _fuse(self, epilogue: Epilogue, pools: bool, sums: bool = True) -> Epilogue:
        """Takes in the steps that alone read the result, as far as they fit the order of an epilogue.

        Of a kernel that can pool, or not; and that can normalise, add and round, or not.
        """
        while len(users := self._users.get(epilogue.y, [])) == 1 and epilogue.y != self._graph.output:
            step, kind = users[0], type(users[0].operation)
            free = sums and epilogue.clamp == LINEAR and epilogue.insert is None and epilogue.pool == (1, 1)
            if kind in IDENTITIES:
                pass
            elif kind is kl.BatchNormalization and free and epilogue.norm is epilogue.residual is None:
                if not self._last_axis(step):
                    break
                epilogue.norm = step.operation
            elif free and epilogue.residual is None and (other := self._other(step, epilogue.y)) is not None:
                epilogue.residual = other
            elif epilogue.clamp == LINEAR and epilogue.insert is None and (clamp := self._function(step)):
                epilogue.clamp = clamp
            elif kind is Insert and sums and epilogue.insert is None:
                epilogue.insert = step.operation
            elif pools and epilogue.residual is None and epilogue.pool == (1, 1) and (pool := _tiles(step)):
                if not epilogue.clamp.increases:  # only an increasing function can wait until after the maximum
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
        """A convolution of any kind, or a dense layer."""
        layer, kind, x = step.operation, type(step.operation), self._at(step.inputs[0])
        epilogue = Epilogue(step.outputs[0])
        last = epilogue.y == self._graph.output
        function = self._noted(function_of(layer.activation, self._more and not last))
        if function is not None:
            epilogue.clamp = function
            self._fuse(epilogue, pools=True)
        elif last:
            self.tail = layer.activation
        else:
            raise Unsupported(f"{step} has an activation function that has no compiled form")
        rows, columns, _ = as_image(step.shapes[0])
        bias = layer.bias if layer.use_bias else None
        slide, begin = _AT_ONE, (0, 0)
        if kind is not kl.Dense:
            slide = both(layer.kernel_size), both(layer.strides), both(layer.dilation_rate)
            top, left, *_ = read_pads(step, self._graph.shapes)
            row, column = self._padded.get(step.inputs[0], (0, 0))
            begin = -top - row, -left - column
        groups = self.slots[x].shape[2] if kind in _DEPTHWISE | _SEPARABLE else getattr(layer, "groups", 1)
        if groups > 1:
            self._need_more(step)
        if kind in _SEPARABLE:
            between = Epilogue(-len(self.slots) - 1)
            shape = rows, columns, int(np.prod(layer.depthwise_kernel.shape[-2:]))
            self.slots[between.y] = Slot(shape)
            self._sums(step, x, (rows, columns), slide, begin, groups, (layer.depthwise_kernel, None), between)
            x, slide, begin, groups = between.y, _AT_ONE, (0, 0), 1
        kernel = layer.pointwise_kernel if kind in _SEPARABLE else layer.kernel
        self._sums(step, x, (rows, columns), slide, begin, groups, (kernel, bias), epilogue)

    def _sums(
        self,
        step: Step,
        x: int,
        size: Pair,
        slide: tuple[Pair, Pair, Pair],
        begin: Pair,
        groups: int,
        weights: tuple[Any, Any],
        epilogue: Epilogue,
    ) -> None:
        """The kernel of a convolution.

        Args:
            step: for what it says of itself.
            x: the slot that it reads, from the place `begin` on.
            size: rows and columns of the result.
            slide: window, strides and dilation.
            groups: of channels.
            weights: its variables: the kernel, and the bias or None.
            epilogue: what follows.
        """
        kernel_of, bias_of = weights
        norm, (ph, pw), window = epilogue.norm, epilogue.pool, slide[0]
        channels = self.slots[x].shape[2] // groups
        filters = int(np.prod(kernel_of.shape)) // (window[0] * window[1] * channels * groups)
        shape = size[0] // ph * ph, size[1] // pw * pw, channels, filters, *slide, epilogue.pool
        sums = *shape, *self._rows(x, epilogue.y, epilogue.residual), epilogue.clamp, epilogue.insert is not None
        kernel = best_known(Grouped(*sums, groups=groups) if groups > 1 else Convolution(*sums))
        if kernel.body(kernel.tile) > LARGEST_BODY:
            raise Unsupported(f"{step} has a large kernel")

        def pack(values: Values) -> Array:
            weights = values(kernel_of).reshape(-1, *window, channels, filters * groups)
            bias = values(bias_of) if bias_of is not None else np.zeros((1, filters * groups), np.float32)
            if norm is not None:
                scale, offset = normalization(norm, values)
                weights, bias = weights * scale[:, None, None, None], bias * scale + offset
            packed = pack_convolution(weights, bias, kernel.tile[2], groups)
            return side_by_side([packed, *epilogue.levels(values)])

        variables = [kernel_of, *([] if bias_of is None else [bias_of]), *epilogue.variables]
        self._add(kernel, x, epilogue.y, epilogue.residual, begin, pack, variables, norm is None)

    def _pointwise(self, step: Step) -> None:
        x, epilogue = self._at(step.inputs[0]), Epilogue(step.outputs[0])
        if type(step.operation) is kl.BatchNormalization:
            epilogue.norm = step.operation
            if not self._last_axis(step):
                raise Unsupported(f"{step} normalises another axis than the last")
        elif self._adds(step):
            epilogue.residual = self._other(step, step.inputs[0])
        elif type(step.operation) is Insert:
            epilogue.insert = step.operation
        else:
            epilogue.clamp = self._function(step) or epilogue.clamp
        norm, shape = self._fuse(epilogue, pools=False).norm, self.slots[x].shape
        rows, column = self._rows(x, epilogue.y, epilogue.residual), shape[2] * lanes()
        kernel = Pointwise(*shape, norm is not None, *rows, column, epilogue.clamp, epilogue.insert is not None)

        def pack(values: Values) -> Array:
            affine = normalization(norm, values) if norm is not None else ()
            return side_by_side([*affine, *epilogue.levels(values)])

        variables = epilogue.variables
        pack_any = pack if variables else None
        self._add(kernel, x, epilogue.y, epilogue.residual, (0, 0), pack_any, variables, norm is None)

    def _merge(self, step: Step) -> None:
        """Two activations, one of which may have a single row, column or channel where the other has several."""
        kind, epilogue = type(step.operation), Epilogue(step.outputs[0])
        ranks = {len(self._graph.shapes[slot]) for slot in step.inputs}
        if len(step.inputs) != 2 or (len(ranks) > 1 and kind in OPERATORS):
            raise Unsupported(f"{step} brings together something else than two activations")
        self._need_more(step)
        self._fuse(epilogue, pools=False, sums=False)
        shape = as_image(step.shapes[0])
        self._slot(epilogue.y)
        x, r = map(self._at, step.inputs)
        x_steps, r_steps, y_steps = map(self._steps, (x, r, epilogue.y))
        self._add(Merge(_MERGES[kind], *shape, x_steps, r_steps, y_steps, epilogue.clamp), x, epilogue.y, r)

    def _steps(self, slot: int) -> Shape:
        """Floats from one row, pixel and channel of a slot to the next; 0 where it has only one of them."""
        rows, columns, channels = (n > 1 for n in self.slots[slot].shape)
        return self.slots[slot].row * rows, self.slots[slot].shape[2] * lanes() * columns, lanes() * channels

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
        if y in self._padded:
            self._names[y] = self._at(step.inputs[0])
            return
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
        size = self.slots[x].shape[:2]
        kind: Literal["max", "mean"] = "max" if largest else "mean"
        rows = self.slots[x].row, self._slot(step.outputs[0]).row
        beyond = [(n - 1) * s + w - m for n, s, w, m in zip(shape[:2], strides, window, size, strict=True)]
        if max(beyond) <= 0:
            pool = Pool(kind, *shape, window, strides, *rows)
        else:
            self._need_more(step)
            top, left = (max(0, n) // 2 for n in beyond)
            pool = Pool(kind, *shape, window, strides, *rows, size, (top, left))
        self._add(pool, x, step.outputs[0])

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
