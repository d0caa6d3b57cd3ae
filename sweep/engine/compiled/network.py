"""Networks of convolutions and dense layers as machine code: one trial at a time, images in the SIMD lanes.

The second way to evaluate many trials, beside `stacked`, for networks whose perturbed part is made of the layers
that `lowering` knows. It is one native call per trial, in one thread, without Python's lock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from sweep.engine.compiled import kernels, llvm
from sweep.engine.compiled.kernels import Instruction, Place
from sweep.engine.compiled.lowering import Array, Lowering, Operation
from sweep.engine.compiled.slots import Slot
from sweep.engine.graph import Graph
from sweep.engine.sites import Site


@dataclass(frozen=True)
class Blocks:
    """Images, or what the prefix makes of them, as a compiled network reads them; to be kept for the dataset.

    Attributes:
        images: N.
        arrays: for each tensor of the boundary (blocks, rows, columns, channels, lanes), with zeros around.
    """

    images: int
    arrays: tuple[Array, ...]


class CompiledNetwork:
    """The forward pass of a network as machine code for this processor, for one weight set after the other.

    Not for use in two threads at once.

    Attributes:
        graph: the steps of the model and where they are cut.
        varied: the sorted indices into `model.weights` that trials perturb.
    """

    def __init__(self, model: keras.Model, varied: Collection[int], sites: Sequence[Site] = ()) -> None:
        """Plans and compiles the pass (about a second); arguments as for `Graph`.

        Raises:
            Unsupported: as `Graph`, or a layer has no compiled form.
        """
        self.graph = Graph(model, varied, sites)
        self.graph.check_rest()
        self.varied = self.graph.varied
        lowered = Lowering(self.graph)
        self._slots, self._tail, self._operations = lowered.slots, lowered.tail, lowered.operations
        self._outputs = tuple(self.graph.shapes[lowered.output])
        self._constant: dict[int, Array] = {}
        places = _Places(lowered, self.graph.boundary)
        program, self._weights = [], 0
        for operation in self._operations:
            program.append(places.instruction(operation, self._weights))
            self._weights += operation.kernel.weights
        self._scratch = _aligned((places.scratch,))
        self._run = kernels.build(program, len(self.graph.boundary))

    def blocks(self, boundary: Sequence[Array]) -> Blocks:
        """The boundary of N images, tensors (N, ...), in the form that `forward` reads."""
        lanes, arrays, images = llvm.lanes(), [], len(boundary[0])
        for slot, values in zip(self.graph.boundary, boundary, strict=True):
            (rows, columns, channels), (top, left, *_) = self._slots[slot].shape, self._slots[slot].pads
            out = _aligned((-(-images // lanes), *self._slots[slot].padded, lanes))
            inside = out[:, top : top + rows, left : left + columns]
            for lane in range(lanes):
                part = np.asarray(values[lane::lanes], np.float32)
                inside[: len(part), ..., lane] = part.reshape(-1, rows, columns, channels)
            arrays.append(out)
        return Blocks(images, tuple(arrays))

    def forward(self, blocks: Blocks, weights: Sequence[Array]) -> Array:
        """The outputs of T trials.

        Args:
            blocks: what `blocks` returned for N images.
            weights: the values (T, *shape) of the varied weights, then of the sites, in the order of `varied`.

        Returns:
            (T, N, outputs).
        """
        packed = self._pack(weights)
        pointers = [array.ctypes.data for array in blocks.arrays]
        count, lanes, size = len(blocks.arrays[0]), llvm.lanes(), int(np.prod(self._outputs))
        raw = _aligned((count, size, lanes))
        out = np.empty((len(packed), blocks.images, *self._outputs), np.float32)
        for trial, row in enumerate(packed):
            self._run(row.ctypes.data, self._scratch.ctypes.data, raw.ctypes.data, count, *pointers)
            scores = raw.transpose(0, 2, 1).reshape(-1, *self._outputs)[: blocks.images]
            out[trial] = scores if self._tail is None else _activate(self._tail, scores)
        return out

    def _pack(self, weights: Sequence[Array]) -> Array:
        """The weights of all operations (T, floats), those that no trial perturbs packed once for all."""
        given = dict(zip(self.varied, weights, strict=True))
        out = np.empty((len(weights[0]), self._weights), np.float32)
        at = 0
        for index, operation in enumerate(self._operations):
            if operation.pack is None:
                continue
            if operation.variables & given.keys():
                part = operation.pack(lambda v: given[n] if (n := self.graph.number(v)) in given else v.numpy()[None])
            else:
                if index not in self._constant:
                    self._constant[index] = operation.pack(lambda v: v.numpy()[None])
                part = self._constant[index]
            out[:, at : at + part.shape[1]] = part
            at += part.shape[1]
        return out


class _Places:
    """Gives every slot its memory; arrays of one geometry share it when their lives do not overlap."""

    def __init__(self, lowered: Lowering, boundary: Sequence[int]) -> None:
        slots, operations = lowered.slots, lowered.operations
        self.scratch = 0
        self._places = {slot: Place(f"%input{k}", 0, slots[slot].size) for k, slot in enumerate(boundary)}
        self._places[lowered.output] = Place("%output", 0, slots[lowered.output].size)
        self._base = {slot: slot for slot in slots}
        for y, x in lowered.views.items():
            self._base[y] = self._base[x]
        reads = [{self._base[s] for s in (o.x, o.r) if s is not None} for o in operations]
        last = {slot: index for index, slots_read in enumerate(reads) for slot in slots_read}
        # Zero padding counts on zeros inside its array that another owner would overwrite.
        kept = {o.y for o in operations if not o.fills}
        free: dict[Slot, list[Place]] = {}
        for index, operation in enumerate(operations):
            slot = operation.y
            if slot not in self._places:
                reuse = free.get(slots[slot]) and slot not in kept
                self._places[slot] = free[slots[slot]].pop() if reuse else self._new(slots[slot])
            for over in reads[index]:
                if last[over] == index and over not in kept and self._places[over].pointer == "%scratch":
                    free.setdefault(slots[over], []).append(self._places[over])

    def _new(self, slot: Slot) -> Place:
        place = Place("%scratch", self.scratch)
        self.scratch += slot.size
        return place

    def instruction(self, operation: Operation, weights: int) -> Instruction:
        """The operation with its places."""
        x = self._inside(operation.x, operation.x_from)
        r = x if operation.r is None else self._inside(operation.r, operation.r_from)
        return Instruction(operation.kernel, x, r, self._inside(operation.y, operation.y_from), weights)

    def _inside(self, slot: int, offset: int) -> Place:
        place = self._places[self._base[slot]]
        return Place(place.pointer, place.start + offset, place.block)


def _activate(function: Any, scores: Array) -> Array:
    """The last activation function; softmax without the way through TensorFlow."""
    if function is not keras.activations.softmax:
        return np.asarray(function(keras.ops.convert_to_tensor(scores)))
    with np.errstate(invalid="ignore", over="ignore"):  # infinity less infinity
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _aligned(shape: tuple[int, ...]) -> Array:
    """Zeros that begin at a multiple of 64 bytes."""
    size = int(np.prod(shape))
    whole = np.zeros(size + 16, np.float32)
    start = -(whole.ctypes.data // 4) % 16
    return whole[start : start + size].reshape(shape)
