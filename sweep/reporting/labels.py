"""What the axes say: parameters in the words of their transforms, values in short."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sweep.errors import printable
from sweep.perturb.base import Spacing, Transform, Worse, parameters
from sweep.perturb.dataflow import DataFlow
from sweep.study.study import Study
from sweep.texts import duration, number


@dataclass(frozen=True)
class Label:
    """A swept parameter on an axis.

    Attributes:
        name: what it is.
        unit: of its values; empty where the name says all.
        spacing, worse: as in `sweep.perturb.parameter`.
        whole: whether its values are whole numbers.
    """

    name: str
    unit: str = ""
    spacing: Spacing = "linear"
    worse: Worse = "high"
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit and self.unit != _SECONDS else self.name


Labels = Mapping[tuple[str, str], Label]
"""(family, column) → what the column is in that family, as `parameter_labels` gives it."""

NO_LABELS: Labels = {}

_SECONDS = "s"
_LONGEST = 40  # characters of a parameter's text


def parameter_labels(study: Study) -> dict[tuple[str, str], Label]:
    """(family, column of a swept parameter) → its label: what the parameter is, of what, and its unit."""
    return {
        (family.name, column): label_of(family.ops[family.perturb[position]["op"]], name, family.perturb[position])
        for family in study.family
        for column, (position, name) in family.swept.items()
    }


def label_of(transform: type[Transform], name: str, table: Mapping[str, Any]) -> Label:
    """What a parameter of a transform is, as a study's table sets the others."""
    fields = {field.name: field for field in dataclasses.fields(transform)}
    facts, kind = fields[name].metadata, parameters(transform)[name]
    text, label, unit = facts.get("text") or name, facts.get("label"), facts.get("unit") or ""
    if label is None and kind in (int, float):
        of = "Activations" if issubclass(transform, DataFlow) else "Weights"
        label = f"{of}: {text if len(text) <= _LONGEST else name}"
    if isinstance(unit, Mapping):
        ((other, units),) = unit.items()
        default = fields[other].default if other in fields else None
        unit = units.get(str(table.get(other, default)), text)
    said = {fact: facts[fact] for fact in ("spacing", "worse") if fact in facts}
    return Label(_line(label or _capital(name)), _line(unit), whole=kind is int, **said)


def shared(column: str, labels: Labels, families: Iterable[str] | None = None) -> Label:
    """What a column is in these families, or in all that sweep it; of what they disagree about, the usual."""
    there = [family for family, swept in labels if swept == column] if families is None else families
    found = {labels.get((family, column), Label(_capital(column))) for family in there}
    usual = dataclasses.asdict(Label(_capital(column)))
    said = {fact: {getattr(label, fact) for label in found} for fact in usual}
    return Label(**{fact: said[fact].pop() if len(said[fact]) == 1 else usual[fact] for fact in usual})


def value_text(column: str, value: Any, labels: Labels) -> str:
    """A swept value in short; times with their unit."""
    if pd.isna(value):
        return "none"
    if shared(column, labels).unit == _SECONDS:
        return duration(float(value))
    return number(value) if isinstance(value, float) else str(value)


def _capital(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _line(text: str) -> str:
    """On one line of some length, without what no picture may hold."""
    return " ".join(printable(text[:200]).split())
