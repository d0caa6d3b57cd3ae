"""A study: what is perturbed, how, and with how many seeds; the cells that this makes; its TOML form."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import tomli_w

from sweep.errors import InputError
from sweep.perturb.base import REGISTRY, Scalar, Transform, draws, parameters
from sweep.study.checks import SAID, Ops, as_list, check_study, swept_columns
from sweep.study.plugins import Register, have_run, load_plugins

LAYER = "layer"  # the column of a family with `sensitivity`
CLEAN = "clean"  # the family of the unperturbed networks, which every study evaluates


@dataclass(frozen=True)
class Seeds:
    """The seeds start, start + 1, …, start + count − 1."""

    start: int
    count: int

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.start + self.count))

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True)
class Cell:
    """One model × one dataset × one fully fixed perturbation.

    Attributes:
        model: label of the model, unique in its study.
        family: name of the family it comes from.
        values: swept parameters by column name.
        transforms: the perturbation, in order.
    """

    model: str
    family: str
    values: Mapping[str, Scalar]
    transforms: tuple[Transform, ...]

    @property
    def id(self) -> str:
        """Stable and readable: model, family and swept values; unique in its study."""
        swept = ",".join(f"{name}={_text(value)}" for name, value in self.values.items())
        return "/".join(part for part in (self.model, self.family, swept) if part)

    @property
    def random(self) -> bool:
        """Whether two seeds can differ; a cell without randomness has one trial."""
        return any(draws(t) for t in self.transforms)

    @property
    def is_clean(self) -> bool:
        """Whether it is the unperturbed network: in the family of that name, a run of 0.1.0 may have others."""
        return self.family == CLEAN and all(t.is_identity for t in self.transforms)


@dataclass(frozen=True)
class Family:
    """One kind of perturbation with its swept parameters.

    Attributes:
        name: unique in the study.
        perturb: one table a transform: `op`, its parameters (a list is swept), `layers`.
        sensitivity: "per-layer", or the names of layers: the perturbation acts on one of them at a time, one cell
            each, in place of the `layers` of its transforms; the column is `layer`.
        published: values from elsewhere to print beside ours: tables of swept parameters and `accuracy`, a fraction;
            of bits, `noise` too: the noise level that is said to cost as much.
        ops: the transforms that `perturb` may name.
    """

    name: str
    perturb: Sequence[Mapping[str, Any]]
    published: Sequence[Mapping[str, Any]] = ()
    sensitivity: str | Sequence[str] = ()
    ops: Ops = field(default_factory=lambda: REGISTRY, compare=False, repr=False)

    @cached_property
    def swept(self) -> dict[str, tuple[int, str]]:
        """Columns of the swept parameters → (position of the transform, parameter), in the order of the grid."""
        return swept_columns(self.perturb, self.ops)

    def cells(self, model: str) -> list[Cell]:
        """The grid over the layers of `sensitivity` and all swept lists, the last list varying fastest.

        While "per-layer" stands for names that only the networks know, all layers are perturbed at once.
        """
        if isinstance(self.sensitivity, str) or not self.sensitivity:
            return self._grid(model, {}, self.perturb)
        cells = []
        for layer in self.sensitivity:
            tables = [{**table, "layers": layer} for table in self.perturb]
            cells += self._grid(model, {LAYER: layer}, tables)
        return cells

    def _grid(self, model: str, fixed: Mapping[str, Scalar], perturb: Sequence[Mapping[str, Any]]) -> list[Cell]:
        cells = []
        axes = [self.perturb[position][name] for position, name in self.swept.values()]
        for point in itertools.product(*axes):
            tables = [dict(table) for table in perturb]
            for (position, name), value in zip(self.swept.values(), point, strict=True):
                tables[position][name] = value
            transforms = tuple(_transform(table, self.ops) for table in tables)
            values = {column: getattr(transforms[position], name) for column, (position, name) in self.swept.items()}
            cells.append(Cell(model, self.name, {**fixed, **values}, transforms))
        return cells


@dataclass(frozen=True)
class Study:
    """What a study file says; see the README for the keys.

    Raises InputError with every mistake at once. Paths stay as written; see `networks` for how they are found.

    Without a `register`, the files of `plugins` are run, and the transforms are all that this process knows. With one,
    nothing is run: the study names what the register holds.
    """

    name: str
    model: str | Sequence[str]
    dataset: str
    seeds: int | Mapping[str, int]
    family: Sequence[Family]
    root_seed: int = 0
    rescale: str | None = None
    plugins: Sequence[str] = ()
    source: str = field(default="study", compare=False)
    register: Register | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check(self.to_dict(), self.source, self.register)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "study", register: Register | None = None) -> Study:
        """A study from the tables of its TOML form; `source` is named in errors."""
        _check(data, source, register)
        families = [Family(**table, ops=REGISTRY if register is None else register.ops) for table in data["family"]]
        return cls(**{**data, "family": families}, source=source, register=register)

    @classmethod
    def from_text(cls, text: str, source: str = "study", register: Register | None = None) -> Study:
        """A study from the text of its TOML form."""
        return cls.from_dict(tables_of(text, source), source, register)

    @classmethod
    def from_toml(cls, path: str | Path) -> Study:
        """Read a study file."""
        try:
            return cls.from_text(Path(path).read_text(encoding="utf-8"), str(path))
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InputError(f"{path}: is not a text file in UTF-8") from None

    def to_dict(self) -> dict[str, Any]:
        """The tables of its TOML form."""
        families = []
        for family in self.family:
            table: dict[str, Any] = {"name": family.name, "perturb": [dict(t) for t in family.perturb]}
            if family.published:
                table["published"] = [dict(p) for p in family.published]
            if family.sensitivity:
                names = family.sensitivity
                table["sensitivity"] = names if isinstance(names, str) else list(names)
            families.append(table)
        return {
            "name": self.name,
            "model": self.model if isinstance(self.model, str) else list(self.model),
            "dataset": self.dataset,
            "seeds": self.seeds if isinstance(self.seeds, int) else dict(self.seeds),
            "root_seed": self.root_seed,
            **({"rescale": self.rescale} if self.rescale is not None else {}),
            **({"plugins": list(self.plugins)} if self.plugins else {}),
            "family": families,
        }

    def to_toml(self) -> str:
        """Its serialisation; `from_toml` gives an equal study."""
        return tomli_w.dumps(self.to_dict())

    def with_seeds(self, seeds: int | Mapping[str, int]) -> Study:
        """The same study over other seeds."""
        return dataclasses.replace(self, seeds=seeds)

    def with_code(self) -> Study:
        """The same study with transforms that can be applied; raises InputError where their code has not run here."""
        if self.register is None or all(ops is REGISTRY for ops in (self.register.ops, *(f.ops for f in self.family))):
            return self
        if not have_run(self.register.digests.values()):
            raise InputError(f"{self.source}: is there without the code of its plugins; run the file of your own study")
        families = [dataclasses.replace(family, ops=REGISTRY) for family in self.family]
        register = Register(REGISTRY, self.register.digests)
        return dataclasses.replace(self, family=families, register=register)

    @property
    def seed_range(self) -> Seeds:
        """The seeds as a range."""
        if isinstance(self.seeds, int):
            return Seeds(0, self.seeds)
        return Seeds(self.seeds.get("start", 0), self.seeds["count"])

    @cached_property
    def models(self) -> dict[str, str]:
        """Labels → paths: the file's stem, or the path as written where stems collide."""
        return labelled(as_list(self.model))

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell, by model, then family, then grid; first of each model the clean network.

        A family of the study's own that is called `clean` takes its place.
        """
        own = any(family.name == CLEAN for family in self.family)
        cells = []
        for model in self.models:
            cells += [] if own else [Cell(model, CLEAN, {}, ())]
            cells += [cell for family in self.family for cell in family.cells(model)]
        return tuple(cells)

    @cached_property
    def columns(self) -> dict[str, type]:
        """Swept parameters by column name → type, in order of first appearance."""
        types: dict[str, type] = {LAYER: str} if any(family.sensitivity for family in self.family) else {}
        for family in self.family:
            for column, (position, name) in family.swept.items():
                kind = parameters(family.ops[family.perturb[position]["op"]])[name]
                known = types.setdefault(column, kind)
                if known is not kind:
                    types[column] = float if {known, kind} == {int, float} else str
        return types

    @cached_property
    def published(self) -> dict[str, float]:
        """Cell ids → published accuracy, a fraction."""
        found = {}
        for family in self.family:
            for model in self.models:
                for cell in family.cells(model):
                    for point in family.published:
                        if {k: v for k, v in point.items() if k not in SAID} == dict(cell.values):
                            found[cell.id] = float(point["accuracy"])
        return found

    @cached_property
    def plugin_digests(self) -> Mapping[str, str]:
        """SHA-256 in hex of its plugins by name; a study without a register finds and runs them."""
        return load_plugins(self.plugins, self.source) if self.register is None else dict(self.register.digests)

    def identity(self, digests: Mapping[str, str]) -> dict[str, Any]:
        """All that the results depend on, seeds apart; `digests` are the SHA-256 of the files by label.

        Plugins count with their content; clean networks do not, since the files say all of them.

        Two studies with equal identities give equal rows for equal (cell, seed).
        """
        perturbations = {
            cell.id: [{"op": t.op, **dataclasses.asdict(t)} for t in cell.transforms]
            for cell in self.cells
            if cell.transforms
        }
        identity = {"root_seed": self.root_seed, "files": dict(digests), "cells": perturbations}
        if self.plugins:
            identity["plugins"] = self.plugin_digests
        normal: dict[str, Any] = json.loads(json.dumps(identity))
        return normal


def tables_of(text: str, source: str) -> dict[str, Any]:
    """The tables of a TOML text; raises InputError, which names `source`, when it is none."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source}: is not valid TOML: {error}") from None
    except RecursionError:
        raise InputError(f"{source}: is not valid TOML: its lists and tables are too deep in one another") from None


def labelled(paths: Sequence[str]) -> dict[str, str]:
    """Labels → paths of models: the file's stem, or the path as written where stems collide."""
    stems = [PurePath(path).stem for path in paths]
    unique = len(set(stems)) == len(stems)
    return dict(zip(stems if unique else paths, paths, strict=True))


def digest(identity: Mapping[str, Any]) -> str:
    """SHA-256 of a study's identity, in hex."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _check(data: Mapping[str, Any], source: str, register: Register | None) -> None:
    """Raise InputError with every mistake of a study's tables and plugins, as far as no other file shows it."""
    problems: list[str] = []
    if register is None:
        try:
            load_plugins(data.get("plugins", ()), source)
        except InputError as error:
            problems += error.problems
    ops = REGISTRY if register is None else register.ops
    problems += [f"{source}: {problem}" for problem in check_study(data, ops)]
    if problems:
        raise InputError(problems)


def _transform(table: Mapping[str, Any], ops: Ops) -> Transform:
    arguments = {name: value for name, value in table.items() if name != "op"}
    if isinstance(arguments.get("layers"), list):
        arguments["layers"] = tuple(arguments["layers"])
    return ops[table["op"]](**arguments)


def _text(value: Scalar) -> str:
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value)
