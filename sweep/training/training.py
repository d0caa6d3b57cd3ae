"""Training a network from a recipe: fit, round, measure, and write each model with its facts and its card."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from sweep.errors import InputError
from sweep.files import file_digest, reason
from sweep.networks.backend import import_keras, import_tensorflow, library, quiet_advice
from sweep.networks.ends import Ends
from sweep.networks.feeding import rescale_of
from sweep.networks.inspection import has_operations
from sweep.networks.loading import Network, check_shape, load_network, network_of
from sweep.perturb.grid import Levels
from sweep.training.cards import card, facts_of, json_of, read_facts
from sweep.training.fitting import fit
from sweep.training.losses import compile_model, loss_of
from sweep.training.quality import Quality, quality_of
from sweep.training.recipes import Recipe, check_seeds, read_recipe, recipe_digest
from sweep.training.sets import Sets, load_sets, misfits
from sweep.training.wiring import INPUT, MERGES, is_chain, nodes

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class TrainedModel:
    """A model file that was written.

    Attributes:
        path: the file.
        digest: its SHA-256, in hex.
        quality: what it does on the test images.
        card: the Markdown file that describes it; the JSON file beside it tells the same facts to programs.
    """

    path: Path
    digest: str
    quality: Quality
    card: Path


def train(
    recipe: str | Path | Recipe,
    out: str | Path | None = None,
    *,
    seed: int | None = None,
    seeds: int | None = None,
    start: str | Path | None = None,
) -> list[TrainedModel]:
    """Trains the network of a recipe, and writes it and the models derived from it, each with its card.

    Progress goes to standard output: Keras's bar on a terminal, else one line an epoch. Equal recipes and
    seeds give equal weights on the same machine with the same versions; for that, TensorFlow's operations are
    made deterministic and stay so in this process.

    Args:
        recipe: a recipe, or the path of its TOML file.
        out: the folder for the files; by default what the recipe says, or its file's own.
        seed: in place of the recipe's; it then becomes a part of the files' names.
        seeds: how many trainings: with the seeds `seed`, `seed` + 1, …, each named in its files' names. What lies
            there already, with facts (JSON) of the same recipe and seed, is not trained again; so a stopped call can
            be repeated.
        start: a .keras or .h5 file of the network to begin with, instead of what the recipe says.

    Returns:
        The files of each training in turn: the trained model first, in each format, then the rounded ones.

    Raises:
        InputError: the recipe, the dataset, the seeds or the folder are unusable; nothing has been trained.
    """
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe, None if start is None else Path(start))
        out = recipe.folder if out is None else out
    elif start is not None:
        recipe = replace(recipe, start=Path(start), layers=(), input_shape=())
    if out is None:
        raise InputError("out: missing; a recipe without a file needs a folder to write to")
    first = recipe.seed if seed is None else seed
    if problems := check_seeds(first, 1 if seeds is None else seeds):
        raise InputError(problems)
    if library() != "tensorflow":
        raise InputError("KERAS_BACKEND: recipes are trained by TensorFlow; leave it out")
    folder = _writable(Path(out))
    sets = load_sets(recipe)
    if recipe.start is not None:
        recipe = _started(recipe, sets)
        made = {folder.resolve() / f"{recipe.name}.{suffix}" for suffix in recipe.formats}
        if seeds is None and recipe.start and recipe.start.resolve() in made:
            raise InputError(f"{recipe.name}: its file would replace {recipe.start}, with which the training begins")
    if seeds is None:
        return _train(recipe if seed is None else _with_seed(recipe, seed), sets, folder)
    written = []
    for number in range(seeds):
        one = _with_seed(recipe, first + number)
        there = _found(one, sets, folder)
        models = there or _train(one, sets, folder)
        done = "there already, " if there else ""
        print(f"{one.name}: {done}{models[0].quality}, training {number + 1} of {seeds}", flush=True)
        written += models
    return written


def _train(recipe: Recipe, sets: Sets, folder: Path) -> list[TrainedModel]:
    with quiet_advice(), _seeded(recipe.seed):
        network = _network(recipe, sets)
        _check(recipe, network, sets)
        fit(recipe, network, sets[0], folder)
        written = _save(recipe, network, recipe.name, None, sets, folder)
        trained = network.file_model.get_weights()
        for rounded in recipe.rounded:
            network.file_model.set_weights(_round_kernels(network, trained, rounded.bits))
            written += _save(recipe, network, rounded.name, rounded.bits, sets, folder)
    return written


def _network(recipe: Recipe, sets: Sets) -> Network:
    """What is to be trained: built, or from its file."""
    if recipe.start is None:
        return network_of(_build(recipe))
    network = load_network(recipe.start, code=recipe.code, ends=Ends(recipe.output))
    return network if check_shape(network, sets[0]) else network.sized(sets[0])


def _started(recipe: Recipe, sets: Sets) -> Recipe:
    """The recipe of a network that is there already, with what its file says."""
    network = _network(recipe, sets)
    if problems := check_shape(network, sets[0]):
        raise InputError(f"{recipe.name}: {problem}" for problem in problems)
    try:
        rescale = rescale_of(network, sets[0], recipe.rescale)
    except InputError as error:
        raise InputError(f"{recipe.name}: {problem}" for problem in error.problems) from None
    size = tuple(n or 0 for n in network.input_shape)
    return replace(recipe, input_shape=size, rescale=rescale or recipe.rescale)


def _with_seed(recipe: Recipe, seed: int) -> Recipe:
    return replace(
        recipe,
        seed=seed,
        name=f"{recipe.name}-seed{seed}",
        rounded=tuple(replace(item, name=f"{item.name}-seed{seed}") for item in recipe.rounded),
    )


def _found(recipe: Recipe, sets: Sets, folder: Path) -> list[TrainedModel]:
    """The files that this training would write, when all are there as the facts beside them say; else none."""
    found, training = [], (recipe_digest(recipe, sets[0].digest), recipe.seed)
    for name in (recipe.name, *(item.name for item in recipe.rounded)):
        card_path = folder / f"{name}.md"
        facts = read_facts(folder / f"{name}.json")
        if facts is None and card_path.is_file():
            print(f"{card_path}: no {name}.json beside it, as beside cards of 0.1.0: training again", flush=True)
        if facts is None or (facts["recipe"], facts["seed"]) != training or not card_path.is_file():
            return []
        if recipe.train is not None and facts.get("dataset_digest") != sets[1].digest:
            return []  # measured on another test set
        for suffix in recipe.formats:
            path = folder / f"{name}.{suffix}"
            if not path.is_file() or facts["files"].get(path.name) != (digest := file_digest(path)):
                return []
            quality = Quality(facts["n_images"], facts.get("n_correct"), facts.get("measures", {}))
            found.append(TrainedModel(path, digest, quality, card_path))
    return found


def _writable(folder: Path) -> Path:
    probe = folder / f".sweep-{os.getpid()}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: cannot write here ({folder.resolve()}): {reason(error)}") from error
    return folder


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Deterministic training inside; Python's and NumPy's own global generators are put back afterwards."""
    # Taken first, because Keras draws from Python's generator already while it is imported.
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    tensorflow, keras = import_tensorflow(), import_keras()
    tensorflow.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


def _build(recipe: Recipe) -> keras.Model:
    keras = import_keras()
    images = keras.Input(recipe.input_shape, name=INPUT)
    chain = keras.Sequential([images], name=recipe.name) if is_chain(recipe.layers) else None
    flow = {INPUT: images}
    for index, node in enumerate(nodes(recipe.layers)):
        try:
            layer = getattr(keras.layers, node.kind)(name=node.name, **node.arguments)
            if chain is not None:
                chain.add(layer)
                continue
            taken = [flow[name] for name in node.inputs]
            flow[node.name] = layer(taken if node.kind in MERGES else taken[0])
        except Exception as error:  # Keras raises whatever its many parts raise
            raise InputError(f"{recipe.name}: layer {index} ({node.kind}): {reason(error)}") from error
    if chain is not None:
        return chain
    *_, last = flow.values()
    return keras.Model(images, last, name=recipe.name)


def _check(recipe: Recipe, network: Network, sets: Sets) -> None:
    problems = []
    if loss_of(recipe, network) is None:
        problems.append("the last layer must end in softmax over the classes, or in sigmoid with one unit")
    if "h5" in recipe.formats and has_operations(network.file_model):
        problems.append('formats: Keras cannot read operations such as x + y from .h5; say formats = ["keras"]')
    problems += misfits(recipe, network, sets)
    if problems:
        raise InputError(f"{recipe.name}: {problem}" for problem in problems)


def _round_kernels(network: Network, weights: list[np.ndarray], bits: int) -> list[np.ndarray]:
    both = zip(weights, network.variables, strict=True)
    return [Levels(2.0**-bits).round(value) if variable.kernel else value for value, variable in both]


def _save(
    recipe: Recipe, network: Network, name: str, bits: int | None, sets: Sets, folder: Path
) -> list[TrainedModel]:
    quality = quality_of(recipe, network, sets[1])
    card_path = folder / f"{name}.md"
    written = []
    for suffix in recipe.formats:
        path = folder / f"{name}.{suffix}"
        with _replacing(path) as partial:
            _write(recipe, network, partial)
        written.append(TrainedModel(path, file_digest(path), quality, card_path))
    digests = {item.path.name: item.digest for item in written}
    facts = facts_of(recipe, network, name, bits, digests, quality, sets)
    # What `_found` reads comes last.
    for path, text in ((card_path, card(facts)), (folder / f"{name}.json", json_of(facts))):
        with _replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    return written


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` once all is written."""
    partial = path.with_name(f".{path.stem}-{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write(recipe: Recipe, network: Network, path: Path) -> None:
    """Writes the model compiled and ready to train on, with a new optimizer: the old one's state is large.

    Only the network itself where the loss is of a form that its file does not have, as with several inputs.
    """
    model = network.file_model
    if network.several is not None:
        model.save(path)
        return
    compile_model(recipe, network)
    if path.suffix == ".keras":
        # Loading builds the optimizer, and then refuses the file if the saved one was not.
        model.optimizer.build(model.trainable_variables)
    model.save(path)
    if path.suffix == ".h5":
        # With any optimizer state in an .h5 file, Keras 3 loads a Sequential that cannot train on.
        with h5py.File(path, "r+") as file:
            del file["optimizer_weights"]
