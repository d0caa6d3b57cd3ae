"""Which variables of which layers a transform acts on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from sweep.errors import InputError
from sweep.networks.variables import Layer, Variable
from sweep.perturb.base import KERNELS, Selection, Transform

Item = TypeVar("Item")


def select(variables: Sequence[Variable], layers: Selection, which: Selection = KERNELS) -> tuple[int, ...]:
    """Indices into `model.weights` of the variables of some layers, ascending.

    `layers` is a layer's name, a glob over names, a layer's type such as "Conv2D", an index into `model.layers`, one
    of the strings with "!" before it to leave these out, or a tuple of all this; "*" is every layer that has what is
    wanted. `which` is, likewise, a variable's own name in its layer or a glob over these; "kernel" is every
    `Variable.kernel`, "*" all that are `readable`. Raises InputError with the names when a part of one matches nothing.
    """
    wanted = _variables(variables, which)
    if which == KERNELS:
        nothing = "selects no kernel; layers with kernels"
    else:
        nothing = f"selects no layer with {_text(which)}; layers with it"
    chosen = _choose(wanted, set(range(len(wanted))), layers, _matches, nothing, _names)
    return tuple(sorted(wanted[k].index for k in chosen))


def selected(variables: Sequence[Variable], transform: Transform) -> tuple[int, ...]:
    """As `select`, by what the transform says."""
    return select(variables, transform.layers, transform.variables)


def select_layers(layers: Sequence[Layer], selection: Selection, side: str = "output") -> tuple[Layer, ...]:
    """The layers, in order, on whose data flow a transform acts: as `select`, over all layers.

    "*" is every layer with a kernel, except for its output the one that makes the scores; "input" the images.
    """
    usual = {k for k, layer in enumerate(layers) if layer.kernel and (side != "output" or not layer.scores)}
    chosen = _choose(layers, usual, selection, _matches, "selects no layer; layers", _names)
    return tuple(layers[k] for k in sorted(chosen))


def _variables(variables: Sequence[Variable], which: Selection) -> list[Variable]:
    """Those of these names, in any layer."""
    if which == KERNELS:  # as long as none is sought, none is missing
        return [v for v in variables if v.kernel]
    known = [v for v in variables if v.readable]
    every = set(range(len(known)))
    chosen = _choose(known, every, which, _is_called, "selects no variable; this network has", _by_layer)
    return [known[k] for k in sorted(chosen)]


def _choose(
    items: Sequence[Item],
    usual: set[int],
    selection: Selection,
    matches: Callable[[Item, str | int], bool],
    nothing: str,
    names: Callable[[Sequence[Item]], str],
) -> set[int]:
    """Positions of the items that a selection names; "*" names the usual ones."""
    parts = selection if isinstance(selection, tuple) else (selection,)
    without = [part[1:] for part in parts if isinstance(part, str) and part.startswith("!")]
    named = [part for part in parts if not (isinstance(part, str) and part.startswith("!"))] or ["*"]
    problems = []
    chosen: set[int] = set()
    left: set[int] = set()
    for part, into in [*((part, chosen) for part in named), *((part, left) for part in without)]:
        found = usual if part == "*" else {k for k, item in enumerate(items) if matches(item, part)}
        if not found:
            problems.append(f"{part!r} {nothing}: {names(items)}")
        into |= found
    if not problems and not chosen - left:
        problems.append(f"{selection!r} {nothing}: {names(items)}")
    if problems:
        raise InputError(problems)
    return chosen - left


def _matches(item: Layer | Variable, part: str | int) -> bool:
    if isinstance(part, int):
        return item.layer_index == part
    return part in (item.layer, item.layer_type) or fnmatchcase(item.layer, part)


def _is_called(variable: Variable, part: str | int) -> bool:
    return variable.kernel if part == KERNELS else fnmatchcase(variable.name, str(part))


def _text(which: Selection) -> str:
    return " or ".join(map(repr, which)) if isinstance(which, tuple) else repr(which)


def _names(items: Sequence[Layer | Variable]) -> str:
    names = dict.fromkeys(f"{item.layer} ({item.layer_index}, {item.layer_type})" for item in items)
    return ", ".join(names) or "none in this network"


def _by_layer(variables: Sequence[Variable]) -> str:
    """Such as "kernel, bias in conv1, fc; gamma, beta in bn"."""
    of_layers: dict[str, dict[str, None]] = {}
    for variable in variables:
        of_layers.setdefault(variable.layer, {})[variable.name] = None
    alike: dict[str, list[str]] = {}
    for layer, names in of_layers.items():
        alike.setdefault(", ".join(names), []).append(layer)
    return "; ".join(f"{names} in {', '.join(layers)}" for names, layers in alike.items()) or "none"
