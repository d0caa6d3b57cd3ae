"""Tables of a file, checked against a model: every problem at once, by its key, with what is valid; and their schema.

Studies, recipes, transforms and what a run says of a stranger's are checked here and nowhere else. This imports
pydantic: import it where tables are checked, not before.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Union

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, create_model, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError, core_schema

from sweep.errors import hint
from sweep.texts import number as written

SAID, TWICE, UNKNOWN = "said", "twice", "unknown"
"""Kinds of problems: a value that is wrong, one that is right and stands there already, a key that nothing reads."""
_OURS = {SAID, TWICE, UNKNOWN}
_ONE, _MANY, _TABLE = "\0one", "\0many", "\0table"  # stand in the places that pydantic gives, and in no key
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # terminals act on them, and no SVG may hold them
_LARGEST = 2**63 - 1  # of TOML
_DEEPEST = 100  # tables and lists in one another
Place = tuple[str | int, ...]
"""Keys and positions that lead to a value."""


class Problem(NamedTuple):
    """One mistake: where, what is wrong and what is valid, and its kind."""

    place: Place
    text: str
    kind: str = SAID

    def __str__(self) -> str:
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.place).removeprefix(".")
        return f"{key}: {self.text}" if key else self.text


def check(
    model: type[Model], data: Mapping[str, Any], *, ops: Any = None, controls: bool = False
) -> tuple[dict[str, Any], list[Problem]]:
    """What of these tables can be understood, and every problem.

    They may name the transforms `ops`; with `controls`, texts may have control characters. What is understood has plain
    lists, dictionaries and numbers, and is without what is wrong: keys are left out, entries of lists are None.
    """
    problems: list[Problem] = []
    tables = _plain(dict(data), (), problems, controls)
    try:
        model.model_validate(tables, context={"ops": ops})
    except ValidationError as error:
        problems += [problem._replace(place=_untagged(problem.place)) for problem in told(error)]
    problems = list(dict.fromkeys(problems))
    for place, _, kind in sorted(problems, key=lambda problem: -len(problem.place)):
        if kind != TWICE:
            _drop(tables, place)
    return tables, problems


def told(error: ValidationError) -> list[Problem]:
    """The single errors."""
    return [Problem(line["loc"], line["msg"], line["type"]) for line in error.errors(include_url=False)]


def failed(problems: Iterable[Problem]) -> ValidationError:
    """The error that has these problems."""
    details = [
        InitErrorDetails(type=PydanticCustomError(kind, "{text}", {"text": text}), loc=place, input=None)
        for place, text, kind in problems
    ]
    return ValidationError.from_exception_data("tables", details)


def shown(value: Any) -> str:
    """A value as a message has it."""
    try:
        text = repr(value)
    except ValueError:  # a number with more digits than Python prints
        text = f"a {type(value).__name__} beyond all bounds"
    return text if len(text) <= 500 else text[:499] + "…"


class Said:
    """What a value must be, in words: whatever is wrong with it, the message is this one.

    Attributes:
        wanted: after "is not".
        wrong: the message.
        beyond: the message for a number out of range, if another.
        distinct: whether no entry of a list may stand there twice.
    """

    def __init__(
        self, wanted: str = "", wrong: str = "{value} is not {wanted}", beyond: str = "", distinct: bool = False
    ) -> None:
        self.wanted, self.wrong, self.beyond, self.distinct = wanted, wrong, beyond or wrong, distinct

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        return core_schema.no_info_wrap_validator_function(self._check, handler(source))

    def _check(self, value: Any, inner: Callable[[Any], Any]) -> Any:
        found: list[Problem] = []
        try:
            inner(value)
        except ValidationError as error:
            found = told(error)
            kinds = {problem.kind for problem in found}
            if not kinds <= _OURS:  # what is inside has no words of its own
                wrong = self.beyond if kinds <= {"greater_than_equal", "less_than_equal"} else self.wrong
                found = [problem for problem in found if problem.kind in _OURS]
                text = wrong.format(value=shown(value), wanted=self.wanted)
                if kinds == {"int_type"} and isinstance(value, float) and value.is_integer():
                    text += f"; write {int(value)}"
                found.append(Problem((), text))
        wrong_at = {problem.place[:1] for problem in found}
        if self.distinct and () not in wrong_at:
            good = [item for i, item in enumerate(value) if (i,) not in wrong_at]
            found += [Problem((), f"{shown(item)} is listed twice", TWICE) for item in duplicates(good)]
        if found:
            raise failed(found)
        return value


class Model(BaseModel):
    """A table with these keys and no others; its fields say what each must be."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _worded(cls, data: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(data)
        except ValidationError as error:
            if not isinstance(data, dict):
                raise
            found = [cls._told(problem) for problem in told(error)]
            wanting = [problem.place[-1] for problem in told(error) if problem.kind == "missing"]
            strange = [problem for problem in found if problem.kind == UNKNOWN]
            if len(wanting) == len(strange) == 1 and "did you mean" not in strange[0].text:
                meant = f"{strange[0].text} (did you mean {wanting[0]!r}, which is missing?)"
                found[found.index(strange[0])] = strange[0]._replace(text=meant)
            raise failed(sorted(found, key=lambda p: len(p.place) > 1 or p.kind != UNKNOWN)) from None

    @classmethod
    def _told(cls, problem: Problem) -> Problem:
        fields = {str(field.alias): field for field in cls.model_fields.values()}
        key = str(problem.place[-1])
        if problem.kind == "extra_forbidden":
            text = f"unknown key; valid: {', '.join(fields)}{hint(key, fields)}"
            return problem._replace(text=text, kind=UNKNOWN)
        if problem.kind == "missing":
            wanted = [said.wanted for said in fields[key].metadata if isinstance(said, Said) and said.wanted]
            return problem._replace(text="; it must be ".join(["is missing", *wanted[:1]]), kind=SAID)
        first, *rest = problem.place  # of a default, the field's own name
        names = {name: str(field.alias) for name, field in cls.model_fields.items()}
        return problem._replace(place=(names.get(str(first), first), *rest))


class _Open(Model):
    model_config = ConfigDict(extra="allow")


def model(name: str, keys: Mapping[str, Sequence[Any]], others: bool = False) -> type[Model]:
    """The model of a table: for each key what it must be, its default (`...` for none), and perhaps what it means.

    With `others`, further keys may be there, and hold anything.
    """
    fields: dict[str, Any] = {}
    for i, (key, (kind, default, *meaning)) in enumerate(keys.items()):
        said: dict[str, Any] = {
            "alias": key,
            "description": " ".join(meaning) or None,
            "validate_default": default is not None,
        }
        field = Field(_listed(default), **said)
        fields[f"field_{i}"] = (kind, field)  # under names of our own: pydantic does not take every word for one
    return create_model(name, __base__=_Open if others else Model, **fields)


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def duplicates(values: Sequence[Any]) -> list[Any]:
    """Those that are equal to an earlier one, each once."""
    seen: set[Any] = set()
    again: dict[Any, Any] = {}
    for value in values:
        key = tuple(sorted(value.items())) if isinstance(value, dict) else value
        if key in seen:
            again.setdefault(key, value)
        seen.add(key)
    return list(again.values())


def whole(low: float | None, high: float | None = _LARGEST, said: str = "", beyond: str = "") -> Any:
    """A whole number in a range; `said` and `beyond` as `Said` has them."""
    words = Said(said or f"a whole number of at least {low}", beyond=beyond)
    return Annotated[int, Field(strict=True, ge=low, le=high), words]


def number(
    low: float | None = None, high: float | None = None, said: str = "", beyond: str = "", above: float | None = None
) -> Any:
    """A finite number in a range."""
    bounds = Field(strict=True, allow_inf_nan=False, ge=low, le=high, gt=above)
    return Annotated[float, bounds, Said(said or f"a finite number of at least {low}", beyond=beyond)]


def text(pattern: str = r"^[\s\S]+$", said: str = "a text") -> Any:
    """A text of this form; unless told otherwise, of one character at least."""
    return Annotated[str, Field(strict=True, pattern=pattern), Said(said)]


def boolean() -> Any:
    """True or false."""
    return Annotated[bool, Field(strict=True), Said("true or false")]


def choice(names: Iterable[Any]) -> Any:
    """One of these."""
    words = Said(f"one of {', '.join(map(str, names))}", "{value} is not valid; choose {wanted}")
    return Annotated[Literal[tuple(names)], words]


def some(
    one: Any, wanted: str = "", wrong: str = "{value} is not {wanted}", least: int = 1, distinct: bool = False
) -> Any:
    """A list of at least so many of these, with `distinct` all different."""
    bounds = Field(min_length=least, json_schema_extra={"uniqueItems": True} if distinct else None)
    return Annotated[list[one], bounds, Said(wanted, wrong, distinct=distinct)]


def either(one: Any, other: Any, kind: type = list) -> Any:
    """A single value, or a list (a table with `dict`); what is wrong with an entry of a list is said of the key."""
    tag = _MANY if kind is list else _TABLE
    choose = Discriminator(lambda value: tag if isinstance(value, kind) else _ONE)
    return Annotated[Union[Annotated[one, Tag(_ONE)], Annotated[other, Tag(tag)]], choose]  # noqa: UP007


def value(kind: Any, valid: Mapping[str, Any], swept: bool) -> Any:
    """A transform's parameter of this type: a value or, when it may be swept, a list of values.

    `valid` has `minimum`, `maximum` and `choices`, each None where there are no bounds.
    """
    low, high, choices = (valid.get(key) for key in ("minimum", "maximum", "choices"))
    least, most = ("" if bound is None else written(bound) for bound in (low, high))
    bounds = f" of at least {least}" if least else f" of at most {most}" if most else ""
    bounds = f" from {least} to {most}" if least and most else bounds
    names = {float: "a finite number", int: "a whole number", bool: "true or false", str: "a string"}
    if kind not in names:
        return POINTS
    words = names[kind] + bounds, "{value} is out of range; valid is {wanted}"
    one = number(low, high, *words) if kind is float else whole(low, high, *words) if kind is int else boolean()
    one = choice(choices) if choices else text("", "a string") if kind is str else one
    return either(one, some(one, wrong="the list is empty; give at least one value", distinct=True)) if swept else one


def _ascending(points: list[Any]) -> list[Any]:
    if any(a[0] >= b[0] for a, b in itertools.pairwise(points)):
        raise ValueError("the first numbers do not ascend")
    return points


_NUMBER = Annotated[float, Field(strict=True, allow_inf_nan=False)]
POINTS = Annotated[
    list[Annotated[list[_NUMBER], Field(min_length=2, max_length=2)]],
    Field(min_length=2),
    AfterValidator(_ascending),
    Said("a list of points such as [[0, 0.2], [25, 1.1]], two or more, the first numbers ascending"),
]
"""A curve, which is one value."""
SURFACE = Annotated[
    list[Annotated[tuple[_NUMBER, POINTS], Said("a number and a list of points")]],
    Field(min_length=2),
    AfterValidator(_ascending),
    Said("a list such as [[1, [[0, 0.2], [25, 1.1]]], [3600, …]], two or more, the first numbers ascending"),
]
"""Curves by a number, which are one value."""
_LAYER = Annotated[
    Annotated[str, Field(strict=True, min_length=1)] | Annotated[int, Field(strict=True, ge=0, le=_LARGEST)],
    Said("a layer's name, a glob, or an index into model.layers (0, 1, …)"),
]
LAYERS = either(_LAYER, some(_LAYER, wrong='the list is empty; "*" selects every kernel'))
"""A selection of layers, whatever the network."""
_VARIABLE = Annotated[
    Annotated[str, Field(strict=True, min_length=1)],
    Said('"kernel", a name such as "bias", a glob, or "*" for all'),
]
VARIABLES = either(_VARIABLE, some(_VARIABLE, wrong='the list is empty; "kernel" is what there is without it'))
"""A selection of a layer's variables, whatever the network."""


def _untagged(place: Place) -> Place:
    """Without the tags of `either`, and the positions in its list."""
    kept = (part for before, part in zip(("", *place), place, strict=False) if before != _MANY)
    return tuple(part for part in kept if part not in (_ONE, _MANY, _TABLE))


def _plain(value: Any, place: Place, problems: list[Problem], controls: bool) -> Any:
    """A copy of lists and dictionaries, numpy's numbers as Python's; texts that terminals would act on are problems."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and not controls and _CONTROLS.search(value):
        problems.append(Problem(place, f"{value!r} has control characters"))
    if len(place) > _DEEPEST:
        problems.append(Problem(place[:1], "its lists and tables are too deep in one another"))
        return None
    if isinstance(value, Mapping):
        bad = [key for key in value if not isinstance(key, str) or _CONTROLS.search(key)]
        problems += [Problem(place, f"{key!r} has control characters, and is no key") for key in bad]
        return {key: _plain(item, (*place, key), problems, controls) for key, item in value.items() if key not in bad}
    if isinstance(value, list | tuple):
        return [_plain(item, (*place, i), problems, controls) for i, item in enumerate(value)]
    return value


def _drop(tables: Any, place: Place) -> None:
    for part in place[:-1]:
        known = part in tables if isinstance(tables, dict) else isinstance(tables, list)
        tables = tables[part] if known else None
    if isinstance(tables, dict) and place:
        tables.pop(place[-1], None)
    elif isinstance(tables, list) and isinstance(place[-1], int):
        tables[place[-1]] = None
