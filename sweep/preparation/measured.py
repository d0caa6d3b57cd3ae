"""The files that hold the chips of transforms with measured weights: found, read and checked against the networks."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sweep.errors import InputError, collected, hint
from sweep.files import open_file, require_file
from sweep.networks.loading import Network
from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Transform
from sweep.perturb.measured import SUFFIX, TRAVELLING, ChipFile, Measured, name_of, read_arrays
from sweep.perturb.selection import selected
from sweep.study.family import Family
from sweep.study.paths import matching_by_name
from sweep.study.study import Study

MEASURED = "measured "  # begins what a study's identity calls the files of chips
_NAMED = 6  # names in a message


def files_of(study: Study) -> list[str]:
    """The files of chips as a study names them, each once."""
    return list(dict.fromkeys(t.files for family in study.family for t in _measured(family)))


def files_in(said: Iterable[Mapping[str, Any]]) -> set[str]:
    """Likewise, of a cell by what a study's identity says of it."""
    return {table["files"] for table in said if table.get("op") == Measured.op}


def named_in(key: str) -> str | None:
    """The files, as a study names them, of which one has this key in its identity; None for others."""
    return key.removeprefix(MEASURED).rpartition(", chip ")[0] if key.startswith(MEASURED) else None


def chip_digests(study: Study) -> dict[str, str]:
    """SHA-256 in hex of each file of chips, as a study's identity has them."""
    chips = {t.files: t.chips for family in study.family for t in _measured(family)}
    return {f"{MEASURED}{files}, chip {k}": one.digest for files, own in chips.items() for k, one in enumerate(own)}


def with_chips(study: Study, networks: Mapping[str, Network]) -> Study:
    """The study whose transforms with measured weights have their chips; the same where it has none.

    Raises InputError where files are missing or no chips of these networks, or where there are fewer than seeds.
    """
    if not files_of(study):
        return study
    problems: list[str] = []
    read: dict[str, tuple[ChipFile, ...]] = {}
    families = []
    for i, family in enumerate(study.family):
        for t, choices in enumerate(family.choices):
            for transform in choices:
                if isinstance(transform, Measured):
                    with collected(problems, f"{study.source}: family[{i}].perturb[{t}].files: "):
                        variables = [_selected(network, transform) for network in networks.values()]
                        every = {v.path for n in networks.values() for v in n.variables}
                        own = _chips(transform.files, study.source, variables, every)
                        read.setdefault(transform.files, own)
                        _check_seeds(study, transform.files, len(own))
        families.append(_given(family, read))
    if problems:
        raise InputError(dict.fromkeys(problems))
    return study.but(family=families)


def chips_said(study: Study, networks: Mapping[str, Network]) -> list[str]:
    """Each set of chips in words: how many, the first and the last, and arrays that nothing selects."""
    lines = []
    for files in files_of(study):
        found = [t for family in study.family for t in _measured(family) if t.files == files]
        chips = found[0].chips
        names = set(chips[0].arrays())
        for network in networks.values():
            for transform in found:
                names -= {name_of(variable, names) for variable in _selected(network, transform)}
        ends = f"seed 0 is {_base(chips[0])}" + (f", seed {len(chips) - 1} is {_base(chips[-1])}" if chips[1:] else "")
        unused = f"; not selected: {_listed(sorted(names))}" if names else ""
        lines.append(f"{files}: {len(chips)}, {ends}{unused}")
    return lines


def _measured(family: Family) -> Iterator[Measured]:
    return (t for choices in family.choices for t in choices if isinstance(t, Measured))


def _given(family: Family, read: Mapping[str, Sequence[ChipFile]]) -> Family:
    def one(transform: Transform) -> Transform:
        return transform.given(read.get(transform.files, ())) if isinstance(transform, Measured) else transform

    made = copy.copy(family)
    made.__dict__["choices"] = [[one(transform) for transform in choices] for choices in family.choices]
    return made


def _selected(network: Network, transform: Transform) -> list[Variable]:
    return [network.variables[k] for k in selected(network.variables, transform)]


def _check_seeds(study: Study, files: str, chips: int) -> None:
    if study.precision is not None or study.images == "sampled":
        key = "precision" if study.precision is not None else "images"
        raise InputError(f"{key} draws chips as it needs them, and {files} has {chips}; give seeds = {chips} instead")
    if study.seed_range.stop > chips:
        raise InputError(f"{files} has {chips} chips, and seeds go to {study.seed_range.stop - 1}; give fewer seeds")


def _chips(files: str, source: str, networks: Sequence[Sequence[Variable]], every: set[str]) -> tuple[ChipFile, ...]:
    """Reads each file once; InputError where it does not fit the selected variables of these networks.

    `every` are the paths of all their variables.
    """
    found = {name: path for name, path in matching_by_name(files, source).items() if name.endswith(SUFFIX)}
    if not found:
        raise InputError(f"{files!r} matches no {SUFFIX} file")
    size = sum(require_file(path).stat().st_size for path in found.values())
    chips: list[ChipFile] = []
    problems: list[str] = []
    for name, path in found.items():
        with open_file(path) as file:
            content = file.read()
        with collected(problems):
            arrays = read_arrays(content, name)
            for variables in networks:
                _check_arrays(name, arrays, variables, every)
        digest = hashlib.sha256(content).hexdigest()
        chips.append(ChipFile(str(path.absolute()), digest, content if size <= TRAVELLING else None))
    if problems:
        raise InputError(problems[:_NAMED])
    return tuple(chips)


def _check_arrays(file: str, arrays: Mapping[str, Array], variables: Sequence[Variable], every: set[str]) -> None:
    layers = {path.rpartition("/")[0].rpartition("/")[2] + "/" + path.rpartition("/")[2] for path in every}
    for name in arrays:
        if name not in every | layers:
            raise InputError(f"{file}: {name!r} is no variable; valid: {_listed(sorted(every))}{hint(name, every)}")
    missing = [variable.path for variable in variables if name_of(variable, arrays) is None]
    if missing:
        raise InputError(f"{file}: has no {_listed(missing)}; add what is missing, or select fewer `layers`")
    for variable in variables:
        shape = np.shape(arrays[str(name_of(variable, arrays))])
        if shape != variable.shape:
            raise InputError(f"{file}: {variable.path} has the shape {shape}; the network's has {variable.shape}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:_NAMED], *(["…"] if len(names) > _NAMED else [])])


def _base(chip: ChipFile) -> str:
    return chip.path.replace("\\", "/").rpartition("/")[2]
