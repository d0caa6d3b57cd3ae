"""Whether a network can be evaluated at all: the same scores for an image each time, whatever else is in its batch.

`keras.Model.predict` is the reference; no graph of our own takes part in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import ops

from sweep.engine import near_ties
from sweep.engine.budget import PIECE_BYTES
from sweep.engine.graph import Graph
from sweep.engine.tensors import compile_function
from sweep.files import reason
from sweep.networks.feeding import Fed
from sweep.networks.loading import Network
from sweep.perturb.base import Array

IMAGES = 64  # of the test set
BATCH = 32  # images a step in `predict`, its own default: the last digit of a score depends on it
SHIFT = 13  # images by which batches are cut elsewhere: each image has other neighbours and another place
FEW = 5  # images of the smaller of two batches of other sizes


def predict(network: Network, images: Array | Fed, weights: Sequence[Array] | None = None) -> Array:
    """Scores (n, outputs) by `keras.Model.predict`, with these values of `model.weights` or with its own."""
    model = network.model
    if weights is None:
        size = max(1, PIECE_BYTES // images[:1].nbytes // BATCH) * BATCH  # Keras copies what it is given
        parts = (images[first : first + size] for first in range(0, len(images), size))
        return np.concatenate([np.asarray(model.predict(part, batch_size=BATCH, verbose=0)) for part in parts])
    clean = model.get_weights()
    try:
        model.set_weights(list(weights))
        return predict(network, images)
    finally:
        model.set_weights(clean)


def inference_problem(network: Network, images: Array) -> str | None:
    """Why a network's accuracy would not be a figure of its own, in one line; None when it is.

    Keras compiles `predict` anew for every size of a batch, which takes a deep network longer than the images do. So
    batches of one size are cut elsewhere, and of other sizes two are compared, uncompiled.

    Args:
        network: as loaded.
        images: (n, ...) as it takes them; some of them are tried.
    """
    few = images[:IMAGES]
    try:
        scores = predict(network, few)
    except Exception as error:  # Keras raises whatever its many parts raise
        return f"keras.Model.predict fails on these images: {reason(error)}"
    if len(network.model.weights) != len(network.variables):
        return (
            "it makes some of its weights when it is first called, such as those of an activation that is a layer; "
            "call it once on images before it is saved"
        )
    softmax = near_ties.is_softmax(scores)
    if not _same(predict(network, few), scores, softmax):
        return (
            "it gives other scores when it sees the same images again: something in it is random at inference, or "
            "keeps state from one batch to the next"
        )
    shifted = _same(predict(network, np.roll(few, SHIFT, 0)), np.roll(scores, SHIFT, 0), softmax)
    larger, smaller = (np.asarray(network.model(few[:size], training=False)) for size in (2 * FEW, FEW))
    if not shifted or not _same(smaller, larger[:FEW], softmax):
        return "its scores for an image depend on the other images in the batch"
    return None


def flow_problem(network: Network, graph: Graph, images: Array) -> str | None:
    """Why a network's data flow is not known, in one line: with everything passing, its graph is not `predict`."""
    few = images[:IMAGES]
    expected = predict(network, few)
    # Compiled, for half precision: TensorFlow rounds otherwise where it takes one operation after the other.
    run = compile_function(graph.run)
    passing = np.asarray(run(ops.convert_to_tensor(few), network.model.get_weights()))
    if _same(passing, expected, near_ties.is_softmax(expected)):
        return None
    return "layer by layer, it gives other scores than keras.Model.predict"


def _same(scores: Array, expected: Array, softmax: bool) -> bool:
    return near_ties.difference(scores, expected, softmax) <= near_ties.LARGEST_ERROR
