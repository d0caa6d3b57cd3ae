"""Training recipes: small TOML files that say how a network is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.data.datasets import RESCALES
from sweep.errors import InputError
from sweep.files import file_digest, read_tables, require_file
from sweep.networks.code import NONE, Code
from sweep.perturb.base import REGISTRY
from sweep.study.plugins import load_code, load_plugins, scripts_of
from sweep.training import wiring
from sweep.training.noise import Noise, read_noise

if TYPE_CHECKING:
    from sweep.tables import Model

OPTIMIZERS = {"adam": "Adam", "rmsprop": "RMSprop", "sgd": "SGD"}
FORMATS = ("h5", "keras")
LABELS, IMAGES, VALUES = "labels", "images", "values"
DEFAULT_RESCALE = "0..1"
LAST_SEED = 2**32 - 1


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
        dataset: images and labels, in any format that a study takes, such as an .npz file with x_train, y_train, x_test
            and y_test; a relative path in the TOML file counts from that file's folder.
        input_shape: shape of one prepared image, its channel axis included.
        layers: one table each: its `type` (one of `wiring.LAYERS`), the arguments of that Keras layer, and perhaps
            `inputs`, names of the layers that go into it instead of the one before; "images" are the network's input.
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
        train: the training set, in any of these formats, where it does not lie beside the test set in `dataset`.
        x, y, labels: of the data, as in studies.
        rescale: how whole-number images reach the network, of `RESCALES`; None for uint8 from 0 to 1, or floating ones.
        target: what the outputs are to be: "labels", of positions where the network has scores there; "images" for an
            autoencoder, or "values" that the data has instead of labels, by the mean squared error.
        train_classes: training images of other classes are left out; all stay when it is empty.
        noise: what each step of the training does to weights and activations; see `sweep.training.noise`.
        start: a file of the network to begin with, instead of `layers` and `input_shape`; `from` in the TOML
            file, where a relative path counts from that file's folder.
        code: of the user's own, which that file needs; `custom_objects` in the TOML file.
        output: the name of the output that is trained, where that network has several.
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
    train: Path | None = None
    x: str | tuple[str, ...] | Mapping[str, str] | None = None
    y: str | None = None
    labels: tuple[str | int, ...] | None = None
    rescale: str | None = None
    target: str = LABELS
    train_classes: tuple[int, ...] = ()
    noise: Noise | None = None
    start: Path | None = None
    code: Code = NONE
    output: str | None = None


def recipe_digest(recipe: Recipe, dataset_digest: str) -> str:
    """SHA-256, in hex, of all that the weights depend on, the seed apart: names, notes and places take no part.

    `dataset_digest` is that of the training set. A key that is not used takes no part, so that recipes of before have
    the digests of before.
    """
    parts: dict[str, Any] = {
        "dataset": dataset_digest,
        "input_shape": recipe.input_shape,
        "layers": recipe.layers,
        "epochs": recipe.epochs,
        "batch": recipe.batch,
        "optimizer": recipe.optimizer,
        "learning_rate": float(recipe.learning_rate),
        "rounded": [item.bits for item in recipe.rounded],
    }
    if recipe.rescale not in (None, DEFAULT_RESCALE):
        parts["rescale"] = recipe.rescale
    if recipe.target != LABELS:
        parts["target"] = recipe.target
    if recipe.train_classes:
        parts["train_classes"] = sorted(recipe.train_classes)
    if recipe.noise is not None:
        parts["noise"] = recipe.noise.facts()
    if recipe.start is not None:
        parts["from"] = recipe.code.digest(file_digest(recipe.start))
    if recipe.output is not None:
        parts["output"] = recipe.output
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_recipe(path: str | Path, start: Path | None = None) -> Recipe:
    """Reads a recipe from a TOML file; with `start`, for the network of that file, whatever the recipe says of one.

    Raises:
        InputError: the file is missing or not TOML, or some of its keys are wrong: all of them, one line each.
    """
    from sweep.tables import TWICE, Problem, check, duplicates

    path = require_file(path)
    given = read_tables(path)
    plugins = load_plugins(_files(given, "plugins"), str(path))
    code = Code(scripts_of(load_code(_files(given, "custom_objects"), str(path)).values()))
    table, problems = check(_recipe(), given, controls=True, ops=REGISTRY)
    layers, rounded = ([one for one in table.pop(key, ()) if one is not None] for key in ("layer", "rounded"))
    for key, named in (("rounded", [table, *rounded]), ("layer", layers)):
        names = [one["name"] for one in named if "name" in one]
        words = "the name {!r} is used more than once; names must differ"
        problems += [Problem((key,), words.format(name), TWICE) for name in duplicates(names)]
    if not any(problem.place[:1] == ("layer",) for problem in problems):
        problems += [Problem(place, text) for place, text in wiring.problems(layers)]
    noise: Noise | None = None
    more: list[str] = []
    if isinstance(table.get("noise"), dict):
        wrong = {problem.place[1:4] for problem in problems if problem.place[:1] == ("noise",)}
        noise, more = read_noise(table.pop("noise"), wrong, plugins)
    problems += [Problem(*problem) for problem in _network(given, start)]
    if problems or more:
        raise InputError([*(f"{path}: {problem}" for problem in problems), *(f"{path}: noise{text}" for text in more)])
    own = table.pop("from", None)
    for key in ("plugins", "custom_objects"):
        table.pop(key, None)
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    plain.update(dataset=path.parent / table["dataset"], folder=path.parent / table.get("folder", ""))
    if "train" in table:
        plain["train"] = path.parent / table["train"]
    if start is not None or own is not None:
        plain |= {"start": path.parent / own if start is None else start, "input_shape": ()}
        layers = []
    models = tuple(Rounded(**one) for one in rounded)
    return Recipe(**plain, layers=tuple(layers), rounded=models, noise=noise, code=code)


def _files(given: Mapping[str, Any], key: str) -> list[str]:
    """What a recipe's table names there, if it is a list of files."""
    named = given.get(key, ())
    return named if isinstance(named, list) and all(isinstance(name, str) for name in named) else []


def _network(given: Mapping[str, Any], start: Path | None) -> Iterator[tuple[tuple[str], str]]:
    """What is wrong with where a recipe's network comes from."""
    own = ("input_shape", "layer")
    if start is None and "from" not in given and "custom_objects" in given:
        yield ("custom_objects",), "go with `from`, whose file may name what they hold; leave them out"
    if start is None and "from" not in given and "output" in given:
        yield ("output",), "goes with `from`, whose network may have several; leave it out"
    if start is None and "from" not in given and not isinstance(given.get("x", ""), str):
        yield ("x",), "of several inputs goes with `from`, whose network has these; name one array"
    if start is None and "from" in given:
        for key in own:
            if key in given:
                yield (key,), "does not go with `from`, whose file has the network; leave one of them out"
    elif start is None:
        for key in own:
            if key not in given:
                yield (key,), "is missing; so is `from`, a file to begin with"


def check_seeds(seed: int, seeds: int = 1) -> list[str]:
    """What is wrong with the training seeds seed … seed + seeds − 1, in words; empty when nothing is."""
    from sweep.tables import check, model, whole

    both = model("seeds", {"seed": (_seed(), ...), "seeds": (whole(1), ...)})
    problems = [str(problem) for problem in check(both, {"seed": seed, "seeds": seeds})[1]]
    if not problems and seed + seeds - 1 > LAST_SEED:
        problems = [f"seeds: {seed} to {seed + seeds - 1} go beyond 2^32 - 1"]
    return problems


@lru_cache(maxsize=1)
def _recipe() -> type[Model]:
    """What a recipe may hold; see `Recipe`."""
    import sweep.tables as t
    from sweep.study.schema import ARRAYS, CLASSES, DATA, FIXED

    name = t.text(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", "a name of letters, digits, '_', '-' and '.'")
    inputs = t.some(name, "a list of names of layers")
    layer = t.model(
        "layer", {"type": (t.choice(wiring.LAYERS), ...), "name": (name, None), "inputs": (inputs, None)}, others=True
    )
    bits = t.whole(0, 32, "a whole number from 0 to 32")
    rounded = t.model("rounded", {"name": (name, ...), "bits": (bits, ...)})
    keys = {
        "name": (name, ...),
        "dataset": (DATA, ...),
        "input_shape": (t.some(t.whole(1), "a list of sizes, such as [28, 28, 1]"), None),
        "epochs": (t.whole(1), ...),
        "batch": (t.whole(1), ...),
        "optimizer": (t.choice(OPTIMIZERS), ...),
        "learning_rate": (t.number(said="a number above 0", above=0), ...),
        "seed": (_seed(), ...),
        "formats": (t.some(t.choice(FORMATS), f"a list of {', '.join(FORMATS)}", distinct=True), None),
        "notes": (t.text("", "a text"), None),
        "folder": (t.text(said="the path of a folder"), None),
        "train": (DATA, None),
        "x": (ARRAYS, None),
        "y": (t.text(said="the name of an array or column"), None),
        "labels": (CLASSES, None),
        "rescale": (t.choice(RESCALES), None),
        "target": (t.choice((LABELS, IMAGES, VALUES)), None),
        "train_classes": (t.some(t.whole(0), "a list of numbers of classes, from 0", distinct=True), None),
        "layer": (t.some(layer, "a list of [[layer]] tables"), None),
        "from": (t.text(said="the path of a .keras or .h5 file"), None),
        "noise": (t.model("noise", {"perturb": (FIXED, ...), "warmup": (t.whole(0), 0)}), None),
        "output": (t.text(said="the name of an output"), None),
        "plugins": (t.some(t.text(said="the path of a Python file"), "a list of Python files"), None),
        "custom_objects": (t.some(t.text(said="the path of a Python file"), "a list of Python files"), None),
        "rounded": (t.some(rounded, "a list of [[rounded]] tables with name and bits"), None),
    }
    return t.model("recipe", keys)


def _seed() -> Any:
    from sweep.tables import whole

    return whole(0, LAST_SEED, "a whole number from 0 to 2^32 - 1")
