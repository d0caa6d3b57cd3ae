"""The imperfections against which a network is trained: transforms of the catalogue, drawn anew for every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweep.perturb.base import REGISTRY, Transform, make, values_of
from sweep.study.family import read_family

if TYPE_CHECKING:
    from sweep.tables import Place


@dataclass(frozen=True)
class Noise:
    """What is done to the network in each step of its training.

    Attributes:
        transforms: in order, as in a family of a study.
        warmup: epochs over which their levels grow.
        plugins: SHA-256 in hex of the files that transforms of a user's own come from, by name.
    """

    transforms: tuple[Transform, ...]
    warmup: int = 0
    plugins: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def at(self, epoch: int) -> tuple[Transform, ...]:
        """The transforms of an epoch, counted from 0.

        In epoch e of a warm-up of k epochs, each parameter that has a value at which its transform does nothing stands
        (e + 1) / (k + 1) of the way from there; one without such a value, as a number of bits, is itself from the first
        step on.
        """
        share = min(1.0, (epoch + 1) / (self.warmup + 1))
        return self.transforms if share == 1.0 else tuple(_weakened(t, share) for t in self.transforms)

    def facts(self) -> dict[str, Any]:
        """All that it says, of types that JSON has."""
        perturb = [{"op": t.op, **values_of(t)} for t in self.transforms]
        further = {"warmup": self.warmup, "plugins": dict(self.plugins)}
        return {"perturb": perturb} | {key: value for key, value in further.items() if value}


def _weakened(transform: Transform, share: float) -> Transform:
    values = {field.name: getattr(transform, field.name) for field in dataclasses.fields(transform)}
    for field in dataclasses.fields(transform):
        least, value = field.metadata.get("identity"), values[field.name]
        if isinstance(value, float) and least is not None:
            values[field.name] = least + share * (value - least)
    return make(type(transform), values)


def read_noise(
    table: Mapping[str, Any], wrong: set[Place], plugins: Mapping[str, str]
) -> tuple[Noise | None, list[str]]:
    """The noise of a recipe's table, whose values are valid one by one but for those at `wrong`; and what else is.

    Each problem begins with its key, after that of the table.
    """
    family, problems = read_family({"perturb": table.get("perturb", [])}, wrong, REGISTRY)
    if family is None:
        return None, problems
    transforms = tuple(found for (found,) in family.choices)
    problems += [
        f".perturb[{i}]: {t.op} makes weights that are no numbers, and there is no gradient; valid: {_valid()}"
        for i, t in enumerate(transforms)
        if not t.passes_gradients
    ]
    problems += [
        f".perturb[{i}]: {t.op} has chips in files, and each step of a training draws one; leave it out"
        for i, t in enumerate(transforms)
        if t.in_files
    ]
    return Noise(transforms, table.get("warmup", 0), plugins), problems


def _valid() -> str:
    usual = Transform.passes_gradients
    return ", ".join(
        sorted(
            op for op, transform in REGISTRY.items() if transform.passes_gradients is usual and not transform.in_files
        )
    )


def told(transforms: Sequence[Mapping[str, Any]]) -> str:
    """Transforms as facts have them, in words."""
    return ", then ".join(
        f"{t['op']} ({', '.join(f'{key} = {value}' for key, value in t.items() if key != 'op')})" for t in transforms
    )
