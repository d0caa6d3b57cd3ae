"""A perturbation: transforms applied in order, each to its selected weights, each with its own draws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeGuard

import numpy as np

from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Random, Transform, draws
from sweep.perturb.dataflow import DataFlow
from sweep.perturb.selection import selected
from sweep.perturb.shared import Replay, Shared
from sweep.randomness import stream

JOINT = 2**32  # the stream of what a transform draws for all its variables together; below are variables
KEPT_WEIGHTS = 2**18  # floats, of a network whose weights are kept for each cell


Step = tuple[int, Transform, tuple[int, ...]]
Stream = Callable[[int, Transform, int], np.random.Generator]


def of_weights(transforms: Sequence[Transform]) -> list[tuple[int, Transform]]:
    """The transforms of weights, with their positions in the perturbation."""
    return [(position, t) for position, t in enumerate(transforms) if not isinstance(t, DataFlow)]


def reached(variables: Sequence[Variable], transforms: Sequence[Transform]) -> tuple[int, ...]:
    """Indices into `model.weights` of the variables that a perturbation may change, ascending."""
    return tuple(sorted({i for _, transform in of_weights(transforms) for i in selected(variables, transform)}))


def block_of(transforms: Sequence[Transform]) -> int | None:
    """How many images share all their draws, or None where nothing is drawn anew for each read."""
    blocks = [t.block for t in transforms if is_read(t)]
    return math.gcd(*blocks) if blocks else None


def is_read(transform: Transform) -> TypeGuard[Random]:
    """Whether a transform draws anew for each read of the weights."""
    return isinstance(transform, Random) and transform.lifetime == "read" and draws(transform)


def shares(
    transform: Transform, variables: Sequence[Variable], generator: Callable[[int], np.random.Generator]
) -> Iterable[Transform]:
    """What acts on each of the variables that a transform changes, by the generator of `JOINT`."""
    return transform.dealt(variables, generator(JOINT)) if transform.joint else itertools.repeat(transform)


def perturb(
    weights: Sequence[Array], variables: Sequence[Variable], transforms: Sequence[Transform], root_seed: int, seed: int
) -> list[Array]:
    """The weights of one trial, at its first read: a new list in the order of `model.weights`.

    Entries that no transform reaches are shared with `weights`.
    """
    return next(reads(weights, variables, transforms, root_seed, seed))


def reads(
    weights: Sequence[Array],
    variables: Sequence[Variable],
    transforms: Sequence[Transform],
    root_seed: int,
    seed: int,
    shared: Shared | None = None,
) -> Iterator[list[Array]]:
    """The weights of one trial for the first block of `block_of(transforms)` images, for the second, and so on.

    All transforms are applied in order for each block. One with lifetime chip makes the same draws every time. One
    with lifetime read goes on in its stream: its n-th read makes the n-th set of draws of
    ``stream(root_seed, seed, position, variable)``, and lasts for its own `block` of images.

    With `shared`, trials that are given the same one, and the same objects, share what they have in common: the weights
    are the same to the last bit.
    """
    if shared is None:
        plan = plan_of(variables, transforms)
    else:
        plan = shared.once((variables, transforms), lambda: plan_of(variables, transforms))
    return plan.reads(weights, root_seed, seed, shared)


@dataclass(frozen=True)
class Plan:
    """A perturbation of the variables of a network.

    Attributes:
        variables: of the network.
        steps: (position of a transform, the transform, indices of the variables that it changes), in order.
        fixed: how many of them, from the first on, are the same for all seeds.
        chip: how many are the same for all reads.
        block: how many images share all draws.
        small: whether a copy of all weights may be kept for each cell.
    """

    variables: Sequence[Variable]
    steps: tuple[Step, ...]
    fixed: int
    chip: int
    block: int
    small: bool

    def reads(
        self, weights: Sequence[Array], root_seed: int, seed: int, shared: Shared | None = None
    ) -> Iterator[list[Array]]:
        """See `reads`."""

        def begun(position: int, transform: Transform, i: int) -> np.random.Generator:
            if shared is None:
                return stream(root_seed, seed, position, i)
            return shared.stream(root_seed, seed, position, i, transform)

        def apply(values: list[Array], steps: Sequence[Step], at: Stream = begun) -> list[Array]:
            for position, transform, chosen in steps:
                transform = transform.of_chip(seed)
                parts = shares(transform, [self.variables[i] for i in chosen], partial(at, position, transform))
                for i, part in zip(chosen, parts, strict=False):
                    values[i] = part.apply(values[i], self.variables[i], at(position, transform, i))
            return values

        fixed = 0
        chip = list(weights)
        if shared is not None and self.fixed and self.small:
            fixed = self.fixed
            chip = list(shared.once((weights, self), lambda: _kept(apply(list(weights), self.steps[:fixed]), weights)))
        apply(chip, self.steps[fixed : self.chip])
        if self.chip == len(self.steps):
            yield chip
            return
        drawn = {
            (position, i): _Reads(begun(position, t, i), t.block // self.block)
            for position, t, chosen in self.steps
            if is_read(t)
            for i in (*chosen, *([JOINT] if t.joint else []))
        }
        for block in itertools.count():

            def read(position: int, transform: Transform, i: int, block: int = block) -> np.random.Generator:
                return drawn[position, i].at(block) if is_read(transform) else begun(position, transform, i)

            yield apply(list(chip), self.steps[self.chip :], read)


def _kept(values: list[Array], weights: Sequence[Array]) -> list[Array]:
    """Weights that are no longer written to, but for the given ones, which are their owner's."""
    for value, weight in zip(values, weights, strict=True):
        if value is not weight:
            value.flags.writeable = False
    return values


def plan_of(variables: Sequence[Variable], transforms: Sequence[Transform]) -> Plan:
    """How a perturbation acts on the variables of a network; InputError where a transform selects nothing."""
    steps = tuple((position, t, selected(variables, t)) for position, t in of_weights(transforms))
    fixed = next((k for k, (_, t, _) in enumerate(steps) if draws(t)), len(steps))
    chip = next((k for k, (_, t, _) in enumerate(steps) if is_read(t)), len(steps))
    small = sum(variable.size for variable in variables) <= KEPT_WEIGHTS
    return Plan(variables, steps, fixed, chip, block_of(transforms) or 1, small)


class _Reads:
    """One stream over the reads of a variable, each of which lasts for some blocks."""

    def __init__(self, generator: np.random.Generator, blocks: int) -> None:
        self._generator = generator
        self._blocks = blocks
        self._start = self._place

    def at(self, block: int) -> np.random.Generator:
        """The stream where the read of this block begins; to be called for one block after the other."""
        if block % self._blocks == 0:
            self._start = self._place
        elif isinstance(self._generator, Replay):
            self._generator.place = self._start
        else:
            self._generator.bit_generator.state = self._start
        return self._generator

    @property
    def _place(self) -> Any:
        generator = self._generator
        return generator.place if isinstance(generator, Replay) else generator.bit_generator.state
