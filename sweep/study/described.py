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
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from sweep.errors import InputError, StoreError
from sweep.networks.variables import Variable
from sweep.perturb.base import SHOWN, Array, Surface, Table, Transform, default_of, parameter, parameters, values_of
from sweep.perturb.dataflow import DataFlow

if TYPE_CHECKING:
    from sweep.tables import Model

KINDS: dict[str, Any] = {"float": float, "int": int, "bool": bool, "str": str, "table": Table, "surface": Surface}
"""The types that a parameter may have."""
_CHOSEN: dict[str, Any] = {"float": int | float, "int": int, "str": str}
FACTS = ("random", "is_identity")
"""What a transform says of itself at given values; yes or no."""
FIGURES = ("std_per_level", "rounding_step")
"""Likewise, numbers or None; runs of 0.1.0 have none."""
_TAKEN = {name for name in dir(Transform) if not name.startswith("__")} | {"facts"}


def is_ours(transform: type[Transform]) -> bool:
    """Whether a transform comes with this package."""
    return transform.__module__.startswith("sweep.")


def describe(transform: type[Transform], used: Iterable[Transform]) -> dict[str, Any]:
    """A user's transform as JSON knows it: its parameters, its docstring, and what its instances in use say of it."""
    hints = parameters(transform)
    fields = {field.name: field for field in dataclasses.fields(transform)}
    points = {_key(values): t for t in used for values in [values_of(t)]}
    return {
        "acts_on": "activations" if issubclass(transform, DataFlow) else "weights",
        "text": inspect.cleandoc(transform.__doc__ or ""),
        "parameters": {name: _parameter(fields[name], hints[name]) for name in hints},
        "used": [{"values": json.loads(key), **_facts(t)} for key, t in points.items()],
    }


def stand_in(op: str, data: Any) -> type[Transform]:
    """A class like the one that was described, for `op`; raises InputError when this is no description."""
    from sweep.tables import check

    if not isinstance(data, Mapping):
        raise InputError("is no description of a transform")
    tables, problems = check(_description(), {**data, "op": op}, controls=True)
    if problems:
        raise InputError(str(problem) for problem in problems)
    for name, valid in tables["parameters"].items():
        if not name.isidentifier() or keyword.iskeyword(name) or name in _TAKEN or name.startswith("_"):
            raise InputError(f"{name!r} cannot be the name of a parameter")
        if not all(isinstance(value, _CHOSEN.get(valid["type"], object)) for value in valid.get("choices") or ()):
            raise InputError(f"parameters.{name}.choices: are not all of its type")
    bases = (StandIn, DataFlow) if tables.get("acts_on") == "activations" else (StandIn,)
    facts = {_key(point["values"]): {f: point.get(f) for f in (*FACTS, *FIGURES)} for point in tables["used"]}
    said = {"__doc__": tables["text"], "__module__": __name__, "op": op, "facts": facts}
    try:
        fields = [_field(name, valid) for name, valid in tables["parameters"].items()]
    except ValueError as error:  # of a label, unit or spacing that is none
        raise InputError(str(error)) from None
    return dataclasses.make_dataclass("StandIn", fields, bases=bases, namespace=said, frozen=True, kw_only=True)


@lru_cache(maxsize=1)
def _description() -> type[Model]:
    """What `describe` writes; a newer noisesweep may write more."""
    from pydantic import Field

    import sweep.tables as t

    words, bound = t.text("", "a text"), t.number(said="a finite number")
    rows = list[list[int | float | list[list[int | float]]]]  # of a table, or a surface
    default: Any = Annotated[bool | int | float | str | rows, t.Said("a value")]
    one = {"type": (t.choice(KINDS), ...), "text": (words, None), "minimum": (bound, None), "maximum": (bound, None)}
    one |= {"choices": (t.some(words | int | float, "a list of values", least=0), None), "default": (default, None)}
    figure: Any = Annotated[Annotated[float, Field(strict=True)] | None, t.Said("a number")]
    used: dict[str, tuple[Any, Any]] = {"values": (dict[str, Any], ...), **{fact: (t.boolean(), ...) for fact in FACTS}}
    used |= dict.fromkeys(FIGURES, (figure, None))
    keys = {"op": (t.text(), ...), "acts_on": (t.choice(("weights", "activations")), "weights"), "text": (words, ...)}
    keys |= {"parameters": (dict[str, t.model("parameter", one, others=True)], ...)}  # type: ignore[misc]
    keys |= {"used": (t.some(t.model("used", used, others=True), "a list of uses", least=0), ...)}
    return t.model("description", keys, others=True)


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
        found = self.facts.get(_key(values_of(self)))
        if found is None:
            raise StoreError(f"{self.op}: the run says nothing of {_key(values_of(self))}; was its study.toml changed?")
        return found[name]


def _key(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True)


def _facts(transform: Transform) -> dict[str, bool | float | None]:
    figures = {name: None if (said := getattr(transform, name)) is None else float(said) for name in FIGURES}
    return {name: bool(getattr(transform, name)) for name in FACTS} | figures


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
    default = default_of(field, dataclasses.MISSING)
    if default not in (dataclasses.MISSING, None) and not (isinstance(default, float) and not math.isfinite(default)):
        found["default"] = default
    return found


def _field(name: str, valid: Mapping[str, Any]) -> tuple[str, Any, Any]:
    """Whether a default is valid shows when it is used."""
    given: dict[str, Any] = {"default": _frozen(valid["default"])} if "default" in valid else {}
    given |= {fact: valid[fact] for fact in SHOWN if fact in valid}
    choices = tuple(valid["choices"]) if valid.get("choices") else None
    given |= {bound: valid.get(bound) for bound in ("minimum", "maximum")}
    return name, KINDS[valid["type"]], parameter(str(valid.get("text", name)), choices=choices, **given)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
