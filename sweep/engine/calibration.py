"""What the clean network's activations look like, on images that are not the test set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sweep.engine import tf_ops
from sweep.engine.flow import Site
from sweep.engine.graph import Graph
from sweep.engine.ways import images_per_step, steps
from sweep.networks.datasets import Dataset, prepare_images
from sweep.networks.loading import Network
from sweep.perturb.base import Array

IMAGES = 1000  # the first of the training images


def observe(network: Network, training: Dataset | None, sites: Sequence[Site]) -> list[Array | None]:
    """What the clean network hands to each site, for the first images of the training set: (images, ...) float32.

    None for every site without a training set. Raises Unsupported when the network's data flow is not known, or a
    site is not part of it.
    """
    graph = Graph(network.model, range(len(network.model.weights)), sites)
    if training is None:
        return [None] * len(sites)
    images = prepare_images(training.images[:IMAGES], network.input_shape)
    taps = tf_ops.compile_function(graph.taps)
    parts = [taps(tf_ops.constant(step)) for step in steps(images, images_per_step(graph))]
    return [np.concatenate([np.asarray(part) for part in tensor]) for tensor in zip(*parts, strict=True)]
