"""What a study file may hold: its tables as models, and the JSON Schema of them. Import it where a study is parsed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo
from pydantic_core import core_schema

import sweep.tables as t
from sweep.data.datasets import RESCALES
from sweep.data.measures import ACCURACY, FORM, VALID, column, is_own, measure_of
from sweep.errors import hint, nearest
from sweep.perturb.base import KERNELS, REGISTRY, Transform, table_of
from sweep.randomness import FIRST_SAMPLED
from sweep.study.described import is_ours
from sweep.study.family import BATCH_NORM, CALIBRATION_IMAGES, RESERVED
from sweep.tables import Problem, Said


class _Perturbed:
    """A transform's table, checked as its `op` says, or as the one that was probably meant.

    Its parameters may be lists where it is `swept`.
    """

    def __init__(self, swept: bool = True) -> None:
        self._swept = swept

    def __get_pydantic_core_schema__(self, *_: Any) -> Any:
        return core_schema.with_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, *_: Any) -> dict[str, Any]:
        ours = {op: transform for op, transform in REGISTRY.items() if is_ours(transform)}
        own = {"type": "object", "properties": {"op": {"type": "string", "not": {"enum": list(ours)}}}}
        known = [table_of(transform).model_json_schema() for transform in ours.values()]
        return {"oneOf": [*known, {**own, "required": ["op"], "description": "of a plugin"}]}

    def _check(self, table: Any, info: ValidationInfo) -> Any:
        ops: Mapping[str, type[Transform]] = (info.context or {})["ops"]
        if not isinstance(table, dict):
            raise t.failed([Problem((), 'is not a table such as { op = "gaussian", scale = 0.1 }')])
        op, found = table.get("op"), []
        if not isinstance(op, str) or op not in ops:
            given = f"no op {t.shown(op)}" if "op" in table else "op is missing"
            found = [Problem(("op",), f"{given}; valid: {', '.join(sorted(ops))}{hint(op, ops)}")]
            op = nearest(op, ops)
        try:
            (table_of(ops[op], self._swept) if op else _UNKNOWN).model_validate({**table, "op": op})
        except ValidationError as error:
            found += t.told(error)
        if found:
            raise t.failed(found)
        return table


_TEXT = Annotated[str, Field(strict=True, min_length=1)]  # in a list of which all is said at once
_UNKNOWN = t.model("transform", {"layers": (t.LAYERS, "*"), "variables": (t.VARIABLES, KERNELS)}, others=True)
_NAME = t.text(r"^[^/\s][^/\n]*$", "a name (any text without '/')")
_TRANSFORMS = 'is not a list of transforms such as [ {{ op = "gaussian", scale = [0, 0.1] }} ]'
_POINTS = "is not a list of tables such as {{ scale = 0.1, accuracy = 0.98 }}"
_LAYERS = '"per-layer" or a list of names of layers'
_FAMILIES = "no family; a study has at least one [[family]] table, in double brackets"
_ONE_EACH = 'is not a list of transforms such as [ {{ op = "gaussian", scale = 0.1 }} ]'
FIXED = t.some(Annotated[dict[str, Any], _Perturbed(swept=False)], wrong=_ONE_EACH)
"""A list of transforms without lists in them."""
_PATHS = "a path or a list of paths"
_FUNCTION = t.text(r"^[^\n]+:[A-Za-z_]\w*$", 'a Python file and a function in it, such as "my_model.py:build"')
_BUILT = {
    "build": (_FUNCTION, ..., "a function that gives the keras.Model, without arguments"),
    "weights": (t.text(said="the path of a .weights.h5 file"), ..., "what model.save_weights has written"),
}
_BUILT_MODEL = t.model("built", _BUILT)
_MODEL = t.either(_TEXT, _BUILT_MODEL, dict)
_MODELS = t.either(t.either(t.text(said=_PATHS), _BUILT_MODEL, dict), t.some(_MODEL, _PATHS, distinct=True))
_ARRAY = "the name of an array or column, a list of names, or a table such as { image = 'x_image' }"
_TABLE: Any = Annotated[dict[str, _TEXT], Said(_ARRAY)]
ARRAYS = t.either(t.either(t.text(said=_ARRAY), _TABLE, dict), t.some(_TEXT, _ARRAY, distinct=True))
_COUNT = t.whole(1, said="a whole number of at least 1, or { start = 200, count = 800 }")
_SEEDS = t.model("seeds", {"start": (t.whole(0), 0, "the first seed"), "count": (t.whole(1), ..., "how many")})
_SHARE = t.number(0, 1, "a fraction from 0 to 1")
_PUBLISHED = {
    "accuracy": (_SHARE, ..., "a fraction, not a percentage"),
    "noise": (t.number(0), None, "of bits: the noise level that is said to cost as much"),
}
_POINT = t.model("published", _PUBLISHED, others=True)  # swept parameters
_PER_LAYER = t.either(Annotated[Literal["per-layer"], Said(_LAYERS)], t.some(_TEXT, _LAYERS, least=0, distinct=True))
_ANEW = '"batch_norm" or a table such as { kind = "batch_norm", images = 256 }'
_RECALIBRATED = {
    "kind": (t.choice((BATCH_NORM,)), BATCH_NORM, "what is taken anew: mean and variance of batch normalisation"),
    "images": (t.whole(2), CALIBRATION_IMAGES, "the first so many training images"),
}
_RECALIBRATE = t.either(Annotated[Literal["batch_norm"], Said(_ANEW)], t.model("recalibrate", _RECALIBRATED), dict)
_FAMILY = {
    "name": (_NAME, ..., "unique in the study"),
    "perturb": (t.some(Annotated[dict[str, Any], _Perturbed()], wrong=_TRANSFORMS), ..., "transforms, in order"),
    "published": (t.some(_POINT, wrong=_POINTS, least=0), (), "values from elsewhere to print beside ours"),
    "sensitivity": (_PER_LAYER, (), "acts on one layer at a time, a cell each"),
    "recalibrate": (_RECALIBRATE, None, "takes statistics of each chip anew, on training images"),
}
_KIND: Any = Annotated[t.model("family", _FAMILY), Said(wrong="is not a [[family]] table")]
IMAGES = ("all", "sampled")
DATA = t.text(said="the path of a dataset (.npz, .parquet, .arrow, .csv, a folder) or my_data.py:function")
_SETS = t.either(DATA, t.some(_TEXT, "the path of a dataset or a list of paths", distinct=True))
_CLASS = _TEXT | Annotated[int, Field(strict=True)]
CLASSES = t.some(_CLASS, "a list of labels, names or whole numbers, in the order of the classes", distinct=True)
_MEASURES = t.some(t.text(FORM, VALID), f"a list of measures: {VALID}", distinct=True)
_WIDEST = 50.0
_HALF_WIDTH = t.number(above=0, said="a number above 0, such as 0.1")
_VALUES = "a table of values of one of its cells, such as { bits = 8 }"
_CELL = Annotated[dict[str, bool | int | float | str], Said(_VALUES)]
_COSTS: Any = t.some(t.number(0), "a list of costs, one for each setting of the layer", least=1)
_BELOW = f'"clean" or {_VALUES}'
_COST = "one of memory, operations, or a table of lists such as { conv1 = [8, 4, 2] }"
_BUDGET = {
    "drop": (
        t.number(high=100, above=0, said="points, a number above 0 and up to 100"),
        ...,
        "points that may be lost",
    ),
    "below": (
        t.either(Annotated[Literal["clean"], Said(_BELOW)], _CELL, dict),
        "clean",
        "what they are lost against: the clean network, or the family's cell with these values",
    ),
    "quantile": (
        t.number(high=0.5, above=0, said="a fraction of the chips above 0 and up to 0.5, such as 0.05"),
        None,
        "all chips but this share are to keep the budget, instead of their mean",
    ),
    "confidence": (
        t.number(0.5, 0.9999, "a fraction from 0.5 to 0.9999, such as 0.95"),
        0.95,
        "that the answer keeps the budget",
    ),
    "cost": (
        t.either(Annotated[Literal["memory", "operations"], Said(_COST)], dict[str, _COSTS], dict),
        "memory",
        "what is to be least: bits of weights; multiply-accumulates times bits; or, by layer, the cost of each setting",
    ),
}
_KEYS = {
    "name": (t.text(r"^\w[\w.-]*$", "a name of letters, digits, '-', '_' and '.'"), ..., "and of the results' folder"),
    "model": (_MODELS, ..., "networks (.keras, .h5), or globs, or weights and what builds their network"),
    "dataset": (
        _SETS,
        ...,
        "images and labels: .npz, .parquet, .arrow, .csv, a folder, my_data.py:function; a list or a glob of several",
    ),
    "x": (
        ARRAYS,
        None,
        "the images; x_test or, in a table, image by default; of several inputs a list or table",
    ),
    "y": (t.text(said="the name of an array or column"), None, "their labels; y_test or, in a table, label by default"),
    "output": (t.text(said="the name of an output"), None, "of a network with several, the one that is scored"),
    "labels": (CLASSES, None, "class k is the k-th of these labels"),
    "calibration": (DATA, None, "training images, where they are not x_train of the dataset"),
    "seeds": (t.either(_COUNT, _SEEDS, dict), None, "random draws (chips) a cell: 0 to seeds - 1, or a range"),
    "precision": (
        _HALF_WIDTH,
        None,
        "half-width of the 95 % interval of each mean, beside seeds or instead: points, or as the measure is written",
    ),
    "min_seeds": (t.whole(2), None, "chips a cell at least, for `precision`; 256 by default"),
    "max_seeds": (t.whole(2), None, "chips a cell at most, for `precision`; 1,000,000 by default"),
    "images": (t.choice(IMAGES), None, "how many images a chip sees: a sample where `precision` asks for no more"),
    "measures": (_MEASURES, (ACCURACY.name,), "what a trial reports; of the first one come figures and thresholds"),
    "expected": (_SHARE, None, "the clean networks' accuracy, on the first test set; a run in which one has less ends"),
    "root_seed": (t.whole(0), 0, "another one draws everything anew"),
    "rescale": (t.choice(RESCALES), None, "how whole-number images reach the network"),
    "plugins": (t.some(_TEXT, "a list of Python files", least=0), (), "with transforms of your own"),
    "custom_objects": (t.some(_TEXT, "a list of Python files", least=0), (), "with layers and functions of your own"),
    "budget": (t.model("budget", _BUDGET), None, "for `sweep allocate` and `sweep tolerate`: what may be lost"),
    "family": (t.some(_KIND, wrong=_FAMILIES), ..., "kinds of perturbation; lists for parameters make a grid"),
}
STUDY = t.model("study", _KEYS)
"""A study file."""


def check_study(data: Mapping[str, Any], ops: Mapping[str, type[Transform]]) -> tuple[dict[str, Any], list[Problem]]:
    """What can be understood of a study's tables, which may name the transforms `ops`, and what is wrong with them.

    Both as `sweep.tables.check` gives them; whether the values of a perturbation go together is not looked at.
    """
    tables, problems = t.check(STUDY, data, ops=ops)
    families = [(i, family) for i, family in enumerate(tables.get("family", [])) if family is not None]
    for i, family in families:
        layers = [table.get("layers", "*") for table in family.get("perturb", []) if table is not None]
        selected = {str(one if isinstance(one, list) else [one]) for one in layers}
        if family.get("sensitivity") and len(selected) > 1:
            words = "all transforms of the family must select the same layers"
            problems.append(Problem(("family", i, "sensitivity"), words))
    problems += [Problem(*problem) for problem in _asked(tables, problems)]
    problems += [Problem(("measures",), text, t.TWICE) for text in _named_alike(tables)]
    names = [family["name"] for _, family in families if "name" in family]
    problems += [Problem(("family",), f"two families are called {name!r}", t.TWICE) for name in t.duplicates(names)]
    return tables, problems


def _asked(tables: Mapping[str, Any], known: Sequence[Problem]) -> Iterator[tuple[t.Place, str]]:
    """What is wrong with how many chips a study asks for, its values being valid one by one."""
    wrong = {problem.place[0] for problem in known if problem.place}
    first = next(iter(tables.get("measures", ())), None) or ACCURACY.name
    if first != ACCURACY.name:
        if tables.get("images", "all") != "all":
            yield ("images",), f"are of accuracy where sampled, and the first of `measures` is {first}: leave one out"
        if "budget" in tables:
            yield ("budget",), f"is one of accuracy, and the first of `measures` is {first}; leave one of them out"
    if wrong & {"seeds", "precision", "images"}:
        return
    if tables.get("precision", 0) > _WIDEST and not is_own(first) and measure_of(first).fraction:
        asked = f"{tables['precision']:g}"
        yield ("precision",), f"{asked} is not points, a number above 0 and up to {_WIDEST:g}, such as 0.1"
    if "precision" not in tables:
        for key in ("min_seeds", "max_seeds"):
            if key in tables:
                yield (key,), "bounds the chips that `precision` asks for, which is not there"
        if "seeds" not in tables:
            yield ("seeds",), "is missing; say how many chips, or the `precision` of each mean in points"
        elif tables.get("images") == "sampled" and isinstance(tables["seeds"], dict):
            yield ("seeds",), "of chips that see a sample of the images are counted: give a number"
    elif tables.get("min_seeds", 2) > tables.get("max_seeds", math.inf):
        yield ("min_seeds",), f"{tables['min_seeds']} is above max_seeds, {tables['max_seeds']}"
    seeds = tables.get("seeds", 0)
    last = seeds if isinstance(seeds, int) else seeds.get("start", 0) + seeds.get("count", 0)
    if last > FIRST_SAMPLED:
        yield ("seeds",), f"go beyond {FIRST_SAMPLED:,}, where chips for `precision` begin"


def _named_alike(tables: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the columns of measures: one of their name is there already."""
    measures = [name for name in dict.fromkeys(tables.get("measures", ())) if name is not None]
    for name in t.duplicates([column(name) for name in measures]):
        yield f"two are called {name!r}"
    for name in measures:
        if is_own(name) and (column(name) in RESERVED or re.fullmatch(FORM, column(name))):
            yield f"{column(name)!r} is the name of a column of ours; call the function something else"


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a study file, with all transforms that come with this package.

    Other transforms are valid where the study names plugins. What a schema cannot say is left to `sweep plan`: values
    that do not go together, files and layers that are not there.
    """
    schema = _tidy(STUDY.model_json_schema())
    op = {"enum": [op for op, transform in REGISTRY.items() if is_ours(transform)]}
    perturb: dict[str, Any] = {"items": {"properties": {"op": op}}}
    family = {"$defs": schema.pop("$defs")}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A study of noisesweep"}
    ours = {"properties": {"family": {"items": {"properties": {"perturb": perturb}}}}}
    return {**head, **schema, **family, "if": {"not": {"required": ["plugins"]}}, "then": ours}


def _tidy(schema: Any) -> Any:
    """Without what says nothing: titles made of keys, defaults that are None."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    dull: dict[str, type] = {"title": str, "default": type(None)}  # a parameter of that name is a table
    return {key: _tidy(v) for key, v in schema.items() if key not in dull or not isinstance(v, dull[key])}


def check_chips(chips: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with how many chips a study asks for: `seeds` and the keys about its means, alone and together."""
    problems = [problem for problem in t.check(STUDY, chips)[1] if problem.place[0] in chips]
    return problems or [Problem(*problem) for problem in _asked(chips, ())]
