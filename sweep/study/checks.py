"""Every mistake in a study's tables, each as `key: what is wrong and what is valid`."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from sweep.data.datasets import RESCALES
from sweep.errors import InputError
from sweep.perturb.base import REGISTRY, Table, Transform, check, parameters, required

STUDY_KEYS = ("name", "model", "dataset", "seeds", "root_seed", "rescale", "plugins", "family")
Ops = Mapping[str, type[Transform]]
"""Transforms by name."""
SAID = ("accuracy", "noise")  # of a published point, beside where it is
FAMILY_KEYS = ("name", "perturb", "published", "sensitivity")
RESERVED = {  # columns of trials and summaries that a parameter of that name would hide
    *("model", "family", "cell", "layer", "seed", "n_images", "n_correct", "accuracy", "n_nonfinite"),
    *("seconds", "host", "device", "engine", "trials", "mean", "std", "mean_low", "mean_high", "std_low", "std_high"),
    *("min", "q05", "median", "q95", "max", "nonfinite", "published"),
}
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # terminals act on them, and no SVG may hold them
LARGEST_SEED = 2**63 - 1
LARGEST_GRID = 1_000_000  # cells of a family


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
        for name, value in table.items():
            if isinstance(value, list | tuple) and name != "layers" and not _is_table(ops, table.get("op"), name):
                taken = name in columns or name in RESERVED
                columns[f"{name}_{position}" if taken else name] = (position, name)
    return columns


def _is_table(ops: Ops, op: object, name: str) -> bool:
    """Whether a parameter takes a list of points, so that a list given for it is one value."""
    transform = ops.get(op) if isinstance(op, str) else None
    return transform is not None and parameters(transform).get(name) == Table


def check_study(data: Mapping[str, Any], ops: Ops = REGISTRY) -> list[str]:
    """Problems of a whole study that may name the transforms `ops`; empty when it is valid."""
    problems = [*_keys(data, STUDY_KEYS, ""), *_missing(data, ("name", "model", "dataset", "seeds", "family"))]
    if "name" in data and not (isinstance(data["name"], str) and re.fullmatch(r"[\w][\w.-]*", data["name"])):
        problems.append(f"name: {data['name']!r} is not a name of letters, digits, '-', '_' and '.'")
    problems += [f"{text!r}: has control characters" for text in _texts(data) if _CONTROLS.search(text)]
    problems += _paths(data)
    if "seeds" in data:
        problems += _seeds(data["seeds"])
    if "root_seed" in data and not _whole(data["root_seed"], 0):
        problems.append(f"root_seed: {data['root_seed']!r} is not a whole number of at least 0")
    if data.get("rescale") is not None and data["rescale"] not in RESCALES:
        problems.append(f"rescale: {data['rescale']!r} is not valid; choose one of {', '.join(RESCALES)}")
    if "family" in data:
        problems += _families(data["family"], ops)
    return problems


def _texts(value: Any) -> Iterator[str]:
    """Every text in tables and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (key, *_texts(item)) if isinstance(key, str) else _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _paths(data: Mapping[str, Any]) -> list[str]:
    problems = []
    if "model" in data:
        models = as_list(data["model"])
        if not models or not all(isinstance(m, str) and m for m in models):
            problems.append(f"model: {data['model']!r} is not a path or a list of paths")
        else:
            problems += [f"model: {m!r} is listed twice" for m in _duplicates(models)]
    if "dataset" in data and not (isinstance(data["dataset"], str) and data["dataset"]):
        problems.append(f"dataset: {data['dataset']!r} is not the path of an .npz file")
    return problems


def _seeds(seeds: Any) -> list[str]:
    if isinstance(seeds, Mapping):
        problems = [*_keys(seeds, ("start", "count"), "seeds."), *_missing(seeds, ("count",), "seeds.")]
        if not _whole(seeds.get("start", 0), 0):
            problems.append(f"seeds.start: {seeds['start']!r} is not a whole number of at least 0")
        if "count" in seeds and not _whole(seeds["count"], 1):
            problems.append(f"seeds.count: {seeds['count']!r} is not a whole number of at least 1")
        return problems
    if not _whole(seeds, 1):
        return [f"seeds: {seeds!r} is not a whole number of at least 1, or {{ start = 200, count = 800 }}"]
    return []


def _families(families: Any, ops: Ops) -> list[str]:
    if not isinstance(families, list | tuple) or not families:
        return ["family: no family; a study has at least one [[family]] table"]
    problems = []
    names = []
    for i, family in enumerate(families):
        where = f"family[{i}]"
        if not isinstance(family, Mapping):
            problems.append(f"{where}: is not a [[family]] table")
            continue
        problems += [*_keys(family, FAMILY_KEYS, f"{where}."), *_missing(family, ("name", "perturb"), f"{where}.")]
        if "name" in family:
            if isinstance(family["name"], str) and re.fullmatch(r"[^/\s][^/\n]*", family["name"]):
                names.append(family["name"])
            else:
                problems.append(f"{where}.name: {family['name']!r} is not a name (any text without '/')")
        wrong = _perturbation(family["perturb"], f"{where}.perturb", ops) if "perturb" in family else []
        if "sensitivity" in family:
            wrong += _sensitivity(family, where)
        wrong = wrong or _grid(family, where, ops)
        problems += wrong
        if "published" in family:
            sound = "perturb" in family and not wrong
            problems += _published(family["published"], family if sound else None, f"{where}.published", ops)
    return problems + [f"family: two families are called {name!r}" for name in _duplicates(names)]


def _perturbation(tables: Any, where: str, ops: Ops) -> list[str]:
    if not isinstance(tables, list | tuple) or not tables:
        return [f'{where}: is not a list of transforms such as [ {{ op = "gaussian", scale = [0, 0.1] }} ]']
    problems = []
    for i, table in enumerate(tables):
        at = f"{where}[{i}]"
        if not isinstance(table, Mapping):
            problems.append(f'{at}: is not a table such as {{ op = "gaussian", scale = 0.1 }}')
            continue
        op = table.get("op")
        if not isinstance(op, str) or op not in ops:
            given = "op is missing" if "op" not in table else f"no op {op!r}"
            problems.append(f"{at}.op: {given}; valid: {', '.join(sorted(ops))}{hint(op, ops)}")
            op = nearest(op, ops)
        if op is not None:
            problems += _parameters(ops[op], table, at)
        problems += layers_problems(table.get("layers", "*"), f"{at}.layers")
    return problems


def _parameters(transform: type[Transform], table: Mapping[str, Any], where: str) -> list[str]:
    problems = _keys(table, ("op", *parameters(transform), "layers"), f"{where}.")
    wrong = _missing(table, required(transform), f"{where}.")
    for name in parameters(transform):
        if name in table:
            wrong += _values(transform, name, table[name], f"{where}.{name}")
    return problems + (wrong or _joint(transform, table, where))


def _grid(family: Mapping[str, Any], where: str, ops: Ops) -> list[str]:
    """Whether the lists of a family make more cells than can be held, when nothing else is wrong with them."""
    cells = math.prod(len(values) for values in _axes(family, ops).values()) if "perturb" in family else 0
    return [f"{where}: the lists make {cells:,} cells; a family has at most {LARGEST_GRID:,}"] * (cells > LARGEST_GRID)


def _joint(transform: type[Transform], table: Mapping[str, Any], where: str) -> list[str]:
    """Values that are valid one by one and not together, at any point of the grid."""
    columns = swept_columns([table], {table["op"]: transform})
    swept = [name for _, name in columns.values() if name in parameters(transform)]
    fixed = {name: value for name, value in table.items() if name in parameters(transform)}
    if (points := math.prod(len(table[name]) for name in swept)) > LARGEST_GRID:
        return [f"{where}: the lists make {points:,} cells; a family has at most {LARGEST_GRID:,}"]
    found: list[str] = []
    for point in itertools.product(*(table[name] for name in swept)):
        try:
            transform(**{**fixed, **dict(zip(swept, point, strict=True))})
        except InputError as error:
            found += [f"{where}: {problem.removeprefix(f'{transform.op}: ')}" for problem in error.problems]
    return list(dict.fromkeys(found))


def _values(transform: type[Transform], name: str, value: Any, where: str) -> list[str]:
    if parameters(transform)[name] == Table:
        problem = check(transform, name, value)[1]
        return [f"{where}: {problem}"] if problem else []
    if isinstance(value, list | tuple) and not value:
        return [f"{where}: the list is empty; give at least one value"]
    results = [_checked(transform, name, v) for v in as_list(value)]
    problems = [f"{where}: {problem}" for _, problem in results if problem]
    good = [converted for converted, problem in results if not problem]
    return problems + [f"{where}: {v!r} is listed twice" for v in _duplicates(good)]


def _checked(transform: type[Transform], name: str, value: Any) -> tuple[Any, str | None]:
    try:
        return check(transform, name, value)
    except OverflowError:
        return None, f"{value!r} is too large a number"


def layers_problems(layers: Any, where: str) -> list[str]:
    """What is wrong with a selection of layers, whatever the network."""
    parts = as_list(layers)
    if not parts:
        return [f'{where}: the list is empty; "*" selects every kernel']
    return [
        f"{where}: {part!r} is not a layer's name, a glob, or an index into model.layers (0, 1, …)"
        for part in parts
        if not (_whole(part, 0) or (isinstance(part, str) and part))
    ]


def _sensitivity(family: Mapping[str, Any], where: str) -> list[str]:
    names = family["sensitivity"]
    listed = isinstance(names, list | tuple) and all(isinstance(n, str) and n for n in names)
    if names != "per-layer" and not listed:
        return [f'{where}.sensitivity: {names!r} is not "per-layer" or a list of names of layers']
    problems = [f"{where}.sensitivity: {n!r} is listed twice" for n in _duplicates(as_list(names))]
    tables = [t for t in as_list(family.get("perturb", [])) if isinstance(t, Mapping)]
    if len({str(as_list(t.get("layers", "*"))) for t in tables}) > 1:
        problems.append(f"{where}.sensitivity: all transforms of the family must select the same layers")
    return problems


def _published(points: Any, family: Mapping[str, Any] | None, where: str, ops: Ops) -> list[str]:
    """Problems of published values; `family` is None where its cells cannot be told."""
    if not isinstance(points, list | tuple) or not all(isinstance(p, Mapping) for p in points):
        return [f"{where}: is not a list of tables such as {{ scale = 0.1, accuracy = 0.98 }}"]
    axes = None if family is None else _axes(family, ops)
    problems = []
    for i, point in enumerate(points):
        accuracy, noise = point.get("accuracy"), point.get("noise", 0)
        if not (_number(accuracy) and 0 <= accuracy <= 1):
            problems.append(f"{where}[{i}].accuracy: {accuracy!r} is not a fraction from 0 to 1")
        if not (_number(noise) and noise >= 0):
            problems.append(f"{where}[{i}].noise: {noise!r} is not a finite number of at least 0")
        at = {name: value for name, value in point.items() if name not in SAID}
        if axes is not None and (set(at) != set(axes) or any(at[c] not in values for c, values in axes.items())):
            problems.append(f"{where}[{i}]: {at} is no cell of this family; valid: {axes}")
    seen = [str({k: v for k, v in p.items() if k not in SAID}) for p in points]
    return problems + [f"{where}: {at} is listed twice" for at in _duplicates(seen)]


def _axes(family: Mapping[str, Any], ops: Ops) -> dict[str, list[Any]]:
    """The values of each column that a family sweeps."""
    perturb = family["perturb"]
    axes = {column: as_list(perturb[t][name]) for column, (t, name) in swept_columns(perturb, ops).items()}
    layers = as_list(family.get("sensitivity", []))
    return {"layer": layers, **axes} if layers else axes


def _keys(table: Mapping[str, Any], valid: Iterable[str], where: str) -> list[str]:
    names = list(valid)
    return [
        f"{where}{key}: unknown key; valid: {', '.join(names)}{hint(key, names)}" for key in table if key not in names
    ]


def _missing(table: Mapping[str, Any], needed: Iterable[str], where: str = "") -> list[str]:
    return [f"{where}{key}: is missing" for key in needed if key not in table]


def nearest(word: object, valid: Iterable[str]) -> str | None:
    """The valid name that was probably meant, if any."""
    close = difflib.get_close_matches(word, list(valid), n=1) if isinstance(word, str) else []
    return close[0] if close else None


def hint(word: object, valid: Iterable[str]) -> str:
    """The end of a message about a name that is not valid."""
    meant = nearest(word, valid)
    return f" (did you mean {meant!r}?)" if meant else ""


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST_SEED


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _duplicates(values: Iterable[Any]) -> list[Any]:
    ordered = sorted(values, key=str)
    twice = [a for a, b in itertools.pairwise(ordered) if a == b]
    return list(dict.fromkeys(twice))
