"""What the families of a study reach in each network, and what they leave alone: to be read before it runs."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from sweep.networks.loading import Network
from sweep.networks.variables import statistics_in
from sweep.perturb.perturbation import reached
from sweep.preparation.sites import Flow
from sweep.study.family import CLEAN, Cell
from sweep.study.study import Study

_NAMED = 8  # layers; of more, only the kinds are told


def reach(study: Study, networks: Mapping[str, Network], flow: Flow) -> list[str]:
    """Lines such as "gaussian, uniform: weights of conv1 72, fc 4,000 of 4,010; nothing of bn"."""
    lines, first = [], next(iter(study.datasets))
    for label, network in networks.items():
        families: dict[str, list[str]] = {}
        on_one = (cell for cell in study.cells if (cell.model, cell.dataset) == (label, first))
        own = (cell for cell in on_one if cell.family != CLEAN)
        for family, cells in itertools.groupby(own, lambda cell: cell.family):
            families.setdefault("; ".join(_said(list(cells), network, flow)), []).append(family)
        where = f" ({label})" if len(networks) > 1 else ""
        lines += [f"{', '.join(names)}{where}: {text}" for text, names in families.items()]
    return lines


def _said(cells: Sequence[Cell], network: Network, flow: Flow) -> Iterator[str]:
    """What the cells of a family reach, all together."""
    selections = {tuple((t.op, t.layers, t.variables) for t in cell.transforms): cell for cell in cells}
    chosen = {i for cell in selections.values() for i in reached(network.variables, cell.transforms)}
    anew = max((cell.recalibrated for cell in cells), default=0)
    places = {p.layer.layer: None for cell in cells for p in flow.get(cell.id, ())}
    if places:
        yield f"data flow at {_listed(list(places))}"
    if anew:
        layers = dict.fromkeys(network.variables[i].layer for i in statistics_in(network.variables))
        yield f"then statistics of {_listed(list(layers))} anew, from {anew:,} training images at most"
    if not chosen:
        return
    of_all, found = Counter[str](), Counter[str]()  # numbers of weights by layer
    for variable in network.variables:
        of_all[variable.layer] += variable.size
        if variable.index in chosen:
            found[variable.layer] += variable.size
    yield "weights of " + _listed([_share(layer, count, of_all[layer]) for layer, count in found.items()])
    left = {v.layer: v.layer_type for v in network.variables if v.layer not in found}
    if left:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(left.values()).items())
        yield f"nothing of {', '.join(left) if len(left) <= _NAMED else kinds}"


def _share(layer: str, count: int, of_all: int) -> str:
    return f"{layer} {count:,}" if count == of_all else f"{layer} {count:,} of {of_all:,}"


def _listed(names: Sequence[str]) -> str:
    """All of a few names; of many the first and the last, and how many there are."""
    if len(names) <= _NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:3])}, … {names[-1]}: {len(names)} layers"
