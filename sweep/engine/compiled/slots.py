"""The arrays of a compiled network: one for each activation that is stored, with the zeros that its readers want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keras import layers as kl

from sweep.assembly import lanes
from sweep.engine.graph import IDENTITIES, Graph, Unsupported
from sweep.engine.steps import Step

Pair = tuple[int, int]
Shape = tuple[int, int, int]
Pads = tuple[int, int, int, int]
NO_PADS = (0, 0, 0, 0)
_SLIDE = {
    *(kl.Conv1D, kl.Conv2D, kl.DepthwiseConv1D, kl.DepthwiseConv2D),
    *(kl.SeparableConv1D, kl.SeparableConv2D),
}


@dataclass(frozen=True)
class Slot:
    """The array that holds an activation of a block.

    Attributes:
        shape: rows, columns, channels.
        pads: zeros kept above, left, below and right of it, as its readers want.
    """

    shape: Shape
    pads: Pads = NO_PADS

    @property
    def padded(self) -> Shape:
        """Rows, columns and channels with the zeros around."""
        (rows, columns, channels), (top, left, below, right) = self.shape, self.pads
        return rows + top + below, columns + left + right, channels

    @property
    def row(self) -> int:
        """Floats from one row to the next."""
        return self.padded[1] * self.shape[2] * lanes()

    @property
    def size(self) -> int:
        """Floats, zeros included."""
        return self.padded[0] * self.row

    def offset(self, row: int = 0, column: int = 0, channel: int = 0) -> int:
        """Floats before this one; negative rows and columns are zeros around the array."""
        return (self.pads[0] + row) * self.row + ((self.pads[1] + column) * self.shape[2] + channel) * lanes()


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


def padded_before(graph: Graph) -> dict[int, Pair]:
    """Results of zero padding that depthwise convolutions alone read: the rows above and columns left that are added.

    They read the zeros around the activation itself, so that nothing has to be copied.
    """
    users: dict[int, list[Step]] = {}
    for step in graph.rest:
        for slot in step.inputs:
            users.setdefault(slot, []).append(step)
    found = {}
    for step in graph.rest:
        readers = users.get(step.outputs[0], [])
        alone = bool(readers) and all(type(r.operation) is kl.DepthwiseConv2D for r in readers)
        if type(step.operation) is kl.ZeroPadding2D and step.outputs[0] != graph.output and alone:
            (top, _), (left, _) = step.operation.padding
            if all(r.operation.padding == "valid" for r in readers):
                found[step.outputs[0]] = top, left
    return found


def wanted_pads(graph: Graph, padded: Mapping[int, Pair]) -> dict[int, Pads]:
    """The zeros that convolutions read around the activations in their input slots; `padded` of `padded_before`."""
    found: dict[int, Pads] = {}
    for step in reversed(graph.rest):
        slot = step.inputs[0]
        if type(step.operation) in IDENTITIES:  # its result is what it reads
            wanted = found.get(step.outputs[0], NO_PADS)
        elif type(step.operation) in _SLIDE:
            wanted = read_pads(step, graph.shapes)
        elif step.outputs[0] in padded:
            (top, below), (left, right) = step.operation.padding
            wanted = top, left, below, right
        else:
            continue
        top, left, below, right = map(max, wanted, found.get(slot, NO_PADS))
        found[slot] = top, left, below, right
    return found


def read_pads(step: Step, shapes: Mapping[int, tuple[int, ...]]) -> Pads:
    """The zeros that a convolution or dense layer reads above, left, below and right of its input."""
    layer, before, after = step.operation, [0, 0], [0, 0]
    if type(layer) is kl.Dense or layer.padding == "valid":
        return NO_PADS
    window, strides, dilation = both(layer.kernel_size), both(layer.strides), both(layer.dilation_rate)
    sizes, results = as_image(shapes[step.inputs[0]]), as_image(step.shapes[0])
    for axis in (0, 1):
        reach = (window[axis] - 1) * dilation[axis] + 1
        if layer.padding == "same":
            total = max((results[axis] - 1) * strides[axis] + reach - sizes[axis], 0)
            before[axis], after[axis] = total // 2, total - total // 2
        elif axis == 1:  # causal
            before[1] = reach - 1
    return before[0], before[1], after[0], after[1]
