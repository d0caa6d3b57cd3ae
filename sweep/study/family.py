"""A family: one kind of perturbation, and the cells that its swept parameters make."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from sweep.errors import InputError
from sweep.perturb.base import CURVES, REGISTRY, SELECTIONS, Scalar, Transform, draws, make, parameters, values_of
from sweep.perturb.perturbation import is_read

Ops = Mapping[str, type[Transform]]
"""Transforms by name."""
LARGEST_GRID = 1_000_000  # cells of a family
CALIBRATION_IMAGES = 1000
"""The first training images, on which ranges and statistics are calibrated."""
BATCH_NORM = "batch_norm"
LAYER = "layer"  # the column of a family with `sensitivity`
DATASET = "dataset"  # the column of a study with several test sets
PER_LAYER = "per-layer"
CLEAN = "clean"  # the family of the unperturbed networks, which every study evaluates
SAID = ("accuracy", "noise")  # of a published point, beside where it is
RESERVED = {  # columns of trials and summaries that a parameter of that name would hide
    *("model", "family", "cell", "dataset", "layer", "seed", "n_images", "n_correct", "accuracy", "n_nonfinite"),
    *("seconds", "host", "device", "engine", "trials", "mean", "std", "mean_low", "mean_high", "std_low", "std_high"),
    *("estimate", "half_difference", "control", "sampled", "disagrees"),
    *("new_low", "new_high", "min", "q05", "median", "q95", "max", "nonfinite", "published", "loss", "chance"),
    *("networks", "chips", "left_out", "truncated", "measure"),
    *("agreement", "balanced", "f1", "auc", "mse", "mae"),
    *("exact_match", *(f"multilabel_{name}" for name in ("accuracy", "loss", "f1", "auc"))),
    *("std_trainings", "std_trainings_low", "std_trainings_high", "std_chips", "std_interaction"),
}


def as_list(value: Any) -> list[Any]:
    """A single value as a list of one."""
    return list(value) if isinstance(value, list | tuple) else [value]


def swept_columns(perturb: Sequence[Mapping[str, Any]], ops: Ops = REGISTRY) -> dict[str, tuple[int, str]]:
    """Columns of the swept parameters → (position of the transform, parameter), in the order of the grid.

    A name that an earlier transform sweeps already, or that means something else in a table, is suffixed with the
    position.
    """
    columns: dict[str, tuple[int, str]] = {}
    for position, table in enumerate(perturb):
        for name in swept(table, ops):
            column = name
            while column in columns or column in RESERVED:
                column += f"_{position}"
            columns[column] = (position, name)
    return columns


def swept(table: Mapping[str, Any], ops: Ops = REGISTRY) -> list[str]:
    """The parameters of a transform's table that are swept: those with a list, unless a list is one value of theirs."""
    op = table.get("op")
    known = parameters(ops[op]) if isinstance(op, str) and op in ops else {}
    lists = [name for name, value in table.items() if isinstance(value, list | tuple) and name not in SELECTIONS]
    return [name for name in lists if known.get(name) not in CURVES]


@dataclass(frozen=True)
class Cell:
    """One model × one dataset × one fully fixed perturbation.

    Attributes:
        model: label of the model, unique in its study.
        family: name of the family it comes from.
        values: swept parameters by column name.
        transforms: the perturbation, in order.
        recalibrated: from how many training images batch normalisation then gets its statistics anew; 0 for not at all.
        dataset: label of the test set, unique in its study, where that has several, and then among the `values`; empty
            where it has one.
    """

    model: str
    family: str
    values: Mapping[str, Scalar]
    transforms: tuple[Transform, ...]
    recalibrated: int = 0
    dataset: str = ""

    @cached_property
    def id(self) -> str:
        """Stable and readable: model, family and swept values; unique in its study."""
        swept = ",".join(f"{name}={_text(value)}" for name, value in self.values.items())
        return "/".join(part for part in (self.model, self.family, swept) if part)

    @property
    def subject(self) -> str:
        """What is perturbed and evaluated, whatever the perturbation."""
        return subject(self.model, self.dataset)

    def on(self, dataset: str) -> Cell:
        """The same, on the test set of this label."""
        others = {name: value for name, value in self.values.items() if name != DATASET or not self.dataset}
        return replace(self, values={**_named(dataset), **others}, dataset=dataset)

    @cached_property
    def random(self) -> bool:
        """Whether two seeds can differ; a cell without randomness has one trial."""
        return any(draws(t) for t in self.transforms)

    @property
    def said(self) -> list[dict[str, Any]]:
        """What is done to the network, step by step, of types that JSON has."""
        steps: list[dict[str, Any]] = [{"op": t.op, **values_of(t)} for t in self.transforms]
        anew = {"op": "recalibrate", "kind": BATCH_NORM, "images": self.recalibrated}
        return [*steps, anew] if self.recalibrated else steps

    @property
    def is_clean(self) -> bool:
        """Whether it is the unperturbed network: in the family of that name, a run of 0.1.0 may have others."""
        return self.family == CLEAN and not self.recalibrated and all(t.is_identity for t in self.transforms)


def subject(model: str, dataset: str) -> str:
    """A network, with the test set where a study has several."""
    return f"{model} on {dataset}" if dataset else model


def _named(dataset: str) -> dict[str, Scalar]:
    return {DATASET: dataset} if dataset else {}


@dataclass(frozen=True)
class Family:
    """One kind of perturbation with its swept parameters.

    Attributes:
        name: unique in the study.
        perturb: one table a transform: `op`, its parameters (a list is swept), `layers`, `variables`.
        sensitivity: "per-layer", or the names of layers: the perturbation acts on one of them at a time, one cell
            each, in place of the `layers` of its transforms; the column is `layer`.
        recalibrate: "batch_norm", or a table with that `kind` and how many `images`: batch normalisation gets its
            statistics anew from so many training images, after the perturbation of each chip.
        published: values from elsewhere to print beside ours: tables of swept parameters and `accuracy`, a fraction;
            of bits, `noise` too: the noise level that is said to cost as much.
        ops: the transforms that `perturb` may name.
    """

    name: str
    perturb: Sequence[Mapping[str, Any]]
    published: Sequence[Mapping[str, Any]] = ()
    sensitivity: str | Sequence[str] = ()
    recalibrate: str | Mapping[str, Any] | None = None
    ops: Ops = field(default_factory=lambda: REGISTRY, compare=False, repr=False)

    @cached_property
    def swept(self) -> dict[str, tuple[int, str]]:
        """Columns of the swept parameters → (position of the transform, parameter), in the order of the grid."""
        return swept_columns(self.perturb, self.ops)

    @property
    def recalibrated(self) -> int:
        """As of its cells."""
        if isinstance(self.recalibrate, Mapping):
            return int(self.recalibrate.get("images", CALIBRATION_IMAGES))
        return CALIBRATION_IMAGES if self.recalibrate else 0

    @cached_property
    def axes(self) -> dict[str, list[Any]]:
        """The values of each column, as they are written."""
        values = {column: as_list(self.perturb[t][name]) for column, (t, name) in self.swept.items()}
        return {LAYER: as_list(self.sensitivity), **values} if self.sensitivity else values

    @cached_property
    def choices(self) -> list[list[Transform]]:
        """For each position of the perturbation the transforms that its own lists make, the last varying fastest."""
        return [transforms_of(table, self.ops) for table in self.perturb]

    def cells(self, model: str, dataset: str = "") -> list[Cell]:
        """The grid over the layers of `sensitivity` and all swept lists, the last list varying fastest.

        Of one network on one test set, whose label is empty where the study has but one. While "per-layer" stands for
        names that only the networks know, all layers are perturbed at once.
        """
        if isinstance(self.sensitivity, str) or not self.sensitivity:
            return self._grid(model, dataset, {}, self.choices)
        cells = []
        for layer in self.sensitivity:
            choices = [[_on(layer, t) for t in found] for found in self.choices]
            cells += self._grid(model, dataset, {LAYER: layer}, choices)
        return cells

    def _grid(
        self, model: str, dataset: str, fixed: Mapping[str, Scalar], choices: Sequence[Sequence[Transform]]
    ) -> list[Cell]:
        cells, fixed = [], {**_named(dataset), **fixed}
        for chosen in itertools.product(*choices):
            values = {column: getattr(chosen[t], name) for column, (t, name) in self.swept.items()}
            cells.append(Cell(model, self.name, {**fixed, **values}, chosen, self.recalibrated, dataset))
        return cells

    def to_dict(self) -> dict[str, Any]:
        """The table of its TOML form."""
        table: dict[str, Any] = {"name": self.name, "perturb": [dict(t) for t in self.perturb]}
        if self.published:
            table["published"] = [dict(p) for p in self.published]
        if self.sensitivity:
            names = self.sensitivity
            table["sensitivity"] = names if isinstance(names, str) else list(names)
        if self.recalibrate:
            table["recalibrate"] = self.recalibrate if isinstance(self.recalibrate, str) else dict(self.recalibrate)
        return table

    def problems(self) -> Iterator[str]:
        """Of a family that is valid otherwise: values published of no cell or twice of one, no chip to recalibrate."""
        if self.recalibrate and any(is_read(t) for found in self.choices for t in found):
            yield (
                'recalibrate: takes the statistics of a chip once, and with lifetime = "read" each read has weights of '
                "its own; leave one of them out"
            )
        if self.published and self.sensitivity == PER_LAYER:
            yield 'published: the layers of "per-layer" are not known yet; name them in `sensitivity`'
            return
        seen: set[str] = set()
        for i, point in enumerate(self.published):
            if point is None:  # was no table, which has been said
                continue
            at = {name: value for name, value in point.items() if name not in SAID}
            if set(at) != set(self.axes) or any(at[column] not in values for column, values in self.axes.items()):
                yield f"published[{i}]: {at} is no cell of this family; valid: {self.axes}"
            elif str(at) in seen:
                yield f"published: {at} is listed twice"
            seen.add(str(at))


def transforms_of(table: Mapping[str, Any], ops: Ops) -> list[Transform]:
    """The transforms that the lists of a valid table make, the last list varying fastest."""
    transform, names = ops[table["op"]], swept(table, ops)
    fixed = {name: value for name, value in table.items() if name != "op"}
    points = itertools.product(*(table[name] for name in names))
    return [make(transform, {**fixed, **dict(zip(names, point, strict=True))}) for point in points]


def _on(layer: str, transform: Transform) -> Transform:
    made = copy.copy(transform)
    object.__setattr__(made, "layers", layer)
    return made


def _text(value: Scalar) -> str:
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value)


def read_family(
    table: Mapping[str, Any], wrong: set[tuple[str | int, ...]], ops: Ops
) -> tuple[Family | None, list[str]]:
    """A family, and what is wrong with its values together; `wrong` are the places of mistakes that are known."""
    problems: list[str] = []
    choices = []
    for t, one in enumerate(table.get("perturb", [])):
        known = {"".join(map(str, place[2:3])) for place in wrong if place[:2] == ("perturb", t)}
        if one is None or known - set(SELECTIONS):
            continue
        points = math.prod(len(one[name]) for name in swept(one, ops))
        if points > LARGEST_GRID:
            problems.append(f".perturb[{t}]: {_large(points)}")
            continue
        try:
            choices.append(transforms_of(one, ops))
            joint = [problem for transform in choices[-1] for problem in transform.joint_problems()]
        except InputError as error:  # of a user's own, which checks more where it is made
            joint = [problem.removeprefix(f"{one['op']}: ") for problem in error.problems]
        problems += [f".perturb[{t}]: {problem}" for problem in dict.fromkeys(joint)]
    if problems or "perturb" not in table or {place[:1] for place in wrong} & {(), ("perturb",), ("sensitivity",)}:
        return None, problems
    family = Family(**{"name": "", **table}, ops=ops)
    cells = math.prod(len(values) for values in family.axes.values())
    if cells > LARGEST_GRID:
        return None, [f": {_large(cells)}"]
    family.__dict__["choices"] = choices
    return family, [f".{problem}" for problem in family.problems()]


def _large(cells: int) -> str:
    return f"the lists make {cells:,} cells; a family has at most {LARGEST_GRID:,}"
