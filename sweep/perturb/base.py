"""What every transform is, the register of them, and the tables that make them."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeVar, get_args, get_type_hints

import numpy as np
import numpy.typing as npt

from sweep.errors import InputError
from sweep.networks.variables import Variable

if TYPE_CHECKING:  # pydantic is for those who read a study
    from sweep.tables import Model

Array = npt.NDArray[np.float32]
Scalar = float | int | bool | str
Selection = str | int | tuple[str | int, ...]
KERNELS = "kernel"
"""The `variables` that a transform acts on where a study says none; see `Variable.kernel`."""
SELECTIONS = ("layers", "variables")  # fields of every transform, which are never swept
Spacing = Literal["linear", "square", "log"]
Worse = Literal["high", "low"]
SHOWN = ("label", "unit", "spacing", "worse", "identity")  # what `parameter` says of axes
Table = tuple[tuple[float, float], ...]  # points (x, y) of a curve, by ascending x: never swept
Surface = tuple[tuple[float, Table], ...]  # curves (t, points), by ascending t: likewise
CURVES = (Table, Surface)


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


class ErrorLaw(NamedTuple):
    """The law of what is added to weights, each by itself, whatever is added to the others.

    Attributes:
        mean: in the shape of the weights, or what broadcasts to it.
        std: likewise.
        kurtosis: the excess kurtosis; 0 for the normal law.
    """

    mean: Array
    std: Array
    kurtosis: float


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
        default: none where a study must set it; None, for a type such as `int | None`, where it need not be there.
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
    `layers` and `variables` select the weights (see `selection.select`). Its docstring is its entry in the catalogue:
    first the formula, then what else there is to say, then a paragraph "Source: …", then "Peers:" and a list of what
    others call it, each entry "- PEER `NAME`: which of its numbers is which of ours, and where the two differ".
    """

    op: ClassVar[str]
    of_weights: ClassVar[bool] = True
    """Whether it acts on weights, so that a study can say on which variables of its layers."""
    in_files: ClassVar[bool] = False
    """Whether its chips are in files, so that there are only so many, and not drawn."""
    layers: Selection = "*"
    variables: Selection = KERNELS

    def __post_init__(self) -> None:
        from sweep.tables import check

        every = {key: getattr(self, key) for key in parameters(type(self))}
        name, values = _name(type(self)), {key: value for key, value in every.items() if value is not None}
        problems = [f"{name}: {p}" for p in check(table_of(type(self), swept=False), {"op": name, **values})[1]]
        if not problems:
            for key, kind in parameters(type(self)).items():
                object.__setattr__(self, key, _converted(kind, every[key]))
            problems = [f"{name}: {problem}" for problem in self.joint_problems()]
        if problems:
            raise InputError(problems)

    def joint_problems(self) -> list[str]:
        """What is wrong with parameters that are valid one by one."""
        return []

    def misfit(self, variables: Sequence[Variable]) -> str:  # noqa: ARG002
        """What keeps it from acting on these variables together, in words; empty for nothing."""
        return ""

    @property
    def joint(self) -> bool:
        """Whether it draws something for all its variables together, and then acts as its `dealt` say."""
        return False

    def dealt(self, variables: Sequence[Variable], generator: np.random.Generator) -> Sequence[Transform]:  # noqa: ARG002
        """What acts on each of the variables instead of it, where it is `joint`."""
        return [self] * len(variables)

    def of_chip(self, seed: int) -> Transform:  # noqa: ARG002
        """What acts on the chip of this seed; by default the same on all, each with draws of its own."""
        return self

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
    def passes_gradients(self) -> bool:
        """Whether a network can be trained against it: with what it gives, scores are numbers."""
        return True

    @property
    def std_per_level(self) -> float | None:
        """Standard deviation of what it adds to a weight, whatever the weight, at a noise level of 1; else None."""
        return None

    @property
    def rounding_step(self) -> float | None:
        """Distance between its levels where it rounds every weight to the nearest of them, without end; else None."""
        return None

    def error_law(self, weight: Array, variable: Variable) -> ErrorLaw | None:  # noqa: ARG002
        """The law of what it adds to these weights, where that is symmetric and independent from weight to weight.

        The mean over the errors of a last layer is then computed (see `sweep.statistics.integral`). None elsewhere.
        """
        return None

    @abstractmethod
    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:
        """The perturbed copy of one float32 weight array, of the same shape; `weight` is left as it is."""

    def bits_stored(self, weight: Array, variable: Variable) -> float | None:  # noqa: ARG002
        """Bits that one of these weights takes in memory once it stands at one of the levels; None where it has none.

        The logarithm of the number of levels where codes have no whole number of bits.
        """
        return None

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

T = TypeVar("T", bound="Transform")


def register(op: str) -> Callable[[type[T]], type[T]]:
    """Make a transform available to study files under the name `op`."""

    def add(transform: type[T]) -> type[T]:
        if op in REGISTRY:
            raise ValueError(f"two transforms are called {op!r}")
        if any(field.name == "variables" and field.metadata for field in dataclasses.fields(transform)):
            raise ValueError(f"{op}: a parameter cannot be called 'variables', which selects what is perturbed")
        transform.op = op
        REGISTRY[op] = transform
        return transform

    return add


@lru_cache(maxsize=1024)
def parameters(transform: type[Transform]) -> Mapping[str, Any]:
    """Names and types of what a study file may sweep in this transform, in order of declaration.

    One that need not be there, and is None then, has the type of what it is otherwise.
    """
    hints = {name: _present(hint) for name, hint in get_type_hints(transform).items()}
    return {f.name: hints[f.name] for f in dataclasses.fields(transform) if f.name not in SELECTIONS}


def values_of(transform: Transform) -> dict[str, Any]:
    """All that tells it from others of its class.

    Without what is not there, and without `variables` where these are the kernels: so they are as in earlier versions,
    which did not know these keys.
    """
    every = {field.name: getattr(transform, field.name) for field in dataclasses.fields(transform)}
    values = {name: value for name, value in every.items() if value is not None}
    if transform.variables == KERNELS:
        del values["variables"]
    return values


def make(transform: type[T], values: Mapping[str, Any]) -> T:
    """The transform with a table's values, which are known to be valid one by one: nothing is checked."""
    if transform.__post_init__ is not Transform.__post_init__:
        return transform(**values)  # a user's own, which does more there
    made = object.__new__(transform)
    for field in dataclasses.fields(transform):
        kind, value = parameters(transform).get(field.name), values.get(field.name, default_of(field))
        object.__setattr__(made, field.name, _converted(kind, tuple(value) if isinstance(value, list) else value))
    return made


@lru_cache(maxsize=1024)
def table_of(transform: type[Transform], swept: bool = True) -> type[Model]:
    """What a table of this transform may hold, for `sweep.tables`; each parameter a list, too, where it is `swept`."""
    from sweep.tables import LAYERS, SURFACE, VARIABLES, choice, model, value

    keys: dict[str, tuple[Any, Any, str]] = {"op": (choice([_name(transform)]), ..., "which transform")}
    for field in dataclasses.fields(transform):
        if field.name in SELECTIONS:
            continue
        kind = parameters(transform)[field.name]
        kind = SURFACE if kind == Surface else value(kind, field.metadata, swept)
        keys[field.name] = (kind, default_of(field, ...), field.metadata.get("text", field.name))
    keys["layers"] = (LAYERS, "*", "the layers that it acts on")
    if transform.of_weights:
        keys["variables"] = (VARIABLES, KERNELS, "which variables of these layers")
    return model(_name(transform), keys)


def _name(transform: type[Transform]) -> str:
    return getattr(transform, "op", transform.__name__)


def default_of(field: dataclasses.Field[Any], otherwise: Any = None) -> Any:
    """The value of a parameter that a study does not set; `otherwise` where it must."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return otherwise if field.default is dataclasses.MISSING else field.default


def _present(hint: Any) -> Any:
    """The type without None: float of `float | None`."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] if isinstance(hint, UnionType) else []
    return kinds[0] if len(kinds) == 1 else hint


def _converted(kind: Any, value: Any) -> Any:
    """A valid value in the type of its parameter; None where it is not there."""
    if value is None:
        return None
    if kind == Surface:
        return tuple((float(t), _converted(Table, points)) for t, points in value)
    if kind == Table:
        return tuple((float(x), float(y)) for x, y in value)
    return kind(value) if kind in (float, int) else value
