"""Networks of convolutions and dense layers as machine code: one trial at a time, images in the SIMD lanes.

The second way to evaluate many trials, beside `stacked`, for networks whose perturbed part is made of the layers
that `lowering` knows. It is one native call per trial, in one thread, without Python's lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

import sweep.assembly as assembly
from sweep.engine.compiled import program
from sweep.engine.compiled.lowering import Lowering
from sweep.engine.compiled.operations import Array
from sweep.engine.compiled.packing import Packing
from sweep.engine.compiled.places import Places
from sweep.engine.compiled.program import Instruction
from sweep.engine.compiled.seeing import FACTS, Facts, Gather, Rearrange
from sweep.engine.compiled.slots import Slot
from sweep.engine.compiled.tuning import best_known, is_due, measure, open_questions
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


@dataclass(frozen=True)
class Seen:
    """What T trials make of n images each.

    Attributes:
        softmax: whether the last activation function is softmax.
        facts: (5, T, n) of `Facts`, said of the outputs before a softmax; None behind another last activation function,
            or where there are not several outputs in a row.
        raw: (T, blocks, floats, lanes) the outputs before a last activation function that kernels do not know.
        activated: that function, on outputs (..., outputs).
        final: whether there is none.
    """

    softmax: bool
    facts: Array | None
    raw: Array
    activated: Callable[[Array], Array]
    final: bool

    @classmethod
    def of_all(cls, parts: Sequence[Seen]) -> Seen:
        """What the trials of several parts make, one part after the other."""
        facts = [part.facts for part in parts if part.facts is not None]
        joined = np.concatenate(facts, axis=1) if facts else None
        return replace(parts[0], facts=joined, raw=np.concatenate([part.raw for part in parts]))

    def scores(self, where: npt.NDArray[np.bool_]) -> Array:
        """The outputs (k, outputs) of those k images that are marked in (T, n), in their order."""
        trial, image = np.nonzero(where)
        lanes = self.raw.shape[-1]
        return self.activated(self.raw[trial, image // lanes, :, image % lanes])


class CompiledNetwork:
    """The forward pass of a network as machine code for this processor, for one weight set after the other.

    Not for use in two threads at once.

    Attributes:
        graph: the steps of the model and where they are cut.
        varied: the sorted indices into `model.weights` that trials perturb.
        beyond: whether it has layers that were not compiled from the first.
        floats: of the packed weights of a trial.
    """

    def __init__(
        self, model: keras.Model, varied: Collection[int], sites: Sequence[Site] = (), more: bool = True
    ) -> None:
        """Plans and compiles the pass (about a second).

        Args:
            model, varied, sites: as for `Graph`.
            more: whether to take also the layers that were not compiled from the first: where more than decisions is
                asked for, last digits depend on the way, and a study keeps the one that it has had.

        Raises:
            Unsupported: as `Graph`, or a layer has no compiled form.
        """
        self.graph = Graph(model, varied, sites)
        self.graph.check_rest()
        self.varied = self.graph.varied
        self._more = more
        self._seconds = 0.0  # of evaluating
        self._build()

    def _build(self) -> None:
        lowered = Lowering(self.graph, self._more)
        self._slots, self._tail, self.beyond = lowered.slots, lowered.tail, lowered.beyond
        self._outputs = tuple(self.graph.shapes[lowered.output])
        self._questions = open_questions(operation.kernel for operation in lowered.operations)
        places = Places(lowered, self.graph.boundary)
        instructions: list[Instruction] = []
        self.floats: int = 0
        for operation in lowered.operations:
            instructions += places.instructions(operation, self.floats)
            self.floats += operation.kernel.weights
        self._scratch = _aligned((places.scratch,))
        gathers = [_gather(self._slots[slot]) for slot in self.graph.boundary]
        self._gathered = _aligned((sum(gather.size for gather in gathers),))
        self._facts = Facts(*self._outputs) if len(self._outputs) == 1 and self._outputs[0] > 1 else None
        self._packing = packing = Packing(self.graph, lowered.operations)
        rearrange = None
        if packing.order is not None:
            room = (self.floats // assembly.lanes() + 1) * assembly.lanes()
            rearrange = Rearrange(packing.values + len(packing.behind), room)
            self._order, self._packed = np.zeros(room, np.int32), _aligned((room,))
            self._order[: self.floats] = packing.order
        self._rearranges = rearrange is not None
        self._program = program.build(instructions, gathers, self.floats, rearrange, self._facts)

    def tune(self) -> None:
        """Find the fastest tiles of sums that are not known on this machine yet: some seconds."""
        for kernel in self._questions:
            if best_known(kernel).measured is None:  # nor has another network asked since
                measure(kernel)
        if self._questions:
            self._build()

    def blocks(self, boundary: Sequence[Array]) -> Blocks:
        """The boundary of N images, tensors (N, ...), in the form that `forward` reads."""
        lanes, arrays, images = assembly.lanes(), [], len(boundary[0])
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
        rows = self.rows(zip(*weights, strict=True), len(weights[0]))  # before which tiles, and so packing, may change
        packed = self._packing.packed(rows)
        begun = time.perf_counter()
        pointers = [array.ctypes.data for array in blocks.arrays]
        count, lanes, size = len(blocks.arrays[0]), assembly.lanes(), int(np.prod(self._outputs))
        raw = _aligned((count, size, lanes))
        out = np.empty((len(packed), blocks.images, *self._outputs), np.float32)
        for trial, row in enumerate(packed):
            self._program.run(row.ctypes.data, self._scratch.ctypes.data, raw.ctypes.data, count, *pointers)
            out[trial] = self._activated(raw.transpose(0, 2, 1).reshape(-1, size)[: blocks.images])
        self._seconds += time.perf_counter() - begun
        return out

    def rows(self, trials: Iterable[Sequence[Array]], count: int) -> Array:
        """The values (T, floats) of so many trials, each given those of the varied weights, then of the sites.

        Behind them stands what else is to be packed. A trial is taken once the one before it is stored.
        """
        if is_due(self._questions, self._seconds):  # not later: these rows are in the order of what is there then
            self.tune()
        values, behind = self._packing.values, self._packing.behind
        rows = np.empty((count, values + len(behind)), np.float32)
        rows[:, values:] = behind
        for row, trial in zip(rows, trials, strict=True):
            np.concatenate([value.reshape(-1) for value in trial], out=row[:values])
        return rows

    def values(self, row: Array) -> dict[int, Array]:
        """What was given for each of `varied` in one of `rows`."""
        return self._packing.values_of(row)

    def see(self, tensors: Sequence[Array], images: npt.NDArray[np.int64], rows: Array) -> Seen:
        """What T trials make of n images each, in one call.

        Args:
            tensors: the boundary of all N images, tensors (N, ...) float32, each in one piece.
            images: (T, n) numbers of the images that each trial sees.
            rows: (T, floats) of `rows`.
        """
        trials, wanted = images.shape
        lanes, size = assembly.lanes(), int(np.prod(self._outputs))
        blocks = -(-wanted // lanes)
        numbers = np.zeros((trials, blocks * lanes), np.int32)
        numbers[:, :wanted] = images
        raw, facts = _aligned((trials * blocks, size, lanes)), _aligned((trials * blocks, FACTS, lanes))
        weights = (rows, self._order, self._packed) if self._rearranges else [self._packing.packed(rows)] * 3
        own = *weights, self._scratch, raw, self._gathered, facts, numbers
        pointers = [[array.ctypes.data for array in arrays] for arrays in (own, tensors)]
        begun = time.perf_counter()
        self._program.see(*pointers[0], trials, blocks, *pointers[1])
        self._seconds += time.perf_counter() - begun
        softmax = self._tail is keras.activations.softmax
        known = None
        if self._facts and (softmax or self._tail is None):
            known = facts.transpose(1, 0, 2).reshape(FACTS, trials, -1)[..., :wanted]
        return Seen(softmax, known, raw.reshape(trials, blocks, size, lanes), self._activated, self._tail is None)

    def _activated(self, scores: Array) -> Array:
        """Scores (images, floats) as (images, *outputs), after a last activation function that kernels do not know."""
        scores = scores.reshape(-1, *self._outputs)
        return scores if self._tail is None else activate(self._tail, scores)


def _gather(slot: Slot) -> Gather:
    """How images reach the array of a slot: whole, where no zeros stand around them."""
    rows, columns, channels = slot.shape
    if any(slot.pads):
        return Gather(rows, columns * channels, slot.offset(), slot.row, slot.size)
    return Gather(1, rows * columns * channels, 0, 0, slot.size)


def activate(function: Any, scores: Array) -> Array:
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
