"""The data of a recipe: read, checked against its network, and made into what the network takes and is to put out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sweep.data import positions
from sweep.data.datasets import Dataset, are_the_same, fits, load_dataset, prepare_images
from sweep.data.formats.stored import Wanted
from sweep.errors import InputError
from sweep.networks.feeding import DONE, feed
from sweep.networks.loading import Network, check_shape
from sweep.training.recipes import DEFAULT_RESCALE, IMAGES, LABELS, VALUES, Recipe

Sets = tuple[Dataset, Dataset]
"""A training set and a test set."""


def load_sets(recipe: Recipe) -> Sets:
    """The training set, of the classes that are trained on, and the test set.

    Raises:
        InputError: the data cannot be read, or have no image of a class that is named.
    """
    place = recipe.dataset if recipe.train is None else recipe.train
    split = "train" if recipe.train is None else "calibration"
    needed = recipe.target != IMAGES or bool(recipe.train_classes)
    wanted = Wanted(split, recipe.x, recipe.y, labelled=needed)
    train_set = load_dataset(place, wanted, recipe.labels if needed else None)
    test_set = load_dataset(recipe.dataset, replace(wanted, split="test", labelled=True), recipe.labels)
    if recipe.train is not None and are_the_same(train_set, test_set):
        raise InputError(f"{recipe.name}: train: {place}: what is read there are the images of the test set")
    if recipe.train_classes:
        train_set = _only(train_set, recipe, place)
    return train_set, test_set


def _only(train_set: Dataset, recipe: Recipe, place: Path) -> Dataset:
    """The images of the classes that the recipe trains on."""
    if missing := sorted(set(recipe.train_classes) - set(train_set.labels.tolist())):
        numbers = ", ".join(map(str, missing))
        raise InputError(f"{recipe.name}: train_classes: no training image in {place} has label {numbers}")
    kept = np.isin(train_set.labels, recipe.train_classes)
    return replace(train_set, images=train_set.images[kept], labels=train_set.labels[kept], targets=None)


def misfits(recipe: Recipe, network: Network, sets: Sets) -> Iterator[str]:
    """Why the network cannot be trained and tested on these, in words."""
    outputs = network.outputs
    places = (recipe.dataset if recipe.train is None else recipe.train, recipe.dataset)
    if sets[0].classes and sets[0].classes != sets[1].classes:
        yield "labels: are missing: training and test set have other labels; say which is class 0, 1, …"
    values = math.prod(n or 0 for n in network.input_shape)
    if recipe.target == IMAGES and outputs != values:
        yield f"the last layer has {outputs} outputs, and an image {values} values"
    for split, place, dataset in zip(("train", "test"), places, sets, strict=True):
        if recipe.start is not None:
            yield from (f"x_{split} in {place}: {problem}" for problem in check_shape(network, dataset))
        elif not fits(dataset.images.shape, recipe.input_shape):
            yield f"input_shape is {recipe.input_shape}, but x_{split} in {place} has {dataset.images.shape[1:]}"
        elif recipe.rescale is None and dataset.images.dtype.kind != "f" and dataset.images.dtype != np.uint8:
            choices = ", ".join(f'"{name}" {done}' for name, done in DONE.items())
            yield f"rescale: is missing: say how {dataset.images.dtype} images in {place} reach the network: {choices}"
        if recipe.target != LABELS or network.positions:
            yield from (f"y_{split} in {place}: {problem}" for problem in _wrong_targets(recipe, network, dataset))
            continue
        highest = max(outputs - 1, 1)
        if not len(dataset.labels):
            yield f"y_{split} in {place} holds no class labels; a network is trained on classes, or on its images"
        elif dataset.labels.max() > highest:
            yield f"y_{split} in {place} has label {dataset.labels.max()}; the outputs allow 0 to {highest}"


def _wrong_targets(recipe: Recipe, network: Network, dataset: Dataset) -> Iterator[str]:
    if recipe.target == IMAGES:
        return
    if recipe.target == VALUES:
        have = values_of(dataset).shape[1] if len(dataset.labels) or dataset.targets is not None else 0
        if have != network.outputs:
            yield f"holds {have or 'no'} values for each image, and the network has {network.outputs} outputs"
        return
    size = 0 if dataset.targets is None else math.prod(dataset.targets.shape[1:])
    if dataset.targets is None or size not in (network.positions, network.outputs):
        yield f"holds {size or 'no'} labels for the {network.positions:,} positions of an image"
    elif wrong := positions.problem_of(dataset.targets, network.positions, network.outputs // network.positions):
        yield wrong


def inputs_of(recipe: Recipe, network: Network, dataset: Dataset) -> npt.NDArray[np.float32]:
    """Images (n, ...) as the network takes them."""
    if recipe.start is not None:
        return feed(network, dataset, recipe.rescale)
    return prepare_images(dataset.images, recipe.input_shape, recipe.rescale or DEFAULT_RESCALE)


def targets_of(recipe: Recipe, network: Network, dataset: Dataset) -> np.ndarray:
    """What the network is to put out.

    The images themselves or other values, (n, outputs); labels of positions, (n, positions), negative where one does
    not count; (n, 1) labels for a single output, or one-hot rows.
    """
    outputs = network.outputs
    if recipe.target == IMAGES:
        return inputs_of(recipe, network, dataset).reshape(len(dataset), outputs)
    if recipe.target == VALUES:
        return values_of(dataset)
    if network.positions:
        assert dataset.targets is not None
        return positions.labels_of(dataset.targets.reshape(len(dataset), -1), outputs, outputs // network.positions)
    if outputs == 1:
        return dataset.labels[:, None]
    rows: np.ndarray = np.eye(outputs, dtype=np.float32)[dataset.labels]
    return rows


def values_of(dataset: Dataset) -> npt.NDArray[np.float32]:
    """What belongs to each image as numbers, (n, values); whole ones, (n,), are labels elsewhere."""
    values = dataset.labels if dataset.targets is None else dataset.targets
    return np.asarray(values, np.float32).reshape(len(dataset), -1)


def fed(recipe: Recipe, dataset: Dataset) -> str:
    """What becomes of the images, in words."""
    if dataset.images.dtype.kind == "f":
        return "floating images as stored"
    return f"{dataset.images.dtype} images are {DONE[recipe.rescale or DEFAULT_RESCALE]}"
