"""Transforms as data: what a reader of results asks of a study's own transforms, without their code.

A run stores a description of every transform that does not come with this package. A reader makes a stand-in from it,
which has the parameters, the text and the randomness of the transform, and cannot be applied.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import keyword
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from sweep.errors import StoreError
from sweep.networks.variables import Variable
from sweep.perturb.base import SHOWN, Array, Table, Transform, parameter, parameters
from sweep.perturb.dataflow import DataFlow

KINDS: dict[str, Any] = {"float": float, "int": int, "bool": bool, "str": str, "table": Table}
"""The types that a parameter may have."""
FACTS = ("random", "is_identity")
"""What a transform says of itself at given values; yes or no."""
FIGURES = ("std_per_level", "rounding_step")
"""Likewise, numbers or None; runs of 0.1.0 have none."""
_TAKEN = {name for name in dir(Transform) if not name.startswith("__")} | {"facts"}


def is_ours(transform: type[Transform]) -> bool:
    """Whether a transform comes with this package."""
    return transform.__module__.startswith("sweep.")


def describe(transform: type[Transform], used: Iterable[Transform]) -> dict[str, Any]:
    """A transform as JSON knows it: its parameters, its docstring, and what it says of itself where it is used.

    Args:
        transform: of a user's own.
        used: instances of it, as the cells of a study have them.
    """
    hints = parameters(transform)
    fields = {field.name: field for field in dataclasses.fields(transform)}
    points = {_key(values): t for t in used for values in [_values(t)]}
    return {
        "acts_on": "activations" if issubclass(transform, DataFlow) else "weights",
        "text": inspect.cleandoc(transform.__doc__ or ""),
        "parameters": {name: _parameter(fields[name], hints[name]) for name in hints},
        "used": [{"values": json.loads(key), **_facts(t)} for key, t in points.items()],
    }


def stand_in(op: str, data: Any) -> type[Transform]:
    """A class like the one that was described, for `op`; raises ValueError when this is no description."""
    _require(isinstance(data, Mapping), "is no description of a transform")
    text, fields, used = data.get("text"), data.get("parameters"), data.get("used")
    _require(isinstance(text, str) and isinstance(fields, Mapping) and isinstance(used, list), "lacks a part")
    facts = {}
    for point in used:
        sound = isinstance(point, Mapping) and isinstance(point.get("values"), Mapping)
        _require(sound and all(isinstance(point.get(fact), bool) for fact in FACTS), "has a use that is none")
        figures = {figure: point.get(figure) for figure in FIGURES}
        _require(all(f is None or _is_number(f) for f in figures.values()), "has a use with a figure that is none")
        facts[_key(point["values"])] = {fact: point[fact] for fact in FACTS} | figures
    bases = (StandIn, DataFlow) if data.get("acts_on") == "activations" else (StandIn,)
    return dataclasses.make_dataclass(
        "StandIn",
        [_field(name, valid) for name, valid in fields.items()],
        bases=bases,
        namespace={"__doc__": text, "__module__": __name__, "op": op, "facts": facts},
        frozen=True,
        kw_only=True,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StandIn(Transform):
    """What is known of a transform whose code is not there.

    Attributes:
        facts: what it says of itself, by its values.
    """

    facts: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    random = property(lambda self: self._fact("random"))
    is_identity = property(lambda self: self._fact("is_identity"))
    std_per_level = property(lambda self: self._fact("std_per_level"))
    rounding_step = property(lambda self: self._fact("rounding_step"))

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        """Cannot be: raises StoreError."""
        raise StoreError(f"{self.op}: its code is not there; the run describes it only")

    def _fact(self, name: str) -> Any:
        """As it was stored; raises StoreError for values that the run has not."""
        found = self.facts.get(_key(_values(self)))
        if found is None:
            raise StoreError(f"{self.op}: the run says nothing of {_key(_values(self))}; was its study.toml changed?")
        return found[name]


def _values(transform: Transform) -> dict[str, Any]:
    return {field.name: getattr(transform, field.name) for field in dataclasses.fields(transform)}


def _key(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True)


def _facts(transform: Transform) -> dict[str, bool | float | None]:
    figures = {figure: getattr(transform, figure) for figure in FIGURES}
    return {fact: bool(getattr(transform, fact)) for fact in FACTS} | {
        figure: None if value is None else float(value) for figure, value in figures.items()
    }


def _parameter(field: dataclasses.Field[Any], kind: Any) -> dict[str, Any]:
    """One parameter; what there is no bound or default for is left out."""
    said = field.metadata
    found: dict[str, Any] = {
        "type": next(name for name, known in KINDS.items() if known == kind),
        "text": str(said.get("text", field.name)),
    }
    for bound in ("minimum", "maximum"):
        if said.get(bound) is not None and math.isfinite(said[bound]):
            found[bound] = said[bound]
    if said.get("choices"):
        found["choices"] = list(said["choices"])
    found |= {fact: said[fact] for fact in SHOWN if said.get(fact) is not None}
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    if default is not dataclasses.MISSING and not (isinstance(default, float) and not math.isfinite(default)):
        found["default"] = default
    return found


def _field(name: Any, valid: Any) -> tuple[str, Any, Any]:
    _require(isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name), f"{name!r} is no name")
    _require(name not in _TAKEN and not name.startswith("_"), f"{name!r} cannot be a parameter")
    _require(isinstance(valid, Mapping) and valid.get("type") in tuple(KINDS), f"{name}: has no type that is known")
    kind = KINDS[valid["type"]]
    choices = valid.get("choices")
    _require(choices is None or _all(choices, (str, int, float)), f"{name}: its choices are no values")
    bounds = [valid.get(bound) for bound in ("minimum", "maximum")]
    _require(all(b is None or _is_number(b) for b in bounds), f"{name}: its bounds are no numbers")
    given: dict[str, Any] = {"default": _default(valid["default"], kind, name)} if "default" in valid else {}
    low, high = bounds
    text = str(valid.get("text", name))
    given |= {fact: valid[fact] for fact in SHOWN if fact in valid}
    return name, kind, parameter(text, minimum=low, maximum=high, choices=tuple(choices) if choices else None, **given)


def _default(value: Any, kind: Any, name: str) -> Any:
    """A default in its type; whether it is in its range shows when it is used."""
    tests: dict[Any, Callable[[Any], bool]] = {
        float: _is_number,
        int: lambda v: isinstance(v, int) and not isinstance(v, bool),
        bool: lambda v: isinstance(v, bool),
        str: lambda v: isinstance(v, str),
        Table: lambda v: isinstance(v, list) and all(_all(p, (int, float)) and len(p) == 2 for p in v),
    }
    _require(tests[kind](value), f"{name}: its default is none of its type")
    return tuple((float(x), float(y)) for x, y in value) if kind == Table else value


def _all(values: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(values, list) and all(isinstance(v, kind) and not isinstance(v, bool) for v in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require(sound: object, problem: str) -> None:
    if not sound:
        raise ValueError(problem)
