"""The swept parameter of a family at any level, on all its layers or on one: cells, and the axis of levels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import lru_cache

from sweep.errors import InputError
from sweep.perturb.base import Scalar, make, parameters, values_of
from sweep.preparation.files import layers_of
from sweep.preparation.inputs import Prepared
from sweep.preparation.sites import flow_of, observed
from sweep.search.space import Candidate, option_text
from sweep.study.family import Cell, Family


class Levels:
    """A family that sweeps one number; its list is the range in which a level is sought.

    A place on the axis is the level on the scale on which accuracy goes with it, as the transform says: itself, its
    square, or its logarithm; the higher the place, the worse.

    Attributes:
        name: of the parameter.
        layers: on which it acts.
        whole: whether levels are whole numbers.
    """

    def __init__(self, prepared: Prepared, family: Family, model: str, at: str) -> None:
        """Raises InputError, which names the family `at`, where it does not sweep one number."""
        if len(family.swept) != 1:
            what = ", ".join(family.swept) or "nothing"
            raise InputError(f"{at}: sweeps {what}; a level is sought of one number, given as a list of two or more")
        ((column, (self._position, self.name)),) = family.swept.items()
        place, choices = f"{at}.perturb[{self._position}].{self.name}", family.choices[self._position]
        kind = type(choices[0])
        if parameters(kind)[self.name] not in (int, float):
            raise InputError(f"{place}: is no number, of which a level could be sought")
        self.whole = parameters(kind)[self.name] is int
        facts = next(f for f in dataclasses.fields(kind) if f.name == self.name).metadata
        self._spacing, self._sign = facts.get("spacing", "linear"), -1.0 if facts.get("worse") == "low" else 1.0
        values = sorted({float(getattr(choice, self.name)) for choice in choices})
        if len(values) < 2 or (self._spacing == "log" and values[0] <= 0):
            raise InputError(
                f"{place}: a level is sought between the ends of its list; give two, both above 0 on a log axis"
            )
        first = choices[0]
        self.layers = tuple(dict.fromkeys(layers_of(prepared.networks[model], kind, first.layers, first.variables)))
        self._family, self._model, self._column = family, model, column
        self._cells = {cell.values[column]: cell for cell in family.cells(model)}
        self._network = prepared.networks[model]
        sets = prepared.dataset, prepared.calibration
        self._samples = observed([*self._cells.values()], self._network, sets, prepared.study.rescale)
        places = [self.place(value) for value in values]
        self.best, self.worst = min(places), max(places)
        self.at = lru_cache(maxsize=None)(self._at)

    def place(self, level: float) -> float:
        """Of a level on the axis."""
        x = level**2 if self._spacing == "square" else math.log(level) if self._spacing == "log" else level
        return self._sign * x

    def level(self, place: float) -> float:
        """At a place of the axis."""
        x = self._sign * place
        x = math.sqrt(max(x, 0.0)) if self._spacing == "square" else math.exp(x) if self._spacing == "log" else x
        return float(round(x)) if self.whole else x

    def between(self) -> list[float]:
        """All places of whole levels, the best first."""
        ends = sorted((self.level(self.best), self.level(self.worst)))
        return sorted(self.place(float(level)) for level in range(int(ends[0]), int(ends[1]) + 1))

    def swept(self) -> list[Candidate]:
        """The cells of the list itself."""
        return [self.at(None, float(str(value))) for value in self._cells]

    def below(self, values: Mapping[str, Scalar]) -> Candidate:
        """The cell with these values; InputError where there is none."""
        if set(values) != {self._column} or values[self._column] not in self._cells:
            valid = "; ".join(option_text(cell.values) for cell in self._cells.values())
            raise InputError(f"{dict(values)} is no cell of family {self._family.name!r}; valid: {valid}")
        return self.at(None, float(str(values[self._column])))

    def _at(self, layer: str | None, level: float) -> Candidate:
        """At a level, on one layer or on all."""
        transforms = [choices[0] for choices in self._family.choices]
        one = transforms[self._position]
        values = {**values_of(one), self.name: level, "layers": one.layers if layer is None else layer}
        transforms[self._position] = make(type(one), values)
        named = f"{self._family.name}/{self.name} {level!r}{'' if layer is None else f' on {layer}'}"
        cell = Cell(self._model, named, {}, tuple(transforms), self._family.recalibrated)
        return Candidate(cell, flow_of(transforms, self._network, self._samples))
