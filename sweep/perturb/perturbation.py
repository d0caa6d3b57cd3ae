"""A perturbation: transforms applied in order, each to its selected weights, each with its own draws."""

from __future__ import annotations

from collections.abc import Sequence

from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Transform
from sweep.perturb.selection import select
from sweep.randomness import stream


def reached(variables: Sequence[Variable], transforms: Sequence[Transform]) -> tuple[int, ...]:
    """Indices into `model.weights` of the variables that a perturbation may change, ascending."""
    return tuple(sorted({i for transform in transforms for i in select(variables, transform.layers)}))


def perturb(
    weights: Sequence[Array],
    variables: Sequence[Variable],
    transforms: Sequence[Transform],
    root_seed: int,
    seed: int,
) -> list[Array]:
    """The weights of one trial: a new list in the order of `model.weights`; untouched entries are shared."""
    perturbed = list(weights)
    for position, transform in enumerate(transforms):
        for i in select(variables, transform.layers):
            generator = stream(root_seed, seed, position, i)
            perturbed[i] = transform.apply(perturbed[i], variables[i], generator)
    return perturbed
