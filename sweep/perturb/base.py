"""What every transform is, the register of them, and the checks that their parameters pass."""

from __future__ import annotations

import dataclasses
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_type_hints

import numpy as np
import numpy.typing as npt

from sweep.errors import InputError
from sweep.networks.variables import Variable

Array = npt.NDArray[np.float32]
Scalar = float | int | bool | str
Selection = str | int | tuple[str | int, ...]
Spacing = Literal["linear", "square", "log"]
Worse = Literal["high", "low"]
SHOWN = ("label", "unit", "spacing", "worse", "identity")  # what `parameter` says of axes
Table = tuple[tuple[float, float], ...]  # points (x, y) of a curve, by ascending x: never swept


@dataclass(frozen=True)
class Resolved:
    """A transform in the units of the weights that it acts on; None where a figure means nothing.

    Attributes:
        sigma: standard deviation of the random error, over draws and weights.
        step: distance between neighbouring levels.
        low, high: the smallest and the largest value that can be stored.
        saturated: share of the weights beyond these.
    """

    sigma: float | None = None
    step: float | None = None
    low: float | None = None
    high: float | None = None
    saturated: float | None = None


def parameter(
    text: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
    default: Any = dataclasses.MISSING,
    label: str | None = None,
    unit: str | Mapping[str, Mapping[str, str]] | None = None,
    spacing: Spacing = "linear",
    worse: Worse = "high",
    identity: float | None = None,
) -> Any:
    """A field of a transform: what it means, the values that are valid, and how it stands on an axis.

    Args:
        text: what it means.
        minimum, maximum, choices: the values that are valid.
        default: none where a study must set it.
        label: what its axis says; by default what it acts on, and the text where that is short.
        unit: of its values, behind the label; "s" shows durations; {"basis": {"weight": "× |w|", …}}, that which the
            value of another parameter says.
        spacing: on what scale accuracy goes with it, for what lies between levels: "square" for a level of noise, whose
            power counts; "log" for times.
        worse: the end at which it costs accuracy: "low" for bits.
        identity: the value at which the transform does nothing.

    Raises ValueError for what is no label, unit, spacing or end.
    """
    valid = {"text": text, "minimum": minimum, "maximum": maximum, "choices": choices}
    shown = dict(zip(SHOWN, (label, unit, spacing, worse, identity), strict=True))
    texts: list[Any] = [label, unit]
    if isinstance(unit, Mapping):
        ((_, units),) = unit.items()
        texts = [label, *units.values()] if isinstance(units, Mapping) else [units, unit]
    if not all(isinstance(said, str | None) for said in texts):
        raise ValueError(f"label {label!r} or unit {unit!r} is none")
    if spacing not in get_args(Spacing) or worse not in get_args(Worse):
        raise ValueError(f"spacing {spacing!r} or worse {worse!r} is none of {get_args(Spacing)}, {get_args(Worse)}")
    return dataclasses.field(default=default, metadata=valid | shown)


def noise_level(text: str, **facts: Any) -> Any:
    """A `parameter` that is the level of a noise: 0 or more, none at 0, spaced by its square."""
    usual: dict[str, Any] = {"minimum": 0.0, "label": "Noise scale", "unit": text, "spacing": "square", "identity": 0.0}
    return parameter(text, **(usual | facts))


@dataclass(frozen=True, kw_only=True)
class Transform(ABC):
    """One imperfection of stored weights.

    A subclass is a frozen dataclass whose fields, made with `parameter`, are what a study file may set or sweep.
    `layers` selects the weights (see `selection.select`). Its docstring is its entry in the catalogue: first the
    formula, then what else there is to say, then a paragraph "Source: …", then "Peers:" and a list of what others call
    it, each entry "- PEER `NAME`: which of its numbers is which of ours, and where the two differ".
    """

    op: ClassVar[str]
    layers: Selection = "*"

    def __post_init__(self) -> None:
        problems = []
        for name in parameters(type(self)):
            value, problem = check(type(self), name, getattr(self, name))
            if problem:
                problems.append(f"{self.op}: {name}: {problem}")
            object.__setattr__(self, name, value)
        problems += [] if problems else [f"{self.op}: {problem}" for problem in self.joint_problems()]
        if problems:
            raise InputError(problems)

    def joint_problems(self) -> list[str]:
        """What is wrong with parameters that are valid one by one."""
        return []

    @property
    @abstractmethod
    def random(self) -> bool:
        """Whether two seeds can give different weights, unless it is the identity."""

    @property
    def is_identity(self) -> bool:
        """Whether it changes no weight and no decision at these values; by default as its parameters say."""
        known = ((getattr(self, f.name), f.metadata.get("identity")) for f in dataclasses.fields(self))
        return any(identity is not None and value == identity for value, identity in known)

    @property
    def std_per_level(self) -> float | None:
        """Standard deviation of what it adds to a weight, whatever the weight, at a noise level of 1; else None."""
        return None

    @property
    def rounding_step(self) -> float | None:
        """Distance between its levels where it rounds every weight to the nearest of them, without end; else None."""
        return None

    @abstractmethod
    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:
        """The perturbed copy of one float32 weight array, of the same shape; `weight` is left as it is."""

    def resolve(self, weight: Array, variable: Variable) -> Resolved:  # noqa: ARG002
        """What `apply` amounts to on this weight array."""
        return Resolved()


@dataclass(frozen=True, kw_only=True)
class Random(Transform):
    """A transform with draws, which last for a chip or for one read of the weights."""

    lifetime: str = parameter(
        "chip: one draw a seed; read: a new draw for every block of images", choices=("chip", "read"), default="chip"
    )
    block: int = parameter("images that a read lasts, with lifetime read", minimum=1, default=100)

    @property
    def random(self) -> bool:
        return not self.is_identity


def draws(transform: Transform) -> bool:
    """Whether two seeds can give different weights."""
    return transform.random and not transform.is_identity


REGISTRY: dict[str, type[Transform]] = {}

T = TypeVar("T", bound=type[Transform])


def register(op: str) -> Callable[[T], T]:
    """Make a transform available to study files under the name `op`."""

    def add(transform: T) -> T:
        if op in REGISTRY:
            raise ValueError(f"two transforms are called {op!r}")
        transform.op = op
        REGISTRY[op] = transform
        return transform

    return add


def parameters(transform: type[Transform]) -> dict[str, type]:
    """Names and types of what a study file may sweep in this transform, in order of declaration."""
    hints = get_type_hints(transform)
    return {f.name: hints[f.name] for f in dataclasses.fields(transform) if f.name != "layers"}


def required(transform: type[Transform]) -> list[str]:
    """Names of the parameters without a default."""
    return [
        f.name
        for f in dataclasses.fields(transform)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]


def check(transform: type[Transform], name: str, value: object) -> tuple[Scalar | Table | None, str | None]:
    """One parameter's value in its declared type, and what is wrong with it, or None."""
    kind = parameters(transform)[name]
    valid = {f.name: f.metadata for f in dataclasses.fields(transform)}[name]
    if kind == Table:
        return _table(value)
    wanted = _wanted(kind, valid)
    converted: Scalar
    if kind is float and isinstance(value, int | float | np.number) and not isinstance(value, bool):
        converted = float(value)
    elif kind is int and isinstance(value, int | np.integer) and not isinstance(value, bool):
        converted = int(value)
    elif kind in (str, bool) and isinstance(value, kind):
        converted = value
    else:
        return None, f"{value!r} is not {wanted}"
    if isinstance(converted, float) and not math.isfinite(converted):
        return None, f"{value!r} is not {wanted}"
    if kind in (int, float) and not isinstance(converted, str):
        low, high = valid.get("minimum"), valid.get("maximum")
        if (low is not None and converted < low) or (high is not None and converted > high):
            return None, f"{value!r} is out of range; valid is {wanted}"
    choices = valid.get("choices")
    if choices and converted not in choices:
        return None, f"{value!r} is not valid; choose one of {', '.join(choices)}"
    return converted, None


def _table(value: object) -> tuple[Table | None, str | None]:
    wanted = "a list of points such as [[0, 0.2], [25, 1.1]], two or more, the first numbers ascending"
    if not isinstance(value, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in value):
        return None, f"{value!r} is not {wanted}"
    numbers = [n for point in value for n in point]
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
        return None, f"{value!r} is not {wanted}"
    table = tuple((float(x), float(y)) for x, y in value)
    if len(table) < 2 or any(a[0] >= b[0] for a, b in itertools.pairwise(table)):
        return None, f"{value!r} is not {wanted}"
    return table, None


def _wanted(kind: type, valid: Mapping[str, Any]) -> str:
    names = {float: "a finite number", int: "a whole number", str: "a string", bool: "true or false"}
    low, high = valid.get("minimum"), valid.get("maximum")
    if low is not None and high is not None:
        return f"{names[kind]} from {low:g} to {high:g}"
    if low is not None:
        return f"{names[kind]} of at least {low:g}"
    return names[kind]
