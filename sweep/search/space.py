"""What may differ by layer in a family: the settings of each layer, what they cost, and the cells that they make."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from sweep.errors import InputError
from sweep.perturb.base import Scalar, Transform
from sweep.perturb.dataflow import DataFlow
from sweep.preparation.files import layers_of
from sweep.preparation.inputs import Prepared
from sweep.preparation.sites import Placed
from sweep.study.family import Cell, Family
from sweep.texts import number

Setting = tuple[int, ...]
"""For each layer of a `Space`, which of its options."""
Option = Mapping[str, Scalar]
"""Values by column, as in the cells of a family."""


class Candidate(NamedTuple):
    """A cell, and what acts on its data flow."""

    cell: Cell
    flow: tuple[Placed, ...]


class Space:
    """A family whose swept parameters may differ by layer.

    A transform that sweeps stands once for each of its layers, with that layer's values; all others act as they are, on
    top or below. So every setting has the same transforms at the same positions, and the same chips.

    Attributes:
        family: whose lists are the choice.
        model: label of the network.
        layers: names, in the order of the network.
        options: of each layer, what it may be set to, in the order of the family's grid.
    """

    def __init__(self, prepared: Prepared, family: Family, model: str) -> None:
        """Raises InputError where there is nothing to choose from."""
        self.family, self.model = family, model
        self._flow = prepared.flow
        network = prepared.networks[model]
        self._reach: dict[int, list[str]] = {}
        for t in sorted({t for t, _ in family.swept.values()}):
            one = family.choices[t][0]
            self._reach[t] = list(dict.fromkeys(layers_of(network, type(one), one.layers, one.variables)))
        order = {layer.layer: k for k, layer in enumerate(network.layers)}
        found = dict.fromkeys(name for names in self._reach.values() for name in names)
        self.layers = tuple(sorted(found, key=lambda name: order.get(name, len(order))))
        self.options = tuple(tuple(self._options(layer)) for layer in self.layers)
        self._uniform = {tuple(cell.values.items()): cell for cell in family.cells(model)}
        self.cell = lru_cache(maxsize=None)(self._cell)

    def columns(self, layer: str) -> dict[str, tuple[int, str]]:
        """The swept columns that reach a layer → (position of the transform, parameter)."""
        return {column: at for column, at in self.family.swept.items() if layer in self._reach[at[0]]}

    def uniform(self) -> dict[str, Setting]:
        """The settings in which all layers have the same values, by how they are called."""
        return {option_text(cell.values): self.at(cell.values) for cell in self._uniform.values()}

    def at(self, values: Option) -> Setting:
        """The setting in which all layers have these values; InputError where the family has no such cell."""
        known = set(values) == set(self.family.swept)
        if not known or tuple((column, values[column]) for column in self.family.swept) not in self._uniform:
            valid = "; ".join(option_text(cell.values) for cell in self._uniform.values())
            raise InputError(f"{dict(values)} is no cell of family {self.family.name!r}; valid: {valid}")
        picks = []
        for layer, options in zip(self.layers, self.options, strict=True):
            own = {column: values[column] for column in self.columns(layer)}
            picks.append(next(k for k, option in enumerate(options) if option == own))
        return tuple(picks)

    def transform(self, layer: str, position: int, option: Option) -> Transform:
        """What stands at a position of the family, on one layer, with an option."""
        names = {name: column for column, (t, name) in self.family.swept.items() if t == position}
        choices = self.family.choices[position]
        chosen = next(c for c in choices if all(getattr(c, name) == option[column] for name, column in names.items()))
        made = copy.copy(chosen)
        object.__setattr__(made, "layers", layer)
        return made

    def reached_by(self, layer: str) -> list[int]:
        """Positions of the transforms that sweep and reach a layer."""
        return [t for t, names in self._reach.items() if layer in names]

    def perturb(self, setting: Setting) -> list[dict[str, object]]:
        """The transforms of a setting as the tables of a study."""
        tables: list[dict[str, object]] = []
        picked = dict(zip(self.layers, self._picked(setting), strict=True))
        for t, table in enumerate(self.family.perturb):
            names = {name: column for column, (at, name) in self.family.swept.items() if at == t}
            if not names:
                tables.append(dict(table))
            for layer in self._reach.get(t, ()):
                values = {name: picked[layer][column] for name, column in names.items()}
                tables.append({**table, **values, "layers": layer})
        return tables

    def _cell(self, setting: Setting) -> Candidate:
        """The cell of a setting, made once."""
        picked = dict(zip(self.layers, self._picked(setting), strict=True))
        transforms: list[Transform] = []
        flow: list[Placed] = []
        whole = next(iter(self._uniform.values()))
        for t, choices in enumerate(self.family.choices):
            if t not in self._reach:
                flow += self._placed(whole, t, len(transforms))
                transforms.append(choices[0])
                continue
            for layer in self._reach[t]:
                made = self.transform(layer, t, picked[layer])
                if isinstance(made, DataFlow):
                    like = next(c for c in self._uniform.values() if picked[layer].items() <= c.values.items())
                    flow += [p for p in self._placed(like, t, len(transforms)) if p.layer.layer == layer]
                transforms.append(made)
        named = ", ".join(f"{ly} {name} {value!r}" for ly, o in picked.items() for name, value in o.items())  # in full
        family = self.family
        cell = Cell(self.model, f"{family.name}/{named}", {}, tuple(transforms), family.recalibrated)
        return Candidate(cell, tuple(flow))

    def _placed(self, cell: Cell, position: int, now: int) -> list[Placed]:
        found = self._flow.get(cell.id, ())
        return [replace(placed, position=now) for placed in found if placed.position == position]

    def _picked(self, setting: Setting) -> list[Option]:
        return [options[k] for options, k in zip(self.options, setting, strict=True)]

    def _options(self, layer: str) -> list[Option]:
        columns = self.columns(layer)
        lists = [self.family.axes[column] for column in columns]
        kinds = [self._kind(*at) for at in columns.values()]
        points = itertools.product(*lists)
        return [{c: k(v) for c, k, v in zip(columns, kinds, point, strict=True)} for point in points]

    def _kind(self, position: int, name: str) -> type:
        return type(getattr(self.family.choices[position][0], name))


def option_text(option: Option) -> str:
    """Such as "bits 4"."""
    return ", ".join(f"{name} {number(v, 6) if isinstance(v, float) else v}" for name, v in option.items())


def chosen_family(prepared: Prepared, name: str | None) -> tuple[Family, str]:
    """The family of this name, or the only one, and the label of the only network; InputError for all that is wrong."""
    study, problems = prepared.study, []
    names = [family.name for family in study.family]
    if len(study.models) > 1:
        problems.append(f"{study.source}: model: names {len(study.models)} networks; give one")
    if len(study.datasets) > 1:
        problems.append(f"{study.source}: dataset: names {len(study.datasets)} test sets; give one")
    found = [family for family in study.family if name in (None, family.name)]
    if not found:
        problems.append(f"{study.source}: family: none is called {name!r}; valid: {', '.join(names)}")
    elif len(found) > 1:
        problems.append(f"{study.source}: family: there are {len(found)}; name one with --family: {', '.join(names)}")
    elif found[0].sensitivity:
        at = f"{study.source}: family[{names.index(found[0].name)}].sensitivity"
        problems.append(f"{at}: acts on one layer at a time, and each layer is tried here anyway; leave it out")
    elif wrong := next((t.op for choices in found[0].choices for t in choices if t.in_files), None):
        at = f"{study.source}: family[{names.index(found[0].name)}].perturb"
        problems.append(f"{at}: {wrong} has a chip for each of its files, and a search draws as many as it needs")
    if problems:
        raise InputError(problems)
    return found[0], next(iter(study.models))
