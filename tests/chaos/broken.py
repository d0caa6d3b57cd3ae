"""Valid studies at random, and mistakes planted in them; each mistake says what a message must hold to name it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Slot = tuple[object, ...]  # a place in the tables; a mistake there hides others below it


@dataclass(frozen=True)
class Mistake:
    """What was planted: a line begins with `where` and holds `what`."""

    where: str
    what: str
    kind: str


def valid(rng: random.Random) -> dict[str, Any]:
    """A study over net.keras (layers conv1 and fc) and data.npz."""
    families = []
    for i in range(rng.randint(1, 4)):
        perturb = [rng.choice(TRANSFORMS)(rng) for _ in range(rng.randint(1, 3))]
        family: dict[str, Any] = {"name": f"{rng.choice(['noise', 'bits', 'a b', 'é'])} {i}", "perturb": perturb}
        if len(perturb) == 1 and rng.random() < 0.3:
            perturb[0].pop("layers", None)
            family["sensitivity"] = rng.choice(["per-layer", ["conv1"], ["fc", "conv1"]])
        elif rng.random() < 0.3:
            perturb[:] = [{"op": "gaussian", "scale": [0.1, 0.2], **rng.choice(LAYERS)}]
            family["published"] = [{"scale": 0.1, "accuracy": 0.9}, {"scale": 0.2, "accuracy": 1}]
        families.append(family)
    return {
        "name": rng.choice(["small", "a-b_c.d", "7"]),
        "model": rng.choice(["net.keras", ["net.keras"], ["net.keras", "twin.keras"], "n*.keras"]),
        "dataset": "data.npz",
        "seeds": rng.choice([1, 6, {"start": 3, "count": 2}, {"count": 4}]),
        "root_seed": rng.choice([0, 2**40]),
        "family": families,
    }


LAYERS = ({}, {"layers": "*"}, {"layers": "fc"}, {"layers": ["conv*", 3]}, {"layers": "!fc"}, {"layers": "Dense"})


def _gaussian(rng: random.Random) -> dict[str, Any]:
    return {"op": "gaussian", "scale": rng.choice([0.1, [0, 0.1], [1, 2.5, 3]]), **rng.choice(LAYERS)}


def _uniform(rng: random.Random) -> dict[str, Any]:
    return {"op": "uniform", "scale": rng.random(), "basis": rng.choice(["layer_max", ["absolute", "weight"]])}


def _fixed_point(rng: random.Random) -> dict[str, Any]:
    return {"op": "fixed_point", "bits": rng.choice([3, [8, 4, 2]]), **rng.choice(LAYERS)}


def _stuck_at(rng: random.Random) -> dict[str, Any]:
    return {"op": "stuck_at", "rate": [0.01, 0.1], "high": 0.2, "low": rng.choice([0.1, [0.3, 0.4]])}


def _table(rng: random.Random) -> dict[str, Any]:
    return {"op": "conductance_noise", "table": [[0, 0.2], [25, 1.1]]}


TRANSFORMS = (_gaussian, _uniform, _fixed_point, _stuck_at, _table)
NUMBERS = {"scale": 0.0, "bits": 0, "rate": 0.0}  # parameters to spoil, with their smallest value

Plant = Callable[[random.Random, dict[str, Any]], Iterator[tuple[list[Slot], Callable[[], None], Mistake]]]


def plant(rng: random.Random, study: dict[str, Any], count: int) -> list[Mistake]:
    """Plant up to `count` mistakes that do not hide each other."""
    planted: list[Mistake] = []
    taken: list[Slot] = []
    offered = [list(kind(rng, study)) for kind in KINDS]  # before anything is changed
    rng.shuffle(offered)
    for offers in offered:
        free = [o for o in offers if not any(_overlap(a, b) for a in o[0] for b in taken)]
        if free:
            slots, change, mistake = rng.choice(free)
            change()
            taken += slots
            planted.append(mistake)
        if len(planted) == count:
            break
    return planted


def _overlap(a: Slot, b: Slot) -> bool:
    return all(x == y for x, y in zip(a, b, strict=False))


def _set(table: Any, key: Any, value: Any) -> Callable[[], None]:
    return lambda: table.__setitem__(key, value)


def _drop(table: dict[str, Any], key: str) -> Callable[[], None]:
    return lambda: table.__delitem__(key)


def _transforms(study: dict[str, Any]) -> Iterator[tuple[int, int, dict[str, Any], str]]:
    for i, family in enumerate(study["family"]):
        for p, table in enumerate(family["perturb"]):
            yield i, p, table, f"family[{i}].perturb[{p}]"


def _top(kind: str, key: str, values: list[Any], what: str | None = None) -> Plant:
    def offers(rng: random.Random, study: dict[str, Any]) -> Iterator[tuple[list[Slot], Callable[[], None], Mistake]]:
        value = rng.choice(values)
        yield [(key,)], _set(study, key, value), Mistake(key, repr(value) if what is None else what, kind)

    return offers


def _unknown_key(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    key = rng.choice(["sede", "modle", "datasets", "x-y"])
    yield [(key,)], _set(study, key, 1), Mistake(f"{key}: ", "unknown key", "unknown key")


def _missing_key(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    for key in ("name", "model", "dataset", "seeds"):
        yield [(key,)], _drop(study, key), Mistake(f"{key}: ", "is missing", "missing key")


def _no_family(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    yield [("family",)], _set(study, "family", rng.choice([[], "x", 3])), Mistake("family: ", "no family", "no family")


def _not_a_family(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    for i in range(len(study["family"])):
        mistake = Mistake(f"family[{i}]: ", "is not a [[family]] table", "not a family")
        yield [("family", i)], _set(study["family"], i, rng.choice([3, "gaussian"])), mistake


def _family_key(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    for i, family in enumerate(study["family"]):
        mistake = Mistake(f"family[{i}].perturbs: ", "unknown key", "unknown key of a family")
        yield [("family", i, "perturbs")], _set(family, "perturbs", []), mistake


def _family_name(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    value = rng.choice(["", "a/b", 3, " x"])
    for i, family in enumerate(study["family"]):
        mistake = Mistake(f"family[{i}].name: ", repr(value), "name of a family")
        yield [("family", i, "name")], _set(family, "name", value), mistake


def _no_family_name(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    for i, family in enumerate(study["family"]):
        mistake = Mistake(f"family[{i}].name: ", "is missing", "family without a name")
        yield [("family", i, "name")], _drop(family, "name"), mistake


def _same_name(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    if len(study["family"]) > 1:
        (i, first), (j, second) = rng.sample(list(enumerate(study["family"])), 2)
        mistake = Mistake("family: ", f"two families are called {first['name']!r}", "two of a name")
        yield [("family", i, "name"), ("family", j, "name")], _set(second, "name", first["name"]), mistake


def _no_perturb(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    for i, family in enumerate(study["family"]):
        mistake = Mistake(f"family[{i}].perturb: ", "is missing", "family without a perturbation")
        yield [("family", i, "perturb"), ("family", i, "sensitivity")], _drop(family, "perturb"), mistake
        value = rng.choice([[], 3, "gaussian"])
        mistake = Mistake(f"family[{i}].perturb: ", "is not a list of transforms", "no perturbation")
        yield [("family", i, "perturb"), ("family", i, "sensitivity")], _set(family, "perturb", value), mistake


def _sensitivity(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    for i, family in enumerate(study["family"]):
        slots = [("family", i, "sensitivity"), ("family", i, "published"), ("family", i, "perturb", 0, "layers")]
        cases: list[tuple[Any, str]] = [(3, "3"), ("layers", "'layers'"), (["fc", "fc"], "'fc' is listed twice")]
        if all(table.get("layers", "*") == "*" for table in family["perturb"]):  # and the networks are read
            cases.append((["fc", "nosuch"], "'nosuch' selects no"))
            slots += [("model",), ("family", i, "perturb")]
        value, what = rng.choice(cases)
        yield slots, _set(family, "sensitivity", value), Mistake(f"family[{i}].sensitivity: ", what, "sensitivity")


def _published(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    for i, family in enumerate(study["family"]):
        if "published" not in family:
            continue
        slot: list[Slot] = [("family", i, "published", 0, "accuracy")]
        bad = rng.choice([98, -0.1, "0.9", True, float("nan")])
        mistake = Mistake(f"family[{i}].published[0].accuracy: ", repr(bad), "accuracy in %")
        yield slot, _set(family["published"][0], "accuracy", bad), mistake
        cells: list[Slot] = [("family", i)]
        mistake = Mistake(f"family[{i}].published[1]: ", "is no cell of this family", "published nowhere")
        yield cells, _set(family["published"][1], "scale", 7.5), mistake
        mistake = Mistake(f"family[{i}].published: ", "is listed twice", "published twice")
        yield cells, _set(family["published"][1], "scale", 0.1), mistake


def _not_a_transform(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    for i, p, _, where in _transforms(study):
        change = _set(study["family"][i]["perturb"], p, rng.choice(["gaussian", 3]))
        yield [("family", i, "perturb", p)], change, Mistake(f"{where}: ", "is not a table", "not a transform")


def _op(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    for i, p, table, where in _transforms(study):
        value = rng.choice(["gausian", "", 3])
        mistake = Mistake(f"{where}.op: ", f"no op {value!r}", "op")
        yield [("family", i, "perturb", p)], _set(table, "op", value), mistake
        yield [("family", i, "perturb", p)], _drop(table, "op"), Mistake(f"{where}.op: ", "op is missing", "no op")


def _parameter(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    for i, p, table, where in _transforms(study):
        slot: list[Slot] = [("family", i, "perturb", p, "op", "scal")]
        mistake = Mistake(f"{where}.scal: ", "unknown key", "misspelt parameter")
        yield slot, _set(table, "scal", 1), mistake
        for name in NUMBERS:
            if name not in table:
                continue
            slot = [("family", i, "perturb", p, "op", name)]
            if name == "rate":  # which an exact number of faults may stand for
                joint = Mistake(f"{where}: ", "rate, faults: neither is given", "missing parameter")
                yield [("family", i, "perturb", p)], _drop(table, name), joint
            else:
                yield slot, _drop(table, name), Mistake(f"{where}.{name}: ", "is missing", "missing parameter")
            for value, kind in BAD_NUMBERS:
                values = [value] if rng.random() < 0.5 else [0.25 if name != "bits" else 7, value]
                change = _set(table, name, values if len(values) > 1 else value)
                yield slot, change, Mistake(f"{where}.{name}: ", repr(value), kind)
            yield slot, _set(table, name, []), Mistake(f"{where}.{name}: ", "the list is empty", "empty list")
            change = _set(table, name, [1, 1])
            yield slot, change, Mistake(f"{where}.{name}: ", "is listed twice", "a value twice")


BAD_NUMBERS: list[tuple[Any, str]] = [
    *(("0.1", "text for a number"), (True, "a truth value for a number"), (-1, "out of range")),
    *((float("nan"), "NaN"), (float("inf"), "infinity"), ([1], "a list in a list"), (10**400, "too large")),
]


def _choice(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    for i, p, table, where in _transforms(study):
        if "basis" in table:
            change = _set(table, "basis", rng.choice(["max", ["absolute", "max"]]))
            mistake = Mistake(f"{where}.basis: ", "'max' is not valid", "no such choice")
            yield [("family", i, "perturb", p, "op", "basis")], change, mistake


def _joint(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    for i, p, table, where in _transforms(study):
        if table.get("op") == "stuck_at":
            mistake = Mistake(f"{where}: ", "is more than 1", "values that exclude each other")
            yield [("family", i, "perturb", p, "op")], _set(table, "high", [0.1, 0.95]), mistake
        if table.get("op") == "conductance_noise":
            mistake = Mistake(f"{where}.table: ", "is not a list of points", "a table that is none")
            value = rng.choice([[], 3, [[0, 1]], [[1, 0.1], [0, 0.2]], [[0, "a"], [1, 1]]])
            yield [("family", i, "perturb", p, "op", "table")], _set(table, "table", value), mistake


def _layers(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    for i, p, table, where in _transforms(study):
        if "sensitivity" in study["family"][i] or "published" in study["family"][i]:
            continue
        slot: list[Slot] = [("family", i, "perturb", p, "layers"), ("family", i, "sensitivity")]
        for value, what in ((-1, "-1"), ([], "the list is empty"), ("", "''"), (1.5, "1.5"), ([True], "True")):
            yield slot, _set(table, "layers", value), Mistake(f"{where}.layers: ", what, "no selection of layers")
        for value, what in (
            ("nosuch*", "'nosuch*' selects no"),
            (["fc", 99], "99 selects no"),
            ("!fo", "'fo' selects"),
        ):
            mistake = Mistake(f"{where}.layers: ", what, "layers that are not there")
            yield [*slot, ("model",), ("family", i, "perturb", p)], _set(table, "layers", value), mistake


def _large(rng: random.Random, study: dict[str, Any]) -> Iterator[Any]:
    for i, p, table, where in _transforms(study):
        if table.get("op") == "stuck_at":
            values = [k / 1000 for k in range(1, 400)]
            mistake = Mistake(f"{where}: ", "cells; a family has at most", "too many cells")
            change = lambda t=table, v=values: t.update(rate=v, high=v, low=v)  # noqa: E731
            yield [("family", i, "perturb", p, "op")], change, mistake


KINDS: tuple[Plant, ...] = (
    _unknown_key,
    _missing_key,
    _top("name", "name", ["a b", "", 3, "a/b"]),
    _top("model", "model", [[], 3, "", ["net.keras", 7]]),
    _top("model twice", "model", [["net.keras", "net.keras"]], "'net.keras' is listed twice"),
    _top("no such model", "model", ["other.keras", ["net.keras", "other.keras"]], "other.keras: no such file"),
    _top("no model for a glob", "model", ["z*.keras"], "'z*.keras' matches no file"),
    _top("dataset", "dataset", [3, "", [3]]),
    _top("no such dataset", "dataset", ["other.npz"], "other.npz: no such file"),
    _top("dataset that is none", "dataset", ["notes.txt"], "notes.txt"),
    _top("seeds", "seeds", [0, -1, 2.5, "6", True, []]),
    _top("range of seeds", "seeds", [{"start": 1}, {"count": 0}, {"count": 1, "start": -1}], ""),
    _top("root seed", "root_seed", [-1, 1.5, "0", 2**63]),
    _top("plugins", "plugins", [3, "a.py", [3]]),
    _top("no such plugin", "plugins", [["nosuch.py"]], "nosuch.py"),
    _no_family,
    _not_a_family,
    _family_key,
    _family_name,
    _no_family_name,
    _same_name,
    _no_perturb,
    _sensitivity,
    _published,
    _not_a_transform,
    _op,
    _parameter,
    _choice,
    _joint,
    _layers,
    _large,
)
