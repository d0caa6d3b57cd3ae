"""A study: what is perturbed, how, and with how many seeds; the cells that this makes; its TOML form."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tomli_w

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY, FORM, further, is_own, measure_of
from sweep.data.measures import column as measure_column
from sweep.errors import InputError, collected
from sweep.files import read_tables
from sweep.perturb.base import REGISTRY, parameters
from sweep.randomness import FIRST_SAMPLED
from sweep.study.family import CLEAN, DATASET, LAYER, SAID, Cell, Family, Ops, as_list, read_family
from sweep.study.models import Named, code_of, from_memory, labelled, models_in
from sweep.study.plugins import Register, digest_of, have_run, load_code, load_plugins, own_measure
from sweep.study.selections import Selected, selections
from sweep.study.sets import sets_in, sets_labelled

if TYPE_CHECKING:
    from sweep.statistics.estimates import Floats

CHIPS_TOGETHER = 32
"""Chips for the mean of a measure of scores are a multiple of this, which a processor's last digits seldom change."""
MOST_VOID = 2  # times the chips that are wanted there are at most, where some are void
MOST_SEEDS = 1_000_000  # chips of a cell that serve its mean, unless `max_seeds` says so
DATA = ("x", "y", "labels", "calibration", "output")  # keys that say what is what in the data
CODE = "code of networks"  # in a study's identity, where there is some
CHIPS = ("precision", "min_seeds", "max_seeds", "images")  # keys that say how many chips serve the mean, and how


class Parsed(NamedTuple):
    """A study file, read once: what is wrong with it, and what it names in other files as far as that is clear.

    Attributes:
        study: None where anything is wrong.
        problems: all of it, each with file and key.
        source: the file.
        models: paths and globs as written, and tables of `build` and `weights`.
        memory: the bytes of models that are in no file, by what stands for them among the `models`.
        custom_objects: files with layers and functions of the user's own.
        code: SHA-256 in hex of all files that networks need, by name; None where some are missing.
        datasets: paths and globs as written; none where it is not clear.
        rescale: how images reach the networks, whether it is valid or not.
        layers: what its transforms select.
        data: of the keys `DATA`, those that are there and valid.
        measures: that are valid; accuracy where none is named.
    """

    study: Study | None
    problems: tuple[str, ...]
    source: str
    models: list[Named]
    datasets: list[str]
    rescale: Any
    layers: list[Selected]
    data: Mapping[str, Any]
    measures: Sequence[str] = (ACCURACY.name,)
    memory: Mapping[str, bytes] = {}
    custom_objects: tuple[str, ...] = ()
    code: Mapping[str, str] | None = None

    def sound(self) -> Study:
        """The study; raises InputError with all problems where there are some."""
        if self.study is None:
            raise InputError(self.problems)
        return self.study

    def over(self, seeds: int | Mapping[str, int] | None, precision: float | None = None) -> Parsed:
        """Over other seeds, or to another precision, than the file's, if any; raises InputError when they are none."""
        return self if self.study is None else self._replace(study=self.study.over(seeds, precision))


@dataclass(frozen=True)
class Study:
    """What a study file says; see the README for the keys.

    Raises InputError with every mistake at once. Paths stay as written; see `study.paths` for how they are found.

    Without a `register`, the files of `plugins` are run, and the transforms are all that this process knows. With one,
    nothing is run: the study names what the register holds.
    """

    name: str
    model: Any  # a path, a table of `build` and `weights`, a keras.Model, or a list of these
    dataset: str | Sequence[str]
    seeds: int | Mapping[str, int] = 0
    family: Sequence[Family] = ()
    precision: float | None = None
    min_seeds: int | None = None
    max_seeds: int | None = None
    images: str | None = None
    measures: Sequence[str] = (ACCURACY.name,)
    expected: float | None = None
    root_seed: int = 0
    rescale: str | None = None
    plugins: Sequence[str] = ()
    x: str | Sequence[str] | Mapping[str, str] | None = None
    y: str | None = None
    labels: Sequence[str | int] | None = None
    calibration: str | None = None
    custom_objects: Sequence[str] = ()
    budget: Mapping[str, Any] | None = None
    output: str | None = None
    source: str = field(default="study", compare=False)
    register: Register | None = field(default=None, compare=False, repr=False)
    memory: Mapping[str, bytes] = field(default_factory=dict, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """The door of studies made in Python; those that `parse` makes, and copies, do not come this way."""
        model, memory = from_memory(self.model, self.source)
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "memory", memory)
        sound = parse(self.to_dict(), self.source, self.register).sound()
        object.__setattr__(self, "family", sound.family)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "study", register: Register | None = None) -> Study:
        """A study from the tables of its TOML form; `source` is named in errors."""
        return parse(data, source, register).sound()

    @classmethod
    def from_toml(cls, path: str | Path) -> Study:
        """Read a study file."""
        return parse_file(path).sound()

    def parsed(self) -> Parsed:
        """The study as `parse` gives it."""
        ops = REGISTRY if self.register is None else self.register.ops
        tables = self.to_dict()
        return _parsed(self, tables, models_in(tables), (), self.source, ops, self.code_digests)

    def but(self, **fields: Any) -> Study:
        """A copy with other values, which are known to be valid: nothing is checked."""
        kept = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return _made(**{**kept, **fields})

    def to_dict(self) -> dict[str, Any]:
        """The tables of its TOML form."""
        return {
            "name": self.name,
            "model": _plain(self.model) if isinstance(self.model, str | Mapping) else list(map(_plain, self.model)),
            "dataset": self.dataset if isinstance(self.dataset, str) else list(self.dataset),
            **{key: _plain(value) for key in DATA if (value := getattr(self, key)) is not None},
            **({"seeds": self.seeds if isinstance(self.seeds, int) else dict(self.seeds)} if self.seeds else {}),
            **{key: value for key in CHIPS if (value := getattr(self, key)) is not None},
            **({"measures": list(self.measures)} if list(self.measures) != [ACCURACY.name] else {}),
            "root_seed": self.root_seed,
            **{key: value for key in ("rescale", "expected", "budget") if (value := getattr(self, key)) is not None},
            **({"plugins": list(self.plugins)} if self.plugins else {}),
            **({"custom_objects": list(self.custom_objects)} if self.custom_objects else {}),
            "family": [family.to_dict() for family in self.family],
        }

    def to_toml(self) -> str:
        """Its serialisation; `from_toml` gives an equal study."""
        return tomli_w.dumps(self.to_dict())

    def over(self, seeds: int | Mapping[str, int] | None = None, precision: float | None = None) -> Study:
        """The same study over other seeds or to another precision where given; raises InputError when they are none."""
        from sweep.study.schema import check_chips

        given = {"seeds": seeds, "precision": precision}
        values = {key: value for key, value in given.items() if value is not None}
        own = {key: value for key in ("seeds", "measures", *CHIPS) if (value := getattr(self, key))}
        if values and (problems := check_chips({**own, **values})):
            raise InputError(f"{self.source}: {problem}" for problem in problems)
        return self.but(**values) if values else self

    def with_code(self) -> Study:
        """The same study with transforms that can be applied; raises InputError where their code has not run here."""
        if self.register is None or all(ops is REGISTRY for ops in (self.register.ops, *(f.ops for f in self.family))):
            return self
        if not have_run(self.register.digests.values(), self.register.code.values()):
            raise InputError(f"{self.source}: is there without the code of its plugins; run the file of your own study")
        # Checked anew, since what the run's folder said of these transforms may not be so.
        register = Register(REGISTRY, self.register.digests, self.register.code)
        return parse(self.to_dict(), self.source, register).sound().but(memory=self.memory)

    @property
    def seed_range(self) -> range:
        """The seeds of the chips that see all images; beside them there may be others, which serve the mean alone."""
        if self.precision is None and self.images == "sampled":
            return range(0)
        if isinstance(self.seeds, int):
            return range(self.seeds)
        start = self.seeds.get("start", 0)
        return range(start, start + self.seeds["count"])

    @property
    def see_all(self) -> bool:
        """Whether the chips that serve the mean alone see all images, as those of other measures than accuracy do."""
        return self.images == "all" or self.main != ACCURACY.name

    @property
    def half_width(self) -> float:
        """The precision, in the unit in which trials have the first of the measures; infinite without one."""
        if self.precision is None:
            return math.inf
        return self.precision / 100 if self.measure_called(self.main).fraction else self.precision

    def samples(self, done: Mapping[str, Floats]) -> dict[str, range]:
        """Seeds of the chips that serve the mean alone, by random cell, as far as it can be told from those done.

        Args:
            done: by cell, what such chips that are there say, from the first seed on without a gap; (n,) each, nan
                where one is void. So many more are wanted, unless most are.
        """
        random = [cell.id for cell in self.cells if cell.random]
        if self.precision is None:
            count = self.seeds if self.images == "sampled" and isinstance(self.seeds, int) else 0
            return {cell: range(FIRST_SAMPLED, FIRST_SAMPLED + count) for cell in random} if count else {}
        from sweep.statistics.precision import PILOT, chips_for

        least = self.min_seeds or min(PILOT, self.max_seeds or PILOT)
        most, half_width = self.max_seeds or MOST_SEEDS, self.half_width
        together = 1 if self.measure_called(self.main).exact else CHIPS_TOGETHER
        found = {}
        for cell in random:
            values = np.asarray(done.get(cell, ()), np.float64)
            known = np.flatnonzero(~np.isnan(values))
            count = chips_for(values[known], half_width, least, most, together, controls=self.main == ACCURACY.name)
            chips = int(known[count - 1]) + 1 if len(known) >= count else len(values) + count - len(known)
            found[cell] = range(FIRST_SAMPLED, FIRST_SAMPLED + min(chips, MOST_VOID * count, most))
        return found

    @cached_property
    def models(self) -> dict[str, Named]:
        """Labels → networks: the file's stem, or the path as written where stems collide."""
        return labelled(as_list(self.model))

    @cached_property
    def datasets(self) -> dict[str, str]:
        """Labels → test sets, as of `sets_labelled`: the only one has the empty label."""
        return sets_labelled(as_list(self.dataset))

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell, by model, test set, family, then grid; first of each model and set the clean network.

        A family of the study's own that is called `clean` takes its place.
        """
        own = any(family.name == CLEAN for family in self.family)
        cells = []
        for model, dataset in itertools.product(self.models, self.datasets):
            cells += [] if own else [Cell(model, CLEAN, {}, ()).on(dataset)]
            cells += [cell for family in self.family for cell in family.cells(model, dataset)]
        return tuple(cells)

    @cached_property
    def clean(self) -> dict[str, str]:
        """Ids of the clean networks' cells → their subjects, which are labels of models where there is one test set."""
        return {cell.id: cell.subject for cell in self.cells if cell.is_clean}

    @cached_property
    def columns(self) -> dict[str, type]:
        """Swept parameters by column name → type, in order of first appearance."""
        types: dict[str, type] = {DATASET: str} if len(self.datasets) > 1 else {}
        types |= {LAYER: str} if any(family.sensitivity for family in self.family) else {}
        for family in self.family:
            for column, (position, name) in family.swept.items():
                kind = parameters(family.ops[family.perturb[position]["op"]])[name]
                known = types.setdefault(column, kind)
                if known is not kind:
                    types[column] = float if {known, kind} == {int, float} else str
        return types

    @property
    def further(self) -> tuple[str, ...]:
        """The columns of its measures beside accuracy, sorted."""
        return further(self.measures)

    @property
    def main(self) -> str:
        """The column of the measure that figures and thresholds are of."""
        return measure_column(self.measures[0])

    def measure_called(self, name: str) -> Measure:
        """One of its measures by the name of its column."""
        if name not in self.own_measures:
            return measure_of(name)
        if self.register is not None and name in self.register.measures:
            return self.register.measures[name]
        return own_measure(name, self.own_measures[name])

    @cached_property
    def own_measures(self) -> dict[str, str]:
        """Columns of the measures of the user's own → SHA-256 of their file, in hex."""
        return {measure_column(n): digest_of(n, self.plugin_digests) for n in self.measures if is_own(n)}

    @property
    def counted(self) -> bool:
        """Whether it asks for accuracy, so that all trials have one; else those have it whose networks have classes."""
        return ACCURACY.name in self.measures

    @cached_property
    def published(self) -> dict[str, float]:
        """Cell ids → published accuracy, a fraction; of several test sets it is that on the first."""
        points, first = {family.name: family.published for family in self.family}, next(iter(self.datasets))
        return {
            cell.id: float(point["accuracy"])
            for cell in self.cells
            for point in (points.get(cell.family, ()) if cell.dataset == first else ())
            if {key: value for key, value in point.items() if key not in SAID} == dict(cell.on("").values)
        }

    @cached_property
    def plugin_digests(self) -> Mapping[str, str]:
        """SHA-256 in hex of its plugins, and files of measures, by name; without a register they are found and run."""
        if self.register is not None:
            return dict(self.register.digests)
        return load_plugins(self.plugins, self.source, [name for name in self.measures if is_own(name)])

    @cached_property
    def code_digests(self) -> Mapping[str, str]:
        """SHA-256 in hex of the Python files that its networks need, by name; a study without a register finds them."""
        paths = code_of(as_list(self.model), self.custom_objects)
        return load_code(paths, self.source) if self.register is None else dict(self.register.code)

    def identity(self, digests: Mapping[str, str]) -> dict[str, Any]:
        """All that the results depend on, seeds apart; `digests` are the SHA-256 of the files by label.

        Plugins count with their content; clean networks do not, since the files say all of them.

        Two studies with equal identities give equal rows for equal (cell, seed).
        """
        perturbations = {cell.id: cell.said for cell in self.cells if cell.transforms}
        identity = {"root_seed": self.root_seed, "files": dict(digests), "cells": perturbations}
        if self.precision is not None and self.see_all:
            identity["images"] = {"chips for the mean": "all"}
        if self.further:
            identity["measures"] = dict.fromkeys(self.further, "")
        if self.plugins or self.own_measures:
            identity["plugins"] = self.plugin_digests
        if self.code_digests:
            identity[CODE] = self.code_digests
        normal: dict[str, Any] = json.loads(json.dumps(identity))
        return normal


def digest(identity: Mapping[str, Any]) -> str:
    """SHA-256 of a study's identity, in hex."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def parse_file(path: str | Path) -> Parsed:
    """Read and parse a study file; raises InputError where it is no TOML file."""
    return parse(read_tables(path), str(path))


def parse(data: Mapping[str, Any], source: str = "study", register: Register | None = None) -> Parsed:
    """A study from its tables, or all that is wrong with them: the one place where a study is checked.

    Without a `register`, the plugins that the study names are run.
    """
    from sweep.study.schema import check_study

    problems: list[str] = []
    plugins = data.get("plugins", ())
    if register is None and isinstance(plugins, list | tuple) and all(isinstance(path, str) for path in plugins):
        named = data.get("measures", ())
        named = [n for n in named if isinstance(n, str) and is_own(n)] if isinstance(named, list | tuple) else []
        with collected(problems):
            load_plugins(plugins, source, [name for name in named if re.fullmatch(FORM, name)])
    ops = REGISTRY if register is None else register.ops
    tables, found = check_study(data, ops)
    digests: Mapping[str, str] | None = None
    kept = {key: data[key] for key in ("model", "rescale") if key in data}
    models = models_in({**kept, **tables})
    with collected(problems):
        needed = code_of(models, tables.get("custom_objects", ()))
        digests = load_code(needed, source) if register is None else register.code
    problems += [f"{source}: {problem}" for problem in found]
    families = []
    for i, table in enumerate(tables.get("family", [])):
        wrong = {p.place[2:5] for p in found if p.place[:2] == ("family", i) and p.kind != "unknown"}
        family, more = read_family(table or {}, wrong, ops)
        problems += [f"{source}: family[{i}]{problem}" for problem in more]
        families.append(family)
    study = None if problems else _made(**{**tables, "family": families}, source=source, register=register)
    return _parsed(study, {**kept, **tables}, models, problems, source, ops, digests)


def _plain(value: Any) -> Any:
    """As TOML has it."""
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value


def _made(**fields: Any) -> Study:
    """A study of values that are known to be valid."""
    study = object.__new__(Study)
    study.__dict__.update({"memory": {}, **fields})
    return study


def _parsed(
    study: Study | None,
    tables: Mapping[str, Any],
    models: list[Named],
    problems: Sequence[str],
    source: str,
    ops: Ops,
    code: Mapping[str, str] | None,
) -> Parsed:
    """With what stands in the tables of what a study names; a `rescale` may be wrong there."""
    data = {key: tables[key] for key in DATA if tables.get(key) is not None}
    measures = [name for name in tables.get("measures", [ACCURACY.name]) if name is not None]
    rest = sets_in(tables.get("dataset")), tables.get("rescale"), selections(tables, ops), data, measures
    memory = {} if study is None else study.memory
    own = tuple(tables.get("custom_objects", ()))
    return Parsed(study, tuple(problems), source, models, *rest, memory, own, code)
