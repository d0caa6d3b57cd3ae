"""A perturbation: transforms applied in order, each to its selected weights, each with its own draws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TypeGuard

import numpy as np

from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Random, Transform, draws
from sweep.perturb.dataflow import DataFlow
from sweep.perturb.selection import select
from sweep.randomness import stream


def of_weights(transforms: Sequence[Transform]) -> list[tuple[int, Transform]]:
    """The transforms of weights, with their positions in the perturbation."""
    return [(position, t) for position, t in enumerate(transforms) if not isinstance(t, DataFlow)]


def reached(variables: Sequence[Variable], transforms: Sequence[Transform]) -> tuple[int, ...]:
    """Indices into `model.weights` of the variables that a perturbation may change, ascending."""
    return tuple(sorted({i for _, transform in of_weights(transforms) for i in select(variables, transform.layers)}))


def block_of(transforms: Sequence[Transform]) -> int | None:
    """How many images share all their draws, or None where nothing is drawn anew for each read."""
    blocks = [t.block for t in transforms if is_read(t)]
    return math.gcd(*blocks) if blocks else None


def is_read(transform: Transform) -> TypeGuard[Random]:
    """Whether a transform draws anew for each read of the weights."""
    return isinstance(transform, Random) and transform.lifetime == "read" and draws(transform)


def perturb(
    weights: Sequence[Array], variables: Sequence[Variable], transforms: Sequence[Transform], root_seed: int, seed: int
) -> list[Array]:
    """The weights of one trial, at its first read: a new list in the order of `model.weights`.

    Entries that no transform reaches are shared with `weights`.
    """
    return next(reads(weights, variables, transforms, root_seed, seed))


def reads(
    weights: Sequence[Array], variables: Sequence[Variable], transforms: Sequence[Transform], root_seed: int, seed: int
) -> Iterator[list[Array]]:
    """The weights of one trial for the first block of `block_of(transforms)` images, for the second, and so on.

    All transforms are applied in order for each block. One with lifetime chip makes the same draws every time. One
    with lifetime read goes on in its stream: its n-th read makes the n-th set of draws of
    ``stream(root_seed, seed, position, variable)``, and lasts for its own `block` of images.
    """
    steps = [(position, t, i) for position, t in of_weights(transforms) for i in select(variables, t.layers)]
    first = next((k for k, (_, t, _) in enumerate(steps) if is_read(t)), len(steps))
    size = block_of(transforms) or 1
    chip = list(weights)
    for position, transform, i in steps[:first]:
        chip[i] = transform.apply(chip[i], variables[i], stream(root_seed, seed, position, i))
    if first == len(steps):
        yield chip
        return
    drawn = {
        (position, i): _Reads(stream(root_seed, seed, position, i), t.block // size)
        for position, t, i in steps
        if is_read(t)
    }
    for block in itertools.count():
        perturbed = list(chip)
        for position, transform, i in steps[first:]:
            again = is_read(transform)
            generator = drawn[position, i].at(block) if again else stream(root_seed, seed, position, i)
            perturbed[i] = transform.apply(perturbed[i], variables[i], generator)
        yield perturbed


class _Reads:
    """One stream over the reads of a variable, each of which lasts for some blocks."""

    def __init__(self, generator: np.random.Generator, blocks: int) -> None:
        self._generator = generator
        self._blocks = blocks
        self._start = generator.bit_generator.state

    def at(self, block: int) -> np.random.Generator:
        """The stream where the read of this block begins; to be called for one block after the other."""
        if block % self._blocks == 0:
            self._start = self._generator.bit_generator.state
        else:
            self._generator.bit_generator.state = self._start
        return self._generator
