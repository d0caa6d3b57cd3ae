"""What the axes say: parameters in the words of their transforms, values in short."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from sweep.perturb.dataflow import DataFlow
from sweep.study.study import Study
from sweep.texts import duration, number

Labels = Mapping[tuple[str, str], str]
"""(family, column) → what the column is in that family."""

_GENERIC = {
    "scale": "Noise scale (weight units, or × the noise's basis)",
    "bits": "Weight bits (fixed point: fractional bits)",
    "time": "Time after programming",
    "rate": "Fault rate (probability for each weight, bit or line)",
    "layer": "Layer",
}
_UNITS = {
    "absolute": "weight units",
    "weight": "× |w|",
    "layer_max": "× max |W| of the layer",
    "layer_std": "× standard deviation of the layer",
    "layer_range": "× range of the layer",
    "channel_max": "× max |W| of the channel",
    "inverse": "× max |W|² / |w|",
    "range": "× range of the activations",
}
_LONGEST = 40  # characters of a parameter's text


def parameter_labels(study: Study) -> dict[tuple[str, str], str]:
    """(family, column of a swept parameter) → its axis label: what the parameter is, of what, and its unit."""
    labels = {}
    for family in study.family:
        for column, (position, name) in family.swept.items():
            table = family.perturb[position]
            transform = family.ops[table["op"]]
            fields = {field.name: field for field in dataclasses.fields(transform)}
            default = fields["basis"].default if "basis" in fields else None
            of_flow = issubclass(transform, DataFlow)
            labels[family.name, column] = _label(
                name, fields[name].metadata.get("text", name), table.get("basis", default), of_flow
            )
    return labels


def _label(name: str, text: str, basis: Any, of_flow: bool) -> str:
    if name in ("time", "rate"):
        return _GENERIC[name]
    if name == "scale":
        unit = "units of the activations" if of_flow and basis == "absolute" else _UNITS.get(str(basis), text)
        return f"Noise scale ({unit})"
    if name in ("bits", "states"):
        return f"{'Activations' if of_flow else 'Weights'}: {text if len(text) <= _LONGEST else name}"
    return name.replace("_", " ").capitalize()


def axis_label(column: str, families: list[str], labels: Labels) -> str:
    """One label for a column of some families: theirs where they agree, else what the name usually means."""
    found = {labels.get((family, column)) for family in families}
    (only, *others) = found
    if only and not others:
        return only
    general = _GENERIC.get(base(column), column)
    return general if column in (base(column), general) else f"{column}: {general}"


def base(column: str) -> str:
    """A parameter's name without the position of its transform: `bits` of `bits_1`."""
    return re.sub(r"_\d+$", "", column)


def value_text(column: str, value: Any) -> str:
    """A swept value in short; times with their unit."""
    if pd.isna(value):
        return "none"
    if base(column) == "time":
        return duration(float(value))
    return number(value) if isinstance(value, float) else str(value)
