"""The data of a recipe: read, checked against its network, and made into what the network takes and is to put out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sweep.data.datasets import Dataset, fits, load_dataset, prepare_images
from sweep.data.formats.stored import Wanted
from sweep.errors import InputError
from sweep.networks.feeding import DONE
from sweep.training.recipes import DEFAULT_RESCALE, IMAGES, Recipe

if TYPE_CHECKING:
    import keras

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


def misfits(recipe: Recipe, model: keras.Model, sets: Sets) -> Iterator[str]:
    """Why the network cannot be trained and tested on these, in words."""
    outputs = model.output_shape[-1]
    places = (recipe.dataset if recipe.train is None else recipe.train, recipe.dataset)
    if sets[0].classes and sets[0].classes != sets[1].classes:
        yield "labels: are missing: training and test set have other labels; say which is class 0, 1, …"
    if recipe.target == IMAGES and outputs != math.prod(recipe.input_shape):
        yield f"the last layer has {outputs} outputs, and an image {math.prod(recipe.input_shape)} values"
    for split, place, dataset in zip(("train", "test"), places, sets, strict=True):
        if not fits(dataset.images.shape, recipe.input_shape):
            yield f"input_shape is {recipe.input_shape}, but x_{split} in {place} has {dataset.images.shape[1:]}"
        if recipe.rescale is None and dataset.images.dtype.kind != "f" and dataset.images.dtype != np.uint8:
            choices = ", ".join(f'"{name}" {done}' for name, done in DONE.items())
            yield f"rescale: is missing: say how {dataset.images.dtype} images in {place} reach the network: {choices}"
        if recipe.target == IMAGES:
            continue
        highest = max(outputs - 1, 1)
        if not len(dataset.labels):
            yield f"y_{split} in {place} holds no class labels; a network is trained on classes, or on its images"
        elif dataset.labels.max() > highest:
            yield f"y_{split} in {place} has label {dataset.labels.max()}; the outputs allow 0 to {highest}"


def inputs_of(recipe: Recipe, dataset: Dataset) -> npt.NDArray[np.float32]:
    """Images (n, ...) as the network takes them."""
    return prepare_images(dataset.images, recipe.input_shape, recipe.rescale or DEFAULT_RESCALE)


def targets_of(recipe: Recipe, dataset: Dataset, outputs: int) -> np.ndarray:
    """What the network is to put out: the images themselves, (n, 1) labels for a single output, or one-hot rows."""
    if recipe.target == IMAGES:
        return inputs_of(recipe, dataset).reshape(len(dataset), outputs)
    if outputs == 1:
        return dataset.labels[:, None]
    rows: np.ndarray = np.eye(outputs, dtype=np.float32)[dataset.labels]
    return rows


def fed(recipe: Recipe, dataset: Dataset) -> str:
    """What becomes of the images, in words."""
    if dataset.images.dtype.kind == "f":
        return "floating images as stored"
    return f"{dataset.images.dtype} images are {DONE[recipe.rescale or DEFAULT_RESCALE]}"
