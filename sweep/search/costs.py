"""What the settings of layers cost: bits of weights, operations, or what the user says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sweep.errors import InputError
from sweep.networks.loading import Network
from sweep.perturb.selection import select
from sweep.search.space import Option, Space
from sweep.study.budget import MEMORY, OPERATIONS, Budget

Costs = tuple[tuple[float, ...], ...]
"""Of each layer of a space, the cost of each of its options."""
REST = "*"
"""In a table of costs, the layers that it does not name."""
UNITS = {MEMORY: "bits of weights", OPERATIONS: "multiply-accumulates × bits"}


def costs_of(space: Space, budget: Budget, network: Network, at: str) -> Costs:
    """What each option of each layer costs; InputError, which names the family `at`, where that is not known."""
    if isinstance(budget.cost, str):
        return _known(space, budget.cost, network, at)
    return _said(space, budget.cost, at.partition(": ")[0])


def _said(space: Space, table: Mapping[str, Any], source: str) -> Costs:
    problems = [
        f"{source}: budget.cost: no layer {name!r} has settings; valid: {', '.join((*space.layers, REST))}"
        for name in table
        if name not in (*space.layers, REST)
    ]
    found = []
    for layer, options in zip(space.layers, space.options, strict=True):
        costs = table.get(layer, table.get(REST))
        if costs is None:
            problems.append(f"{source}: budget.cost.{layer}: is missing; give {len(options)} costs")
        elif len(costs) != len(options):
            key = layer if layer in table else REST
            words = f"has {len(costs)} costs for {len(options)} settings of {layer}"
            problems.append(f"{source}: budget.cost.{key}: {words}: {'; '.join(str(dict(o)) for o in options)}")
        else:
            found.append(tuple(map(float, costs)))
    if problems:
        raise InputError(dict.fromkeys(problems))
    return tuple(found)


def _known(space: Space, kind: str, network: Network, at: str) -> Costs:
    """Bits that a transform's weights take, each weight as often as it is used where operations count."""
    weights, problems = network.model.get_weights(), list[str]()
    times = [1.0] * len(weights)
    if kind == OPERATIONS:
        times, problems = _uses(network, space, at)

    def cost(layer: str, option: Option) -> float:
        taken: dict[int, float] = {}  # of two that round one after the other, the last says it
        for t in space.reached_by(layer):
            made = space.transform(layer, t, option)
            for i in select(network.variables, layer, made.variables) if made.of_weights else ():
                bits = made.bits_stored(weights[i], network.variables[i])
                taken |= {} if bits is None else {i: times[i] * network.variables[i].size * bits}
        return sum(taken.values())

    silent = {}
    for column, (t, name) in space.family.swept.items():
        layer = next(layer for layer in space.layers if column in space.columns(layer))
        made = space.transform(layer, t, space.options[space.layers.index(layer)][0])
        variables = select(network.variables, layer, made.variables) if made.of_weights else ()
        if not variables or made.bits_stored(weights[variables[0]], network.variables[variables[0]]) is None:
            silent[t, name] = f"{at}.perturb[{t}].{name}"
    words = f"no cost is known for it in {UNITS[kind]}; give one value, or costs of your own: "
    words += '[budget] cost = { "*" = [4, 2, 1] }'
    problems += [f"{place}: {words}" for place in silent.values()]
    if problems:
        raise InputError(problems)
    return tuple(tuple(cost(ly, o) for o in opts) for ly, opts in zip(space.layers, space.options, strict=True))


def _uses(network: Network, space: Space, at: str) -> tuple[list[float], list[str]]:
    """How often each weight of a kernel is multiplied for one image."""
    from sweep.engine.graph import Graph, Unsupported

    model = network.model
    try:
        graph = Graph(model, range(len(model.weights)))
    except Unsupported as reason:
        return [], [f"{at}: operations cannot be counted here: {reason}"]
    times, problems = [0.0] * len(model.weights), []
    for step in graph.steps:
        numbers = [graph.number(w) for w in getattr(step.operation, "weights", ())]
        own = [n for n in numbers if n >= 0 and network.variables[n].layer in space.layers]
        shape = step.shapes[0]
        first = getattr(step.operation, "data_format", None) == "channels_first"
        places = shape[1:] if first else shape[:-1]
        if own and (None in shape or type(step.operation).__name__ not in _MULTIPLYING):
            problems.append(f"{at}: operations are counted of convolutions and dense layers, not of {step}")
            continue
        for n in own:
            times[n] += math.prod(places)
    return times, problems


_MULTIPLYING = {"Dense"} | {f"{kind}{n}D" for kind in ("Conv", "DepthwiseConv", "SeparableConv") for n in (1, 2, 3)}
