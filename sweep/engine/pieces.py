"""The images of a subject as a backend reads them: all of them held, or a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from keras import ops

from sweep.engine import tensors
from sweep.engine.budget import Budget, piece_of, ranges
from sweep.engine.graph import Graph
from sweep.engine.steps import Tensor
from sweep.networks.feeding import Fed
from sweep.perturb.base import Array

STEP_BYTES, GPU_STEP_BYTES = 16 * 1024**2, 512 * 1024**2  # of the largest activation of a step
IMAGES_PER_STEP, GPU_IMAGES_PER_STEP = 500, 10_000

T = TypeVar("T")


class Pieces(Generic[T]):
    """What images become for a backend, block by block and piece by piece.

    A piece is a block where the budget has room for all of them; they are made once then. Otherwise a block has several
    pieces, of which the latest alone is kept.
    """

    def __init__(
        self,
        images: Array | Fed,
        block: int | None,
        budget: Budget,
        make: Callable[[list[Array]], T],
        steps: Sequence[int],
        graph: Graph | None = None,
    ) -> None:
        """Cuts.

        Args:
            images, block, budget: of a `Subject`.
            make: gives what the backend reads, of the boundary of some images: tensors (images, ...).
            steps: images that the backend takes at a time, and others that are not to be cut.
            graph: whose boundary it is; None, or without a prefix, for the images themselves.
        """
        self._images, self._block, self._budget = images, block, budget
        self._make, self._steps = make, steps
        self._graph = graph if graph and graph.has_prefix else None
        self._own = 4 * int(np.prod(images.shape[1:]))
        self._boundary = self._own
        if self._graph:
            self._boundary = 4 * sum(int(np.prod(self._graph.shapes[slot])) for slot in self._graph.boundary)
            self._prefix = tensors.compile_function(self._graph.run_prefix)
        self._bytes = len(images) * self._boundary
        self._made: dict[int, T] = {}

    @cached_property
    def _held(self) -> bool:
        return self._budget.holds(self, self._bytes)

    @cached_property
    def ranges(self) -> list[range]:
        """The images of each piece."""
        size = len(self._images)
        if not self._held:
            room = self._budget.piece // max(1, self._own, self._boundary)
            size = min(self._block or size, piece_of(room, self._steps))
        return ranges(len(self._images), self._block, size)

    def __getitem__(self, number: int) -> T:
        if number not in self._made:
            if not self._held:
                self._made.clear()
            self._made[number] = self._make(self._cut(self.ranges[number]))
            if len(self._made) == len(self.ranges):
                vars(self).pop("_whole", None)  # as large, and made again where it is wanted
        return self._made[number]

    def boundary_of(self, images: npt.NDArray[np.int64]) -> tuple[list[Array], npt.NDArray[np.int64]]:
        """The boundary of images of these numbers, (...), among others; and their numbers there, (...)."""
        if self._tensors is not None:
            return self._tensors, images
        few, places = np.unique(images, return_inverse=True)
        if self._graph is not None:  # filled up, so that no new shape is compiled
            few = np.resize(few, -(-len(few) // images_per_step(self._graph)) * images_per_step(self._graph))
        return self._run(self._images[few]), places.reshape(images.shape)

    @cached_property
    def _tensors(self) -> list[Array] | None:
        """The boundary of all images; None where there is no room for it."""
        if self._graph is None:
            return None if isinstance(self._images, Fed) else [self._images]
        return self._whole if self._budget.holds(self, self._bytes) else None

    @cached_property
    def _whole(self) -> list[Array]:
        return self._run(self._images)

    def _cut(self, images: range) -> list[Array]:
        if self._graph is None:
            return [self._images[images.start : images.stop]]
        if self._held:
            return [tensor[images.start : images.stop] for tensor in self._whole]
        step = images_per_step(self._graph)  # those of all images: what is computed depends on its neighbours
        first = images.start // step * step
        some = self._run(self._images[first : -(-images.stop // step) * step])
        return [tensor[images.start - first : images.stop - first] for tensor in some]

    def _run(self, images: Array | Fed) -> list[Array]:
        return [images[:]] if self._graph is None else _in_steps(self._prefix, images, images_per_step(self._graph))


def over_images(graph: Graph, function: Callable[[Tensor], Sequence[Tensor]], images: Array | Fed) -> list[Array]:
    """What a function makes of images (B, ...), as tensors (B, ...), for all of them: compiled, and step by step."""
    return _in_steps(tensors.compile_function(function), images, images_per_step(graph))


def _in_steps(forward: Callable[[Tensor], Sequence[Tensor]], images: Array | Fed, size: int) -> list[Array]:
    parts = [forward(ops.convert_to_tensor(images[i : i + size])) for i in range(0, len(images), size)]
    return [np.concatenate([np.asarray(part) for part in tensor]) for tensor in zip(*parts, strict=True)]


def images_per_step(graph: Graph | None) -> int:
    """Images of a plain pass: few enough for its largest activation to stay small, where that is known."""
    if graph is None:
        return IMAGES_PER_STEP
    largest = 4 * graph.largest
    if tensors.device() == "GPU":
        return max(32, min(GPU_IMAGES_PER_STEP, GPU_STEP_BYTES // largest))
    return max(32, min(IMAGES_PER_STEP, STEP_BYTES // largest))


def steps(array: npt.NDArray[Any], size: int) -> list[npt.NDArray[Any]]:
    """An array cut along images."""
    return [array[i : i + size] for i in range(0, len(array), size)]
