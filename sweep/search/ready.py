"""A study file of what a search has found, ready to be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.errors import InputError
from sweep.files import function_in
from sweep.study.family import Family
from sweep.study.paths import MARKERS, bases, locate, locate_data
from sweep.study.study import Study

_DATA = ("dataset", "calibration")
_LISTS = ("plugins", "custom_objects")


def ready_study(
    study: Study, families: Mapping[str, Sequence[Mapping[str, Any]]], like: Family, place: str, name: str
) -> Study:
    """The study with other families, of these transforms, and a name of its own; without its budget.

    Args:
        study: what was searched.
        families: transforms by the name of the family, without lists.
        like: the family that was searched, whose chips are recalibrated or not.
        place: the file that it is to be; paths that would not be found from there become absolute.
        name: of the study.
    """
    tables = study.to_dict()
    tables.pop("budget", None)
    tables |= {
        key: _found(tables[key], study.source, place, key in _DATA) for key in (*_DATA, *_LISTS) if key in tables
    }
    tables["measures"] = [_measure(text, study.source, place) for text in study.measures]
    tables["model"] = _found(tables["model"], study.source, place)
    anew = {"recalibrate": like.recalibrate} if like.recalibrate else {}
    tables["family"] = [
        {"name": _name(n), "perturb": [dict(t) for t in perturb], **anew} for n, perturb in families.items()
    ]
    return Study.from_dict({**tables, "name": name}, place, study.register)


def _found(value: Any, source: str, place: str, data: bool = False) -> Any:
    if isinstance(value, Mapping):  # of a function that builds a network, and its weights
        return {key: _found(one, source, place, data=True) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_found(one, source, place, data) for one in value]
    try:
        path = (locate_data if data else locate)(value, source).absolute()
    except InputError:  # in memory
        return value
    file = (function_in(value) or (value, ""))[0] if data else value
    found = next((base / file for base in _bases(place) if (base / file).exists()), None)
    whole = path.as_posix()
    return value if found and found.absolute() == Path((function_in(whole) or (whole, ""))[0]) else whole


def _bases(place: str) -> list[Path]:
    """Where paths in a file there count from, whatever the current directory."""
    above = Path(place).absolute().parent
    return [b for b in bases(place) if b == above or (b in above.parents and any((b / m).exists() for m in MARKERS))]


def _measure(text: str, source: str, place: str) -> str:
    return _found(text, source, place, data=True) if ":" in text else text


def _name(text: str) -> str:
    return text.replace("/", " ").strip()
