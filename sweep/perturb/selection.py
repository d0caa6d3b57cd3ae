"""Which weights a transform acts on."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from sweep.errors import InputError
from sweep.networks.variables import Variable
from sweep.perturb.base import Selection


def select(variables: Sequence[Variable], layers: Selection) -> tuple[int, ...]:
    """Indices into `model.weights` of the kernels that `layers` names, ascending.

    `layers` is a layer's name, a glob over names, an index into `model.layers`, or a tuple of these. Raises
    InputError with the names when a part of it matches nothing.
    """
    kernels = [v for v in variables if v.kernel]
    chosen: set[int] = set()
    problems = []
    for part in layers if isinstance(layers, tuple) else (layers,):
        if isinstance(part, int):
            found = {v.index for v in kernels if v.layer_index == part}
        else:
            found = {v.index for v in kernels if v.layer == part or fnmatchcase(v.layer, part)}
        if not found:
            problems.append(f"{part!r} selects no kernel; layers with kernels: {_names(kernels)}")
        chosen |= found
    if problems:
        raise InputError(problems)
    return tuple(sorted(chosen))


def _names(kernels: Sequence[Variable]) -> str:
    names = list(dict.fromkeys(f"{v.layer} ({v.layer_index})" for v in kernels))
    return ", ".join(names) if names else "none in this network"
