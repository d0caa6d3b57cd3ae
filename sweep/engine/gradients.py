"""Gradients of a network's margins with respect to its weights, from which controls of a chip's draw are made.

In float64, so that what is kept of them, eleven bits, is the same with any number of threads and on any processor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from sweep.engine import tensors
from sweep.engine.backends import stateless
from sweep.engine.last_layer import Split, split
from sweep.engine.steps import Tensor
from sweep.networks.feeding import Fed
from sweep.networks.loading import Network
from sweep.perturb.base import Array
from sweep.statistics.controls import MOST_WEIGHTS
from sweep.statistics.estimates import Floats

Half = npt.NDArray[np.float16]

PAIRS = 90  # of classes, at most: all of 10
OF_CLASS, OF_ALL = 50, 10_000  # images, at most
_FEW = 8  # on which networks are held against each other


def margin_gradients(network: Network, images: Fed, labels: npt.NDArray[np.int64]) -> Half:
    """How the mean margin of one class against another goes with the weights before the last layer.

    Args:
        network: with its clean weights.
        images: (n, ...) as it takes them.
        labels: (n,).

    Returns:
        (P, F) of each pair of classes, over up to 50 images of the first, for the weights of `Split.before`, one after
        the other; in units of the largest of each. Of many pairs those most often confused, by the network's softmax. A
        pair without a gradient of finite numbers has none, nor has a network that is not cut before its last layer or
        has more than `MOST_WEIGHTS` before it.
    """
    cut, weights = split(network), network.model.get_weights()
    if cut is None or sum(weights[number].size for number in cut.numbers) > MOST_WEIGHTS:
        return np.zeros((0, 0), np.float16)
    kernel = weights[cut.kernel]
    classes = max(2, kernel.shape[1])
    few = max(1, min(OF_CLASS, OF_ALL // classes))
    chosen = {c: np.flatnonzero(labels == c)[:few] for c in range(classes)}
    chosen = {c: numbers for c, numbers in chosen.items() if len(numbers)}
    with tensors.in_double():
        found = _gradients(cut, weights, images, chosen, few)
    table = np.array(found).reshape(len(found), -1)
    table = table[np.isfinite(table).all(axis=1) & table.any(axis=1)]
    return np.asarray(table / np.abs(table).max(axis=1, keepdims=True, initial=0), np.float16)


def _gradients(
    cut: Split, weights: Sequence[Array], images: Fed, chosen: dict[int, npt.NDArray[np.int64]], few: int
) -> list[Floats]:
    kernel, model = weights[cut.kernel], _in_double(cut.before.model, images[np.arange(_FEW)])
    own = zip(cut.numbers, model.weights, strict=True)
    values = [ops.convert_to_tensor(weights[number], variable.dtype) for number, variable in own]
    forward = stateless(model)

    def mean(values: Sequence[Tensor], some: Tensor, shares: Tensor, towards: Tensor) -> Tensor:
        features = forward(some, values)
        return ops.sum(ops.matmul(ops.cast(features, "float64"), towards)[:, 0] * shares)

    gradient = tensors.compile_gradient(mean)
    found = []
    for one, other in _pairs(model, kernel, images, chosen):
        numbers = chosen[one]
        padded = np.resize(numbers, few)  # so that one shape is compiled
        shares = (np.arange(few) < len(numbers)) / len(numbers)
        towards = _towards(kernel, one, other)[:, None].astype(np.float64)
        parts = gradient(values, *map(ops.convert_to_tensor, (images[padded], shares, towards)))
        found.append(np.concatenate([np.asarray(part, np.float64).ravel() for part in parts]))
    return found


def _in_double(model: keras.Model, images: Array) -> keras.Model:
    """The same network in float64; itself where it cannot be made so, or does not give the same."""

    def double(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        return type(layer).from_config({**config, "dtype": "float64"} if "dtype" in config else config)

    with contextlib.suppress(Exception):  # whatever layers, and code of a user's own, make of it
        found = keras.models.clone_model(model, clone_function=double, recursive=True)
        found.set_weights(model.get_weights())
        same, made = (np.asarray(one(images, training=False)) for one in (model, found))
        if made.dtype == np.float64 and np.allclose(made, same, rtol=1e-3, atol=1e-3 * np.abs(same).max()):
            return found
    return model


def _towards(kernel: Array, own: int, other: int) -> Array:
    """(F,) how features make the margin of one class against another."""
    if kernel.shape[1] == 1:  # the logit of class 1
        return kernel[:, 0] * np.float32(1 if own else -1)
    return np.asarray(kernel[:, own] - kernel[:, other])


def _pairs(
    model: keras.Model, kernel: Array, images: Fed, chosen: dict[int, npt.NDArray[np.int64]]
) -> list[tuple[int, int]]:
    """Classes that have images, each with one that it could be taken for."""
    classes = range(max(2, kernel.shape[1]))
    every = [(own, other) for own in chosen for other in classes if own != other]
    if len(every) <= PAIRS:
        return every
    taken = np.zeros((len(classes), len(classes)))
    for own, numbers in chosen.items():
        logits = model.predict(images[numbers], verbose=0).astype(np.float64) @ kernel
        likely = np.exp(logits - logits.max(axis=1, keepdims=True))
        taken[own] = (likely / likely.sum(axis=1, keepdims=True)).mean(axis=0)
    ranked = sorted(every, key=lambda pair: -taken[pair])
    return sorted(ranked[:PAIRS])
