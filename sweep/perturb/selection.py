"""Which layers a transform acts on."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from sweep.errors import InputError
from sweep.networks.variables import Layer, Variable
from sweep.perturb.base import Selection


def select(variables: Sequence[Variable], layers: Selection) -> tuple[int, ...]:
    """Indices into `model.weights` of the kernels that `layers` names, ascending.

    `layers` is a layer's name, a glob over names, a layer's type such as "Conv2D", an index into `model.layers`, one
    of the strings with "!" before it to leave these out, or a tuple of all this. Raises InputError with the names
    when a part of it matches nothing.
    """
    kernels = [v for v in variables if v.kernel]
    chosen = _choose(kernels, set(range(len(kernels))), layers, "selects no kernel; layers with kernels")
    return tuple(sorted(kernels[k].index for k in chosen))


def select_layers(layers: Sequence[Layer], selection: Selection, side: str = "output") -> tuple[Layer, ...]:
    """The layers, in order, on whose data flow a transform acts: as `select`, over all layers.

    "*" is every layer with a kernel, except for its output the one that makes the scores; "input" the images.
    """
    usual = {k for k, layer in enumerate(layers) if layer.kernel and (side == "input" or not layer.scores)}
    chosen = _choose(layers, usual, selection, "selects no layer; layers")
    return tuple(layers[k] for k in sorted(chosen))


def _choose(items: Sequence[Layer | Variable], usual: set[int], selection: Selection, nothing: str) -> set[int]:
    """Positions of the items that a selection names; "*" names the usual ones."""
    parts = selection if isinstance(selection, tuple) else (selection,)
    without = [part[1:] for part in parts if isinstance(part, str) and part.startswith("!")]
    named = [part for part in parts if not (isinstance(part, str) and part.startswith("!"))] or ["*"]
    problems = []
    chosen: set[int] = set()
    left: set[int] = set()
    for part, into in [*((part, chosen) for part in named), *((part, left) for part in without)]:
        found = usual if part == "*" else {k for k, item in enumerate(items) if _matches(item, part)}
        if not found:
            problems.append(f"{part!r} {nothing}: {_names(items)}")
        into |= found
    if not problems and not chosen - left:
        problems.append(f"{selection!r} {nothing}: {_names(items)}")
    if problems:
        raise InputError(problems)
    return chosen - left


def _matches(item: Layer | Variable, part: str | int) -> bool:
    if isinstance(part, int):
        return item.layer_index == part
    return part in (item.layer, item.layer_type) or fnmatchcase(item.layer, part)


def _names(items: Sequence[Layer | Variable]) -> str:
    names = dict.fromkeys(f"{item.layer} ({item.layer_index}, {item.layer_type})" for item in items)
    return ", ".join(names) or "none in this network"
