"""Training recipes: small TOML files that say how a network is made."""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.errors import InputError
from sweep.files import reason, require_file

# Layers that a recipe may use: those that need nothing but numbers, words and lists as arguments.
LAYERS = (
    "Activation",
    "AveragePooling1D",
    "AveragePooling2D",
    "BatchNormalization",
    "Conv1D",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "LayerNormalization",
    "MaxPooling1D",
    "MaxPooling2D",
    "ReLU",
    "Reshape",
    "SeparableConv2D",
    "ZeroPadding2D",
)
OPTIMIZERS = {"adam": "Adam", "rmsprop": "RMSprop", "sgd": "SGD"}
FORMATS = ("h5", "keras")


@dataclass(frozen=True)
class Rounded:
    """A model made from the trained one, its kernels rounded to `bits` fractional bits: rint(w * 2^b) / 2^b."""

    name: str
    bits: int


@dataclass(frozen=True)
class Recipe:
    """How a network is made.

    Attributes:
        name: of the trained model and its files.
        dataset: .npz file with x_train, y_train, x_test and y_test; a relative path in the TOML file counts
            from that file's folder.
        input_shape: shape of one prepared image, its channel axis included.
        layers: one table each: its `type` (one of `LAYERS`), and the arguments of that Keras layer.
        epochs: passes over all training images.
        batch: images a step.
        optimizer: one of `OPTIMIZERS`.
        learning_rate: constant over the training.
        seed: of initial weights, order of the images, and dropout; 0 to 2^32 - 1.
        formats: suffixes of the files to write, of `FORMATS`.
        rounded: models to derive from the trained one.
        notes: words for the card, such as how the settings were chosen.
        folder: where the files go unless the caller says otherwise; a relative path in the TOML file counts from
            that file's folder, which is also the default.
    """

    name: str
    dataset: Path
    input_shape: tuple[int, ...]
    layers: tuple[dict[str, Any], ...]
    epochs: int
    batch: int
    optimizer: str
    learning_rate: float
    seed: int
    formats: tuple[str, ...] = ("h5",)
    rounded: tuple[Rounded, ...] = ()
    notes: str = ""
    folder: Path | None = None


def recipe_digest(recipe: Recipe, dataset_digest: str) -> str:
    """SHA-256, in hex, of all that the weights depend on, the seed apart: names, notes and places take no part.

    Args:
        recipe: the recipe.
        dataset_digest: SHA-256 of its dataset's file.
    """
    parts = {
        "dataset": dataset_digest,
        "input_shape": recipe.input_shape,
        "layers": recipe.layers,
        "epochs": recipe.epochs,
        "batch": recipe.batch,
        "optimizer": recipe.optimizer,
        "learning_rate": float(recipe.learning_rate),
        "rounded": [item.bits for item in recipe.rounded],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_recipe(path: str | Path) -> Recipe:
    """Reads a recipe from a TOML file.

    Raises:
        InputError: the file is missing or not TOML, or some of its keys are wrong: all of them, one line each.
    """
    path = require_file(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a TOML file: {reason(error)}") from error
    problems = list(_table_problems(table, _RULES, _REQUIRED, _KEYS))
    for kind, check in (("layer", _layer_problems), ("rounded", _rounded_problems)):
        entries = table.get(kind, [])
        if _is_tables(entries):
            problems += [f"{kind} {i}: {problem}" for i, entry in enumerate(entries) for problem in check(entry)]
    if not problems:
        problems += _duplicates(table)
    if problems:
        raise InputError(f"{path}: {problem}" for problem in problems)
    plain = {key: table[key] for key in table if key not in ("layer", "rounded")}
    plain["dataset"] = path.parent / plain["dataset"]
    plain["folder"] = path.parent / plain.get("folder", "")
    for key in ("input_shape", "formats"):
        if key in plain:
            plain[key] = tuple(plain[key])
    return Recipe(
        **plain,
        layers=tuple(table["layer"]),
        rounded=tuple(Rounded(**entry) for entry in table.get("rounded", [])),
    )


_Rule = tuple[Callable[[Any], bool], str]


def _is_int(value: Any, low: int, high: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", value) is not None


def _is_rate(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def _is_list(value: Any, check: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and bool(value) and all(check(item) for item in value)


def _is_tables(value: Any) -> bool:
    return _is_list(value, lambda item: isinstance(item, dict))


_NAME: _Rule = (_is_name, "a name of letters, digits, '_', '-' and '.'")
_RULES: dict[str, _Rule] = {
    "name": _NAME,
    "dataset": (lambda value: isinstance(value, str) and bool(value), "the path of an .npz file"),
    "input_shape": (
        lambda value: _is_list(value, lambda size: _is_int(size, 1)),
        "a list of sizes, such as [28, 28, 1]",
    ),
    "epochs": (lambda value: _is_int(value, 1), "a whole number from 1"),
    "batch": (lambda value: _is_int(value, 1), "a whole number from 1"),
    "optimizer": (
        lambda value: isinstance(value, str) and value in OPTIMIZERS,
        f"one of {', '.join(OPTIMIZERS)}",
    ),
    "learning_rate": (_is_rate, "a number above 0"),
    "seed": (lambda value: _is_int(value, 0, 2**32 - 1), "a whole number from 0 to 2^32 - 1"),
    "formats": (
        lambda value: _is_list(value, lambda item: item in FORMATS) and len(set(value)) == len(value),
        f"a list of {', '.join(FORMATS)}",
    ),
    "notes": (lambda value: isinstance(value, str), "text"),
    "folder": (lambda value: isinstance(value, str) and bool(value), "the path of a folder"),
    "layer": (_is_tables, "one [[layer]] table or more"),
    "rounded": (_is_tables, "[[rounded]] tables with name and bits"),
}
_REQUIRED = (
    "name",
    "dataset",
    "input_shape",
    "epochs",
    "batch",
    "optimizer",
    "learning_rate",
    "seed",
    "layer",
)
_KEYS = tuple(_RULES)
_ROUNDED_RULES: dict[str, _Rule] = {
    "name": _NAME,
    "bits": (lambda value: _is_int(value, 0, 32), "a whole number from 0 to 32"),
}


def check_seeds(seed: int, seeds: int = 1) -> list[str]:
    """What is wrong with the training seeds seed … seed + seeds − 1, in words; empty when nothing is."""
    fine, valid = _RULES["seed"]
    problems = [] if fine(seed) else [f"seed: {seed!r} is not {valid}"]
    if not _is_int(seeds, 1):
        problems.append(f"seeds: {seeds!r} is not a whole number from 1")
    elif not problems and not fine(seed + seeds - 1):
        problems.append(f"seeds: {seed} to {seed + seeds - 1} go beyond 2^32 - 1")
    return problems


def _table_problems(
    table: dict[str, Any], rules: dict[str, _Rule], required: tuple[str, ...], known: tuple[str, ...]
) -> list[str]:
    problems = [f"{key}: unknown key; the keys are {', '.join(known)}" for key in table if key not in rules]
    problems += [f"{key}: missing; it must be {rules[key][1]}" for key in required if key not in table]
    for key, (fine, valid) in rules.items():
        if key in table and not fine(table[key]):
            problems.append(f"{key}: {_brief(table[key])} is not {valid}")
    return problems


def _layer_problems(entry: dict[str, Any]) -> list[str]:
    problems = []
    if entry.get("type") not in LAYERS:
        given = f"{entry['type']!r} is not a layer for recipes" if "type" in entry else "missing"
        problems.append(f"type: {given}; the types are {', '.join(LAYERS)}")
    if "name" in entry and not _is_name(entry["name"]):
        problems.append(f"name: {_brief(entry['name'])} is not {_NAME[1]}")
    return problems


def _rounded_problems(entry: dict[str, Any]) -> list[str]:
    return _table_problems(entry, _ROUNDED_RULES, tuple(_ROUNDED_RULES), tuple(_ROUNDED_RULES))


def _duplicates(table: dict[str, Any]) -> list[str]:
    models = [table["name"], *(entry["name"] for entry in table.get("rounded", []))]
    layers = [entry["name"] for entry in table["layer"] if "name" in entry]
    return [
        f"{kind}: the name {name!r} is used more than once; names must differ"
        for kind, names in (("rounded", models), ("layer", layers))
        for name in sorted({name for name in names if names.count(name) > 1})
    ]


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
